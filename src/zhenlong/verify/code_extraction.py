"""Extraction of the program from a response, by each benchmark's own rule.

| name | the program |
|---|---|
| `program` | the response itself |
| `completion` | the prompt and the response (openai/human-eval:human_eval/execution.py) |
| `chat` | the prompt, then the fenced block that defines the function; a body without signature completes the prompt |
| `last_block` | the lines between the last two lines with ``` (LiveCodeBench:lcb_runner/utils/extraction_utils.py) |
| `block` | the last fenced block if there is one, else the response up to `[DONE]` (MBPP's prompt) |
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from zhenlong.errors import UserError

EXTRACTION_MODES: Final = ("program", "completion", "chat", "last_block", "block")
STOP_SEQUENCES: Final = (
    "\nclass",
    "\ndef",
    "\n#",
    "\nif",
    "\nprint",
)  # stop sequences of a base model's completion (Codex paper)
_FENCE: Final = "```"
_BLOCK_PATTERN: Final = re.compile(r"^[ \t]*```[^\n`]*\n(.*?)(?:^[ \t]*```|\Z)", re.MULTILINE | re.DOTALL)


def extract_program(
    response: str, extraction: str = "program", *, prompt: str = "", entry_point: str = "", stop: Sequence[str] = ()
) -> str:
    """The program to run. `stop` truncates a completion at the first of these texts; empty: no truncation."""
    if extraction == "program":
        return response
    if extraction == "completion":
        return prompt + truncate_at_stop(response, stop)
    if extraction == "chat":
        return _extract_from_chat(response, prompt, entry_point)
    if extraction == "last_block":
        return last_fenced_block(response)
    if extraction == "block":
        blocks = _BLOCK_PATTERN.findall(response)
        return blocks[-1] if blocks else response.split("[DONE]")[0].removeprefix("[BEGIN]")
    raise UserError(f"code: extraction {extraction!r} is not known; expected one of {', '.join(EXTRACTION_MODES)}")


def truncate_at_stop(text: str, stop: Sequence[str] = STOP_SEQUENCES) -> str:
    """The text up to the first stop sequence."""
    return text[: min((found for one in stop if (found := text.find(one)) >= 0), default=len(text))]


def last_fenced_block(response: str) -> str:
    """The lines between the last two fences; empty if there are fewer than two."""
    lines = response.split("\n")
    fences = [number for number, line in enumerate(lines) if _FENCE in line]
    return "\n".join(lines[fences[-2] + 1 : fences[-1]]) if len(fences) > 1 else ""


def _extract_from_chat(response: str, prompt: str, entry_point: str) -> str:
    blocks = _BLOCK_PATTERN.findall(response)
    definition_pattern = re.compile(
        rf"^(?:async )?def {re.escape(entry_point)}\b|^{re.escape(entry_point)}\s*=", re.MULTILINE
    )
    defining_blocks = [block for block in blocks if definition_pattern.search(block)]
    code = defining_blocks[-1] if defining_blocks else blocks[-1] if blocks else response
    if definition_pattern.search(code):
        return f"{executable_prompt(prompt)}\n\n{code}"  # responses omit the prompt's imports and helpers
    return prompt + code


def executable_prompt(prompt: str) -> str:
    """A prompt as runnable code: its imports and helpers, and the function with an empty body.

    Empty if the prompt cannot be made to run.
    """
    for code in (prompt, f"{prompt.rstrip()}\n    pass\n"):
        try:
            compile(code, "prompt", "exec", dont_inherit=True)
        except (SyntaxError, ValueError):
            continue
        return code
    return ""
