"""Components of a reward: the value of each named component for each response, for the metrics of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from zhenlong.rewards.abstention import is_abstention
from zhenlong.rewards.task_response import RewardFn, TaskResponse
from zhenlong.rewards.tolerant import tolerant_reward

ComponentValues = list[float | None]  # a component's value per response; None if a gate skipped it or it abstained


@dataclass(frozen=True)
class RewardBreakdown:
    """The rewards of responses, with the values of each named component."""

    rewards: list[float]
    components: Mapping[str, ComponentValues] = field(default_factory=dict)

    def component_means(self) -> dict[str, float]:
        """Each component's mean over the responses it was computed for, without components never computed."""
        known = {name: [value for value in column if value is not None] for name, column in self.components.items()}
        return {name: float(np.mean(values)) for name, values in known.items() if values}


class CompositeReward:
    """A reward that records the values of its named components: `breakdown` returns both, a call only the rewards.

    Create components with `component` and assign their combination to `reward_fn`.
    """

    def __init__(self) -> None:
        self.reward_fn: RewardFn = _unset_reward_fn
        self._recorded: dict[str, dict[int, float]] = {}

    def __call__(self, responses: Sequence[TaskResponse]) -> list[float]:
        return self.breakdown(responses).rewards

    def breakdown(self, responses: Sequence[TaskResponse]) -> RewardBreakdown:
        """The rewards with their components."""
        for recorded in self._recorded.values():
            recorded.clear()
        values = self.reward_fn(responses)
        return RewardBreakdown(
            values, {name: [said.get(id(one)) for one in responses] for name, said in self._recorded.items()}
        )

    def component(self, reward_fn: RewardFn, name: str) -> RewardFn:
        """The reward, whose values are recorded as the component `name`; see `tolerant_reward` for what fails.

        In calls with failures `name: failed` is the fraction of them, and `name: abstained` that of abstentions.
        """
        validated = tolerant_reward(reward_fn, name, lambda what, *values: self.record(f"{name}: {what}", *values))
        self._recorded.setdefault(name, {})

        def recording(responses: Sequence[TaskResponse]) -> list[float]:
            values = validated(responses)
            self.record(name, responses, values)
            return values

        return recording

    def record(self, name: str, responses: Sequence[TaskResponse], values: Sequence[float]) -> None:
        """Record values of the component `name` for these responses."""
        self._recorded.setdefault(name, {}).update(
            {id(one): value for one, value in zip(responses, values, strict=True) if not is_abstention(value)}
        )


def compute_rewards(reward_fn: RewardFn, responses: Sequence[TaskResponse]) -> RewardBreakdown:
    """The rewards of responses, with the components of a composite reward."""
    return (
        reward_fn.breakdown(responses)
        if isinstance(reward_fn, CompositeReward)
        else RewardBreakdown(reward_fn(responses))
    )


def _unset_reward_fn(responses: Sequence[TaskResponse]) -> list[float]:
    raise RuntimeError("CompositeReward.reward_fn is not set")
