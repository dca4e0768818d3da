"""Rows of demonstrations, tasks and documents as records."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from zhenlong.data.field_parsing import (
    SYSTEM_AND_TOOL_COLUMNS,
    Fields,
    extra_columns,
    field_text,
    parse_alpaca_prompt,
    parse_prompt,
    parse_response,
    with_system_columns,
)
from zhenlong.data.message_parsing import parse_messages
from zhenlong.records import Demonstration, Document, Message, Task


def messages_demonstration(fields: Fields, messages_field: str) -> Demonstration:
    messages = with_system_columns(parse_messages(fields[messages_field], messages_field), fields)
    return Demonstration(messages, meta=extra_columns(fields, messages_field, *SYSTEM_AND_TOOL_COLUMNS))


def alpaca_demonstration(fields: Fields, context_field: str = "input", answer_field: str = "output") -> Demonstration:
    answer = Message("assistant", field_text(fields, answer_field))
    meta = extra_columns(fields, "instruction", context_field, answer_field, "history", *SYSTEM_AND_TOOL_COLUMNS)
    return Demonstration((*parse_alpaca_prompt(fields, context_field), answer), meta=meta)


def response_demonstration(fields: Fields, prompt_field: str) -> Demonstration:
    prompt = parse_prompt(fields[prompt_field], prompt_field)
    answer = Message("assistant", parse_response(fields["response"], "response", prompt))
    meta = extra_columns(fields, prompt_field, "response", *SYSTEM_AND_TOOL_COLUMNS)
    return Demonstration((*with_system_columns(prompt, fields), answer), meta=meta)


def exchanges_demonstration(fields: Fields) -> Demonstration:
    """Capybara: a list of exchanges with `input` and `output`."""
    turns: list[Message] = []
    for number, exchange in enumerate(fields["conversation"]):
        place = f"conversation[{number}]"
        if not isinstance(exchange, Mapping):
            raise ValueError(f"{place}: expected an object with input and output, got {type(exchange).__name__}")
        try:
            question, answer = (field_text(exchange, name) for name in ("input", "output"))
        except ValueError as error:
            raise ValueError(f"{place}.{error}") from None
        turns += [Message("user", question), Message("assistant", answer)]
    messages = with_system_columns(tuple(turns), fields)
    return Demonstration(messages, meta=extra_columns(fields, "conversation", *SYSTEM_AND_TOOL_COLUMNS))


def flan_demonstration(fields: Fields) -> Demonstration:
    prompt, answer = (
        with_system_columns(parse_prompt(fields["inputs"], "inputs"), fields),
        Message("assistant", field_text(fields, "targets")),
    )
    return Demonstration((*prompt, answer), meta=extra_columns(fields, "inputs", "targets", *SYSTEM_AND_TOOL_COLUMNS))


def completion_demonstration(fields: Fields) -> Demonstration:
    prompt = parse_prompt(fields["prompt"], "prompt")
    answer = Message("assistant", parse_response(fields["completion"], "completion", prompt))
    return Demonstration(
        (*with_system_columns(prompt, fields), answer),
        meta=extra_columns(fields, "prompt", "completion", *SYSTEM_AND_TOOL_COLUMNS),
    )


_GSM8K_ANSWER: Final = re.compile(r"####[ \t]*(\S[^\n]*?)\s*$")


def answer_task(fields: Fields, question_field: str, answer_field: str) -> Task:
    """GSM8K ends its worked answers with `#### 18`: the reference is what follows, without thousands separators."""
    prompt = with_system_columns(parse_prompt(fields[question_field], question_field), fields)
    reference = _answer_text(fields, answer_field)
    final = _GSM8K_ANSWER.search(reference)
    if final:
        reference = re.sub(r"(?<=\d),(?=\d{3})", "", final[1])
    verifier = "math" if final or question_field == "problem" else "exact"
    return _with_task_columns(Task(prompt, reference, fields.get("verifier") or verifier), fields)


def answer_demonstration(fields: Fields, question_field: str, answer_field: str) -> Demonstration:
    """The worked solution if the row has one besides the bare answer."""
    prompt = with_system_columns(parse_prompt(fields[question_field], question_field), fields)
    solution_field = answer_field if fields.get("solution") is None else "solution"
    meta = extra_columns(fields, question_field, solution_field, *SYSTEM_AND_TOOL_COLUMNS)
    return Demonstration((*prompt, Message("assistant", _answer_text(fields, solution_field))), meta=meta)


def _answer_text(fields: Fields, name: str) -> str:
    """An answer as text; numbers are accepted, lists are not."""
    value = fields[name]
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else field_text(fields, name)


def prompt_task(fields: Fields) -> Task:
    prompt = with_system_columns(parse_prompt(fields["prompt"], "prompt"), fields)
    return _with_task_columns(Task(prompt, verifier=fields.get("verifier") or ""), fields)


def _with_task_columns(task: Task, fields: Fields) -> Task:
    arguments, groups = fields.get("arguments") or {}, fields.get("groups") or {}
    meta = {name: value for name, value in fields.items() if name != "prompt" or isinstance(value, str)}
    return Task(task.prompt, task.reference, task.verifier, arguments, groups, meta)


def text_document(fields: Fields) -> Document:
    return Document(field_text(fields, "text"), field_text(fields, "source", ""))
