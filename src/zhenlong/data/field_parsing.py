"""Parsers shared by row formats: a prompt, a response, a transcript, the remaining columns."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

from zhenlong.data.message_parsing import add_system_and_tools, message_text, parse_message, parse_messages
from zhenlong.records import Message, Messages

Fields = Mapping[str, Any]

HH_ROLES: Final = {"Human": "user", "Assistant": "assistant"}
MEDIA_COLUMNS: Final = ("images", "image", "videos", "video", "audios", "audio")
_TURN: Final = re.compile(r"(?:^|\n\n)(Human|Assistant):")


def parse_prompt(value: Any, field: str) -> Messages:
    """A prompt from a list of turns or from text: a user turn, or an HH-RLHF transcript that ends at the assistant."""
    if isinstance(value, str):
        if not value.strip():
            raise ValueError(f"{field}: expected some text, got none")
        if value.lstrip().startswith("Human:") and value.rstrip().endswith("\n\nAssistant:"):
            return parse_hh_transcript(value, field)[:-1]
        if not _is_json_messages(value):
            return (Message("user", value),)
    return parse_messages(value, field)


def parse_response(value: Any, field: str, prompt: Messages) -> str:
    """A response to `prompt`: text, one assistant turn, or a dialogue that starts with the prompt."""
    if isinstance(value, str) and not _is_json_messages(value):
        return value
    messages = (parse_message(value, field),) if isinstance(value, Mapping) else parse_messages(value, field)
    if len(messages) > len(prompt) and all(map(_same_message, messages, prompt)):
        messages = messages[len(prompt) :]
    return single_response_text(messages, field)


def single_response_text(messages: Messages, field: str) -> str:
    """The text of the single assistant turn that remains after the prompt."""
    roles = [m.role for m in messages]
    if roles != ["assistant"]:
        got = f"{len(roles)} turns ({', '.join(roles)})" if roles else "none"
        raise ValueError(f"{field}: expected one assistant turn after the prompt, got {got}")
    return message_text(messages[0])


def parse_hh_transcript(text: str, field: str) -> Messages:
    r"""The turns of an HH-RLHF dialogue, marked by `\n\nHuman:` and `\n\nAssistant:`."""
    head, *parts = _TURN.split(text)
    if head.strip() or not parts:
        raise ValueError(f"{field}: expected a dialogue that starts with 'Human:', got {text[:40]!r}")
    pairs = zip(parts[::2], parts[1::2], strict=True)
    return tuple(Message(HH_ROLES[speaker], words.strip()) for speaker, words in pairs)


def split_shared_prompt(chosen: Messages, rejected: Messages) -> tuple[Messages, str, str]:
    """The prompt that two full dialogues share, and the assistant's response after it in each.

    The split is between turns, even if both responses start with the same words.
    """
    shared = 0
    while shared < min(len(chosen), len(rejected)) and _same_message(chosen[shared], rejected[shared]):
        shared += 1
    if shared == len(chosen) == len(rejected):
        raise ValueError("rejected: expected it to differ from chosen, got the same dialogue twice")
    if not shared:
        raise ValueError("rejected: expected it to start with the same turns as chosen, which are the prompt")
    prompt = chosen[:shared]
    return prompt, single_response_text(chosen[shared:], "chosen"), single_response_text(rejected[shared:], "rejected")


def parse_bool(value: Any, field: str) -> bool:
    """A boolean label as JSON, a table or a 0/1 column writes it."""
    values = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}
    parsed = values.get(str(value).strip().lower())
    if parsed is None:
        raise ValueError(f"{field}: expected true or false, got {value!r}")
    return parsed


def extra_columns(fields: Fields, *used_fields: str) -> dict[str, Any]:
    """The columns of a row that were not used, if their values are plain (text, numbers, booleans)."""
    plain = (str, int, float, bool)
    return {name: value for name, value in fields.items() if name not in used_fields and isinstance(value, plain)}


def require_text_only(fields: Fields) -> None:
    """Raise `ValueError` for a row with pictures or sounds, which a text model cannot see."""
    for name in MEDIA_COLUMNS:
        if fields.get(name):
            raise ValueError(f"{name}: only text is read; expected rows without pictures and sounds")


def field_text(fields: Fields, name: str, default: str | None = None) -> str:
    """The text in a field; if it is missing, `default`, or an error without one."""
    value = fields.get(name)
    value = default if value is None else value
    if not isinstance(value, str):
        got = "nothing" if value is None else type(value).__name__
        raise ValueError(f"{name}: expected text, got {got}")
    return value


def _is_json_messages(value: str) -> bool:
    """Whether a table cell holds a conversation as JSON; a response may be JSON of something else."""
    if not value.lstrip().startswith("[{"):
        return False
    try:
        turns = json.loads(value)
    except json.JSONDecodeError:
        return False
    return all(isinstance(item, dict) and ("role" in item or "from" in item) for item in turns)


def _same_message(a: Message, b: Message) -> bool:
    return a.role == b.role and message_text(a).strip() == message_text(b).strip()


# functions: OpenAI's name before tools
SYSTEM_AND_TOOL_COLUMNS: Final = ("system", "system_prompt", "tools", "functions")


def with_system_columns(messages: Messages, fields: Fields) -> Messages:
    system, tools = _one_of(fields, "system", "system_prompt"), _one_of(fields, "tools", "functions")
    return add_system_and_tools(messages, system, tools)


def _one_of(fields: Fields, first: str, second: str) -> Any:
    """The value of the only one of two columns that a row has."""
    if fields.get(first) and fields.get(second):
        raise ValueError(f"{first}, {second}: expected one of them, got both")
    return fields.get(first) or fields.get(second)


def parse_alpaca_prompt(fields: Fields, context_field: str = "input") -> Messages:
    question = "\n\n".join(
        part for part in (field_text(fields, "instruction"), field_text(fields, context_field, "")) if part.strip()
    )
    if not question:
        raise ValueError("instruction: expected some text, got none")
    earlier: list[Message] = []
    for exchange in fields.get("history") or ():
        if not isinstance(exchange, list | tuple) or len(exchange) != 2:
            raise ValueError("history: expected a list of pairs of question and answer")
        earlier += [Message("user", exchange[0]), Message("assistant", exchange[1])]
    return with_system_columns((*earlier, Message("user", question)), fields)
