"""Examples longer than the model's context: an error by default; truncated or dropped on request, and counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from zhenlong.data.chat_templates import TokenizedExample
from zhenlong.errors import UserError

Overlong = Literal["error", "truncate", "drop"]


@dataclass(frozen=True)
class LengthLimit:
    """The most tokens of an example, and what is done with a longer one."""

    max_length: int
    overlong: Overlong = "error"


@dataclass(frozen=True)
class FittedExamples:
    """The examples that fit, their original indices, and how many were truncated or dropped."""

    examples: list[TokenizedExample]
    indices: list[int]
    truncated: int = 0
    dropped: int = 0


def enforce_max_length(
    examples: Sequence[TokenizedExample], limit: LengthLimit, name: str = "sample"
) -> FittedExamples:
    """Examples of at most `limit.max_length` tokens.

    A longer one raises `UserError`, is truncated at its end (`truncate`) or dropped (`drop`); one without scored tokens
    after truncation is dropped too. `name` names an example in the error, with its number from 1.
    """
    max_length, overlong = limit.max_length, limit.overlong
    fitted: list[TokenizedExample] = []
    indices: list[int] = []
    truncated = 0
    for index, (ids, loss_mask) in enumerate(examples):
        if len(ids) > max_length:
            if overlong == "error":
                raise UserError(
                    f"{name} {index + 1}: {len(ids)} tokens, more than the maximum of {max_length}; raise it, or "
                    "choose to truncate or drop what is too long"
                )
            if overlong == "drop" or not any(loss_mask[:max_length]):
                continue
            truncated += 1
        fitted.append((ids[:max_length], loss_mask[:max_length]))
        indices.append(index)
    return FittedExamples(fitted, indices, truncated, len(examples) - len(indices))


def require_prompt_fits(
    prompt_ids: Sequence[int], context_length: int, name: str, min_response_tokens: int = 1
) -> None:
    """Raise `UserError` unless the prompt leaves `min_response_tokens` of the context for a response."""
    if len(prompt_ids) + min_response_tokens > context_length:
        raise UserError(
            f"{name}: the prompt has {len(prompt_ids)} tokens, which leaves no room for {min_response_tokens} "
            f"more in the context of {context_length}; shorten it, remove it, or use a model with a longer context"
        )
