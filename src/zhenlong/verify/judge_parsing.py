"""Parsing of a judge's response: a rating or a winner in double brackets; None if there is none."""

from __future__ import annotations

import re
from typing import Final

from zhenlong.verify.reasoning_trace import strip_reasoning

RATING_PATTERNS: Final = (re.compile(r"\[\[(\d+\.?\d*)\]\]"), re.compile(r"\[(\d+\.?\d*)\]"))


def parse_rating(text: str, min_rating: float = 1, max_rating: float = 10) -> float | None:
    """The first `[[x]]`, else the first `[x]` (lm-sys/FastChat:fastchat/llm_judge/common.py).

    A number outside the scale counts as unparsed; upstream would include it in the average.
    """
    reply = strip_reasoning(text)
    for pattern in RATING_PATTERNS:
        if found := pattern.search(reply):
            value = float(found[1])
            return value if min_rating <= value <= max_rating else None
    return None


def parse_winner(text: str) -> str | None:
    """`A`, `B` or `C` (a tie): the first of `[[A]]`, `[[B]]`, `[[C]]` that occurs, in this order (FastChat)."""
    reply = strip_reasoning(text)
    return next((letter for letter in "ABC" if f"[[{letter}]]" in reply), None)
