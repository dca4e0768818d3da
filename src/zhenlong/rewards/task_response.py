"""The input and the type of a reward function."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from zhenlong.errors import UserError
from zhenlong.records import Task
from zhenlong.verify.answer_text import strip_reasoning


@dataclass(frozen=True)
class TaskResponse:
    """A response to a task's prompt; `truncated` if it reached the token limit.

    `num_tokens` counts the tokens sampled by the policy, end-of-turn token included; None if unknown. `token_ids` are
    these tokens.
    """

    task: Task
    text: str
    truncated: bool = False
    num_tokens: int | None = None
    token_ids: Sequence[int] = ()

    @property
    def answer(self) -> str:
        """The text without its reasoning trace; empty if the trace is never closed."""
        return strip_reasoning(self.text)


class RewardFailed(UserError):
    """A reward's own function raised something: on these responses, or on all."""


RewardFn = Callable[[Sequence[TaskResponse]], list[float]]
"""One finite number per response, in order. It must not depend on the rest of the batch; only `whitened_reward`
does.
"""
