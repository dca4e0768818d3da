"""What did it answer, after thinking? A reasoning trace is not the answer and is never graded as one."""

from __future__ import annotations

from typing import Final

OPENED: Final = "<think>"
CLOSED: Final = "</think>"


def without_thinking(text: str) -> str:
    """The text after the last `</think>`; all of it where nothing was thought.

    Some chat templates open the thought themselves, so a closing tag without an opening one ends a thought too. A
    thought that was opened and never closed ran into the token limit: there is no answer, and the result is empty.
    """
    if CLOSED in text:
        text = text.rsplit(CLOSED, 1)[1].lstrip()
    before, opened, _ = text.partition(OPENED)
    return before.rstrip() if opened else text
