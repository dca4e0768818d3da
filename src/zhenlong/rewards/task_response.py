"""What a reward looks at, and what a reward is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from zhenlong.records import Task


@dataclass(frozen=True)
class TaskResponse:
    """A response to a task's prompt; `truncated` when it was cut off before it ended by itself.

    `num_tokens` counts those that the policy sampled, the end of the turn included; None where nobody counted.
    """

    task: Task
    text: str
    truncated: bool = False
    num_tokens: int | None = None


RewardFn = Callable[[Sequence[TaskResponse]], list[float]]
"""One finite number for each response, in order. It must not depend on what else is in the batch: `whitened_reward`
alone does.
"""
