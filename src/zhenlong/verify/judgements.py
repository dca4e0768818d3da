"""What does a judge's answer say? A rating or a winner in double brackets; None where it says neither."""

from __future__ import annotations

import re
from typing import Final

from zhenlong.verify.thinking import without_thinking

RATING: Final = (re.compile(r"\[\[(\d+\.?\d*)\]\]"), re.compile(r"\[(\d+\.?\d*)\]"))


def rating(text: str, lowest: float = 1, highest: float = 10) -> float | None:
    """The first `[[x]]`, else the first `[x]` (lm-sys/FastChat:fastchat/llm_judge/common.py).

    A number outside the scale is none: upstream would average it in.
    """
    said = without_thinking(text)
    for pattern in RATING:
        if found := pattern.search(said):
            value = float(found[1])
            return value if lowest <= value <= highest else None
    return None


def winner(text: str) -> str | None:
    """`A`, `B` or `C` (a tie): the first of `[[A]]`, `[[B]]`, `[[C]]` that occurs, in this order (FastChat)."""
    said = without_thinking(text)
    return next((letter for letter in "ABC" if f"[[{letter}]]" in said), None)
