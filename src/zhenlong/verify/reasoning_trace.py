"""What did it answer, after thinking? A reasoning trace is not the answer and is never graded as one."""

from __future__ import annotations

from typing import Final

THINK_START: Final = "<think>"
THINK_END: Final = "</think>"


def strip_reasoning(text: str) -> str:
    """The text after the last `</think>`; all of it where nothing was thought.

    Some chat templates open the thought themselves, so a closing tag without an opening one ends a thought too. A
    thought that was opened and never closed ran into the token limit: there is no answer, and the result is empty.
    """
    if THINK_END in text:
        text = text.rsplit(THINK_END, 1)[1].lstrip()
    before, opened, _ = text.partition(THINK_START)
    return before.rstrip() if opened else text
