"""Rewards that abstain: a function may return None for a response that it has no opinion on.

Between a component and the whole reward an abstention is NaN. A combination leaves it out: a sum, product, mean or
minimum is that of the other parts, and abstains where all parts do. A gate whose condition abstains is closed.
"""

from __future__ import annotations

import math
import warnings
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from zhenlong.rewards.task_response import RewardFn, TaskResponse

ABSTAINED: Final = math.nan


def is_abstention(value: float) -> bool:
    """Whether a component abstained; only NaN is unequal to itself, whatever its type."""
    return value != value


def without_abstentions(combine: Callable[[list[float]], float], values: Sequence[float]) -> float:
    """The combination of those values that are no abstentions; an abstention where all are."""
    opinions = [value for value in values if not is_abstention(value)]
    return combine(opinions) if opinions else ABSTAINED


def neutral_abstentions(reward_fn: RewardFn) -> RewardFn:
    """The reward, with the mean of the other responses to the same prompt where all of its parts abstain.

    So an abstention leaves a prompt's mean reward as it is and has no advantage over it. Where a prompt has no other
    reward, the mean of the call is taken, and 0 where there is none at all.
    """

    def reward(responses: Sequence[TaskResponse]) -> list[float]:
        values = reward_fn(responses)
        if not any(is_abstention(value) for value in values):
            return values
        by_prompt: dict[int, list[float]] = defaultdict(list)
        for response, value in zip(responses, values, strict=True):
            if not is_abstention(value):
                by_prompt[id(response.task)].append(value)
        known = [value for value in values if not is_abstention(value)]
        if not known:
            warnings.warn(f"reward: all parts abstain for all of {len(values)} responses", stacklevel=2)
        overall = float(np.mean(known)) if known else 0.0
        means = {task: float(np.mean(found)) for task, found in by_prompt.items()}
        return [
            means.get(id(response.task), overall) if is_abstention(value) else value
            for response, value in zip(responses, values, strict=True)
        ]

    return reward
