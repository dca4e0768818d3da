"""What does not fit the model's context: an error, unless cutting or dropping is chosen, and then it is counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from zhenlong.data.templates import Sample
from zhenlong.errors import UserError

Overlong = Literal["error", "truncate", "drop"]


@dataclass(frozen=True)
class Fitted:
    """The samples that fit, the indices they had, and how many were cut or left out."""

    samples: list[Sample]
    kept: list[int]
    truncated: int = 0
    dropped: int = 0


def fit_length(
    samples: Sequence[Sample], max_length: int, overlong: Overlong = "error", what: str = "sample"
) -> Fitted:
    """Samples of at most `max_length` tokens.

    A longer one is a `UserError`, is cut at its end (`truncate`) or is left out (`drop`); one that would keep no scored
    token when cut is left out too. `what` names a sample in the error, with its number from 1.
    """
    fitted: list[Sample] = []
    kept: list[int] = []
    truncated = 0
    for index, (ids, scored) in enumerate(samples):
        if len(ids) > max_length:
            if overlong == "error":
                raise UserError(
                    f"{what} {index + 1}: {len(ids)} tokens, more than the maximum of {max_length}; raise it, or "
                    "choose to truncate or drop what is too long"
                )
            if overlong == "drop" or not any(scored[:max_length]):
                continue
            truncated += 1
        fitted.append((ids[:max_length], scored[:max_length]))
        kept.append(index)
    return Fitted(fitted, kept, truncated, len(samples) - len(kept))


def require_prompt_fits(prompt_ids: Sequence[int], context: int, what: str, room: int = 1) -> None:
    """Raise `UserError` unless the prompt leaves `room` tokens of the context for a response; `what` names it."""
    if len(prompt_ids) + room > context:
        raise UserError(
            f"{what}: the prompt has {len(prompt_ids)} tokens, which leaves no room for {room} more in the context of "
            f"{context}; shorten it, leave it out, or use a model with a longer context"
        )
