"""Which program does an answer hold? The reading that each benchmark's own scorer has of it.

| name | the program |
|---|---|
| `program` | the answer itself |
| `completion` | the prompt and the answer (openai/human-eval:human_eval/execution.py) |
| `chat` | the prompt, then the fenced block that defines the function; a body without its head completes the prompt |
| `last_block` | the lines between the last two that hold ``` (LiveCodeBench:lcb_runner/utils/extraction_utils.py) |
| `block` | the last fenced block where there is one, else the answer up to `[DONE]` (MBPP's prompt) |
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from zhenlong.errors import UserError

READINGS: Final = ("program", "completion", "chat", "last_block", "block")
STOPS: Final = ("\nclass", "\ndef", "\n#", "\nif", "\nprint")  # where a base model's completion is over (Codex paper)
_FENCE: Final = "```"
_BLOCK: Final = re.compile(r"^[ \t]*```[^\n`]*\n(.*?)(?:^[ \t]*```|\Z)", re.MULTILINE | re.DOTALL)


def program_of(
    answer: str, reading: str = "program", *, prompt: str = "", entry_point: str = "", stop: Sequence[str] = ()
) -> str:
    """The program to run. `stop` cuts a completion at the first of these texts; empty: as it was given."""
    if reading == "program":
        return answer
    if reading == "completion":
        return prompt + truncated(answer, stop)
    if reading == "chat":
        return _chat(answer, prompt, entry_point)
    if reading == "last_block":
        return last_block(answer)
    if reading == "block":
        blocks = _BLOCK.findall(answer)
        return blocks[-1] if blocks else answer.split("[DONE]")[0].removeprefix("[BEGIN]")
    raise UserError(f"code: reading {reading!r} is not known; expected one of {', '.join(READINGS)}")


def truncated(text: str, stop: Sequence[str] = STOPS) -> str:
    """The text up to the first of the stops."""
    return text[: min((found for one in stop if (found := text.find(one)) >= 0), default=len(text))]


def last_block(answer: str) -> str:
    """The lines between the last two that hold a fence; empty where there are fewer than two."""
    lines = answer.split("\n")
    fences = [number for number, line in enumerate(lines) if _FENCE in line]
    return "\n".join(lines[fences[-2] + 1 : fences[-1]]) if len(fences) > 1 else ""


def _chat(answer: str, prompt: str, entry_point: str) -> str:
    blocks = _BLOCK.findall(answer)
    head = re.compile(rf"^(?:async )?def {re.escape(entry_point)}\b|^{re.escape(entry_point)}\s*=", re.MULTILINE)
    whole = [block for block in blocks if head.search(block)]
    chosen = whole[-1] if whole else blocks[-1] if blocks else answer
    if head.search(chosen):
        return f"{context_of(prompt)}\n\n{chosen}"  # imports and helpers of the prompt, which answers leave out
    return prompt + chosen


def context_of(prompt: str) -> str:
    """A prompt as code that runs by itself: its imports and helpers, and the function without a body.

    Empty where it cannot be made to run.
    """
    for code in (prompt, f"{prompt.rstrip()}\n    pass\n"):
        try:
            compile(code, "prompt", "exec", dont_inherit=True)
        except (SyntaxError, ValueError):
            continue
        return code
    return ""
