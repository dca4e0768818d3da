"""Rewards made of rewards, and the check that a reward keeps its promise."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Real
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from zhenlong.errors import UserError
from zhenlong.rewards.answer import Answer, Reward

UNSAFE: Final = 0.15  # Llama 2's threshold of the safety score


def weighted(parts: Sequence[tuple[float, Reward]]) -> Reward:
    """Σ weight · reward. For rewards that can be traded against each other; a condition is `gated` instead."""

    def reward(answers: Sequence[Answer]) -> list[float]:
        columns = [(weight, part(answers)) for weight, part in parts]
        return [sum(weight * values[i] for weight, values in columns) for i in range(len(answers))]

    return reward


def product(parts: Sequence[Reward]) -> Reward:
    """Π reward. For shares from 0 to 1 of which each has to hold; two negative factors would make a good answer."""

    def reward(answers: Sequence[Answer]) -> list[float]:
        return [float(value) for value in _columns(parts, answers).prod(0)]

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


def mean(parts: Sequence[Reward]) -> Reward:
    """The mean of an ensemble's members."""
    return mean_minus_std(parts, 0.0)


def minimum(parts: Sequence[Reward]) -> Reward:
    """The worst that a member of an ensemble says: the worst-case optimisation of Coste et al. (2023)."""

    def reward(answers: Sequence[Answer]) -> list[float]:
        return [float(value) for value in _columns(parts, answers).min(0)]

    return reward


def mean_minus_std(parts: Sequence[Reward], k: float = 1.0) -> Reward:
    """The members' mean less `k` times their standard deviation (divided by K): what they are unsure of counts less.

    The aggregate "mean minus std" of Eisenstein et al. (2023); Coste et al. (2023) take the variance in its place.
    """

    def reward(answers: Sequence[Answer]) -> list[float]:
        columns = _columns(parts, answers)
        return [float(value) for value in columns.mean(0) - k * columns.std(0)]

    return reward


def llama2(helpful: Reward, safe: Reward, unsafe_prompt: Reward | None = None, threshold: float = UNSAFE) -> Reward:
    """The safety score where the prompt is unsafe (at least one half) or safety is in doubt, else the helpful one.

    Both are logits. Safety is in doubt where σ(safe) < `threshold`. Llama 2 picks one of two probabilities and takes
    its logit (Touvron et al. 2023, §3.2.2), which is to pick one of two logits; `whiten` comes after it.
    """
    if not 0 < threshold < 1:
        raise UserError(f"llama2: expected a threshold between 0 and 1, a probability of being safe, got {threshold:g}")
    bound = math.log(threshold / (1 - threshold))

    def reward(answers: Sequence[Answer]) -> list[float]:
        safety, help_ = safe(answers), helpful(answers)
        asked = unsafe_prompt(answers) if unsafe_prompt else [0.0] * len(answers)
        rows = zip(safety, help_, asked, strict=True)
        return [s if unsafe >= 0.5 or s < bound else h for s, h, unsafe in rows]

    return reward


def whiten(part: Reward) -> Reward:
    """Shifted and scaled to mean 0 and variance 1 over the answers of one call, as a rule those of a rollout.

    All 0 where they are equal. Differences of answers keep their sign, and no number means anything outside its call.
    """

    def reward(answers: Sequence[Answer]) -> list[float]:
        values = np.asarray(part(answers), dtype=np.float64)
        spread = float(values.std()) if len(values) else 0.0
        return [float(value) for value in (values - values.mean()) / spread] if spread else [0.0] * len(values)

    return reward


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


def _columns(parts: Sequence[Reward], answers: Sequence[Answer]) -> NDArray[np.float64]:
    """What each part says of each answer, [parts, answers]."""
    return np.asarray([part(answers) for part in parts], dtype=np.float64)
