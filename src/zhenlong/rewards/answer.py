"""What a reward looks at, and what a reward is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from zhenlong.records import Task


@dataclass(frozen=True)
class Answer:
    """A response to a task's prompt; `truncated` when it was cut off before it ended by itself."""

    task: Task
    text: str
    truncated: bool = False


Reward = Callable[[Sequence[Answer]], list[float]]
"""One finite number for each answer, in order. An answer's number must not depend on what else is in the batch."""
