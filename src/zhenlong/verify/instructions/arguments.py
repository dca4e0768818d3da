"""Arguments of instructions: the relations `at least` and `less than`, and texts that may be regular expressions."""

from __future__ import annotations

import re

from zhenlong.errors import UserError


def satisfies_relation(count: int, relation: str, threshold: float) -> bool:
    """Whether `count` is `at least` or `less than` the threshold. Raises UserError for another relation."""
    if relation == "at least":
        return count >= threshold
    if relation == "less than":
        return count < threshold
    raise UserError(f"instruction: relation {relation!r} is not known; expected 'at least' or 'less than'")


def to_pattern(text: str) -> str:
    """A text of IFEval as a regular expression, as the official code uses it; escaped if it is not a valid one."""
    try:
        re.compile(text)
    except (re.error, RecursionError, OverflowError):
        return re.escape(text)
    return text
