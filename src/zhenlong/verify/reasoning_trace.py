"""Removal of the reasoning trace, which is not part of the answer and is never graded."""

from __future__ import annotations

from typing import Final

THINK_START: Final = "<think>"
THINK_END: Final = "</think>"


def strip_reasoning(text: str) -> str:
    """The text after the last `</think>`; the whole text if there is no trace.

    Some chat templates insert the opening tag, so a closing tag without an opening one ends a trace too. A trace that
    is never closed ran into the token limit: there is no answer, and the result is empty.
    """
    if THINK_END in text:
        text = text.rsplit(THINK_END, 1)[1].lstrip()
    before, opened, _ = text.partition(THINK_START)
    return before.rstrip() if opened else text
