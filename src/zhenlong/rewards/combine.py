"""Rewards made of rewards, and the check that a reward keeps its promise."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Real
from typing import Any

from zhenlong.errors import UserError
from zhenlong.rewards.answer import Answer, Reward


def weighted(parts: Sequence[tuple[float, Reward]]) -> Reward:
    """Σ weight · reward. For rewards that can be traded against each other; a condition is `gated` instead."""

    def reward(answers: Sequence[Answer]) -> list[float]:
        columns = [(weight, part(answers)) for weight, part in parts]
        return [sum(weight * values[i] for weight, values in columns) for i in range(len(answers))]

    return reward


def gated(gate: Reward, reward: Reward, floor: float = 0.0) -> Reward:
    """`reward` where `gate` is at least one half, and `floor` where it is not; never below `floor`.

    Format and correctness as conditions: a bonus added for them is earned by padding an answer, and grows length
    (open-instruct, docs/algorithms/grpo.md). Because of the lower bound, failing the gate never pays. Give a `floor`
    below what the reward usually says, some -5 for a reward model, or answers beneath it are all the same.
    """

    def combined(answers: Sequence[Answer]) -> list[float]:
        passes = [value >= 0.5 for value in gate(answers)]
        inner = iter(reward([answer for answer, passed in zip(answers, passes, strict=True) if passed]))
        return [max(floor, next(inner)) if passed else floor for passed in passes]

    return combined


def checked(reward: Reward, name: str) -> Reward:
    """The reward with its result tested: one finite number for each answer, or UserError naming it and the answer.

    Tensors, arrays and any real numbers are taken; no answers are not asked about.
    """

    def tested(answers: Sequence[Answer]) -> list[float]:
        if not answers:
            return []
        returned: Any = reward(answers)
        values = returned.tolist() if hasattr(returned, "tolist") else returned
        if not isinstance(values, Sequence) or isinstance(values, str):
            raise UserError(f"reward {name}: expected a list of {len(answers)} numbers, got {type(values).__name__}")
        if len(values) != len(answers):
            raise UserError(f"reward {name}: expected {len(answers)} numbers, one an answer, got {len(values)}")
        for i, value in enumerate(values):
            if not isinstance(value, Real) or not math.isfinite(value):
                raise UserError(
                    f"reward {name}: expected a finite number for answer {i} ({answers[i].text[:60]!r}), got {value!r}"
                )
        return [float(value) for value in values]

    return tested
