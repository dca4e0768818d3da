"""Answer formats: how each is requested, rendered and recognised."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class AnswerFormat:
    """`instructions` wrap a question `{q}`; `render` formats a value; `matches` recognises the format.

    `render` is None if the format is already one of the plain phrasings (a full sentence).
    """

    name: str
    instructions: tuple[str, ...]
    render: Callable[[str], str] | None
    matches: Callable[[str], bool]


def _json_record(value: str) -> str:
    return json.dumps({"answer": value})


def _is_json_record(text: str) -> bool:
    if not text.startswith("{"):
        return False
    try:
        record = json.loads(text)
    except ValueError:
        return False
    return isinstance(record, dict) and set(record) == {"answer"} and isinstance(record["answer"], str | int)


def _numbered(value: str) -> str:
    return "\n".join(f"{i}. {word}" for i, word in enumerate(value.split(), 1))


def _is_numbered(text: str) -> bool:
    lines = text.split("\n")
    return all(re.fullmatch(rf"{i}\. \w+", line) for i, line in enumerate(lines, 1))


def _is_sentence(text: str) -> bool:
    return len(text.split()) >= 3 and bool(_SENTENCE.fullmatch(text))


_SENTENCE: Final = re.compile(r"[A-Z0-9][^.!?]*[.!]")

FORMAT_CONSTRAINTS: Final = {
    item.name: item
    for item in (
        AnswerFormat(
            "one_word",
            ("{q} Answer with one word.", "{q} Use only one word.", "In one word: {q}"),
            str,
            lambda text: bool(re.fullmatch(r"\w+[.!]?", text)),
        ),
        AnswerFormat(
            "brackets",
            ("{q} Put the answer in brackets.", "{q} Answer in brackets.", "In brackets: {q}"),
            lambda value: f"({value})",
            lambda text: bool(re.fullmatch(r"\([^()]+\)\.?", text)),
        ),
        AnswerFormat(
            "json",
            ("{q} Answer in JSON.", "{q} Write the answer as JSON.", "In JSON: {q}"),
            _json_record,
            _is_json_record,
        ),
        AnswerFormat(
            "sentence",
            ("{q} Answer with a full sentence.", "{q} Use a full sentence.", "In a full sentence: {q}"),
            None,
            _is_sentence,
        ),
        AnswerFormat(
            "commas",
            ("{q} Use commas.", "{q} Put commas between them.", "With commas: {q}"),
            lambda value: ", ".join(value.split()),
            lambda text: bool(re.fullmatch(r"\w+(?:, \w+)+\.?", text)),
        ),
        AnswerFormat(
            "numbered",
            ("{q} Write a list with numbers.", "{q} Number the lines.", "As a list with numbers: {q}"),
            _numbered,
            _is_numbered,
        ),
    )
}


def render_tool_call(argument: str) -> str:
    """The text that calls the lookup tool."""
    return f'<tool>{{"name": "lookup", "argument": "{argument}"}}</tool>'


TOOL_CALL_FORMAT: Final = AnswerFormat(
    "tool",
    (),
    render_tool_call,
    lambda text: bool(re.fullmatch(r'<tool>\{"name": "lookup", "argument": "\w+"\}</tool>', text)),
)


def strip_format_instruction(text: str) -> tuple[str, AnswerFormat | None]:
    """The question in a prompt, and the format requested around it, if any."""
    for before, after, form in _INSTRUCTION_PARTS:
        if text.startswith(before) and text.endswith(after):
            return text[len(before) : len(text) - len(after)], form
    return text, None


_INSTRUCTION_PARTS: Final = [
    (before, after, form)
    for form in FORMAT_CONSTRAINTS.values()
    for before, _, after in (request.partition("{q}") for request in form.instructions)
]
