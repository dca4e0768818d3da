"""Rewards that are rules: a task's own verifier, a pattern, and whether the answer came to an end."""

from __future__ import annotations

from collections.abc import Sequence

from zhenlong.rewards.answer import Answer, Reward
from zhenlong.verify import check_regex, verify


def verifier_reward() -> Reward:
    """How right each answer is, 0 to 1, by the verifier its task names. Raises UserError for a task that has none."""

    def reward(answers: Sequence[Answer]) -> list[float]:
        return [verify(answer.task, answer.text) for answer in answers]

    return reward


def regex_reward(pattern: str) -> Reward:
    """1 where `pattern` is found in the answer, else 0. Raises UserError for an invalid pattern."""
    check_regex("", "", pattern=pattern)

    def reward(answers: Sequence[Answer]) -> list[float]:
        return [check_regex(answer.text, "", pattern=pattern) for answer in answers]

    return reward


def truncated_reward() -> Reward:
    """1 for an answer that was cut off, else 0; with a negative weight, the price of not coming to an end."""

    def reward(answers: Sequence[Answer]) -> list[float]:
        return [float(answer.truncated) for answer in answers]

    return reward
