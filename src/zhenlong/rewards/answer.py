"""What a reward looks at, and what a reward is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from zhenlong.records import Task


@dataclass(frozen=True)
class Answer:
    """A response to a task's prompt; `truncated` when it was cut off before it ended by itself.

    `tokens` counts those that the policy sampled, the end of the turn included; None where nobody counted.
    """

    task: Task
    text: str
    truncated: bool = False
    tokens: int | None = None


Reward = Callable[[Sequence[Answer]], list[float]]
"""One finite number for each answer, in order. It must not depend on what else is in the batch: `whiten` alone does."""
