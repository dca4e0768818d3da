"""Combinations of rewards, and validation of a reward's values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Real
from typing import Any, Final

import numpy as np

from zhenlong.errors import UserError
from zhenlong.rewards.abstention import is_abstention, without_abstentions
from zhenlong.rewards.task_response import RewardFn, TaskResponse

SAFETY_THRESHOLD: Final = 0.15  # Llama 2's threshold for the safety score


def weighted_sum(terms: Sequence[tuple[float, RewardFn]]) -> RewardFn:
    """Σ weight · reward, for rewards that may be traded off; use `gated_reward` for a condition."""

    def reward(responses: Sequence[TaskResponse]) -> list[float]:
        columns = [(weight, part(responses)) for weight, part in terms]
        rows = [[weight * values[i] for weight, values in columns] for i in range(len(responses))]
        return [without_abstentions(sum, row) for row in rows]

    return reward


def product(reward_fns: Sequence[RewardFn]) -> RewardFn:
    """Π reward, for scores from 0 to 1 that all have to be high; two negative factors would give a positive reward."""

    def reward(responses: Sequence[TaskResponse]) -> list[float]:
        return [without_abstentions(math.prod, row) for row in _rows(reward_fns, responses)]

    return reward


def gated_reward(condition: RewardFn, reward_fn: RewardFn, floor: float = 0.0) -> RewardFn:
    """max(`reward_fn`, `floor`) if `condition` is at least one half, else `floor`.

    Use it for format and correctness: a bonus added for them can be earned by padding a response, which increases
    length (open-instruct, docs/algorithms/grpo.md). Because of the lower bound, failing the gate never pays. Choose a
    `floor` below the usual range of the reward, such as -5 for a reward model: lower rewards are indistinguishable.
    """

    def combined(responses: Sequence[TaskResponse]) -> list[float]:
        passes = [value >= 0.5 for value in condition(responses)]
        inner = iter(reward_fn([response for response, passed in zip(responses, passes, strict=True) if passed]))
        found = [next(inner) if passed else floor for passed in passes]
        return [value if is_abstention(value) else max(floor, value) for value in found]

    return combined


def mean_of_rewards(reward_fns: Sequence[RewardFn]) -> RewardFn:
    """The mean of an ensemble's members."""
    return mean_minus_std(reward_fns, 0.0)


def minimum(reward_fns: Sequence[RewardFn]) -> RewardFn:
    """The minimum over an ensemble's members: worst-case optimisation of Coste et al. (2023)."""

    def reward(responses: Sequence[TaskResponse]) -> list[float]:
        return [without_abstentions(min, row) for row in _rows(reward_fns, responses)]

    return reward


def mean_minus_std(reward_fns: Sequence[RewardFn], k: float = 1.0) -> RewardFn:
    """The members' mean minus `k` times their (population) standard deviation: penalises disagreement.

    The "mean minus std" aggregate of Eisenstein et al. (2023); Coste et al. (2023) use the variance instead.
    """

    def reward(responses: Sequence[TaskResponse]) -> list[float]:
        return [
            without_abstentions(lambda members: float(np.mean(members) - k * np.std(members)), row)
            for row in _rows(reward_fns, responses)
        ]

    return reward


def safety_gate(
    helpful: RewardFn, safe: RewardFn, unsafe_prompt: RewardFn | None = None, threshold: float = SAFETY_THRESHOLD
) -> RewardFn:
    """The safety score if the prompt is unsafe (at least one half) or σ(safe) < `threshold`, else the helpful one.

    Both scores are logits. Llama 2 selects one of two probabilities and takes its logit (Touvron et al. 2023, §3.2.2),
    which equals selecting one of two logits; apply `whitened_reward` to the result.
    """
    if not 0 < threshold < 1:
        raise UserError(
            f"safety_gate: expected a threshold between 0 and 1, a probability of being safe, got {threshold:g}"
        )
    logit_threshold = math.log(threshold / (1 - threshold))

    def reward(responses: Sequence[TaskResponse]) -> list[float]:
        safety_scores, helpful_scores = safe(responses), helpful(responses)
        unsafe_scores = unsafe_prompt(responses) if unsafe_prompt else [0.0] * len(responses)
        rows = zip(safety_scores, helpful_scores, unsafe_scores, strict=True)
        return [s if unsafe >= 0.5 or s < logit_threshold or is_abstention(h) else h for s, h, unsafe in rows]

    return reward


def whitened_reward(reward_fn: RewardFn) -> RewardFn:
    """Shifted and scaled to mean 0 and variance 1 over the responses of one call, usually one rollout batch.

    All 0 if the rewards are equal. Differences between responses keep their sign; values of different calls are not
    comparable.
    """

    def reward(responses: Sequence[TaskResponse]) -> list[float]:
        values = reward_fn(responses)
        known = np.asarray([value for value in values if not is_abstention(value)], dtype=np.float64)
        std = float(known.std()) if len(known) else 0.0
        if not std:
            return [value if is_abstention(value) else 0.0 for value in values]
        return [float((value - known.mean()) / std) for value in values]

    return reward


def validated_reward(reward_fn: RewardFn, name: str) -> RewardFn:
    """The reward with its result validated: one finite number per response, else UserError naming both.

    Accepts tensors, arrays and any real numbers; an empty batch is not passed on.
    """

    def validated(responses: Sequence[TaskResponse]) -> list[float]:
        if not responses:
            return []
        values = reward_values(reward_fn(responses), name, len(responses))
        for i, value in enumerate(values):
            if not isinstance(value, Real) or not math.isfinite(value):
                raise UserError(
                    f"reward {name}: expected a finite number for response {i} ({responses[i].text[:60]!r}), "
                    f"got {value!r}"
                )
        return [float(value) for value in values]

    return validated


def reward_values(returned: Any, name: str, count: int) -> Sequence[Any]:
    """What a reward returned, as a sequence of `count` values, else UserError."""
    values = returned.tolist() if hasattr(returned, "tolist") else returned
    if not isinstance(values, Sequence) or isinstance(values, str):
        raise UserError(f"reward {name}: expected a list of {count} numbers, got {type(values).__name__}")
    if len(values) != count:
        raise UserError(f"reward {name}: expected {count} numbers, one per response, got {len(values)}")
    return values


def _rows(reward_fns: Sequence[RewardFn], responses: Sequence[TaskResponse]) -> list[list[float]]:
    """The rewards of each response, one of each component."""
    columns = [part(responses) for part in reward_fns]
    return [[float(column[i]) for column in columns] for i in range(len(responses))]
