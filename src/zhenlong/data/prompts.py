"""The pieces that the field's row formats share: a prompt, a response, a transcript, what else a row says."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

from zhenlong.data.chats import chat, spoken, turn
from zhenlong.records import Message, Messages

Fields = Mapping[str, Any]

SPEAKERS: Final = {"Human": "user", "Assistant": "assistant"}
_TURN: Final = re.compile(r"(?:^|\n\n)(Human|Assistant):")


def prompt(value: Any, field: str) -> Messages:
    """A prompt from a list of turns or from text: a user turn, or an HH-RLHF transcript up to the assistant."""
    if isinstance(value, str):
        if not value.strip():
            raise ValueError(f"{field}: expected some text, got none")
        if value.lstrip().startswith("Human:") and value.rstrip().endswith("\n\nAssistant:"):
            return transcript(value, field)[:-1]
        if not _holds_turns(value):
            return (Message("user", value),)
    return chat(value, field)


def response(value: Any, field: str, after: Messages) -> str:
    """What answers the prompt `after`: text, one assistant turn, or a dialogue that begins with the prompt."""
    if isinstance(value, str) and not _holds_turns(value):
        return value
    messages = (turn(value, field),) if isinstance(value, Mapping) else chat(value, field)
    if len(messages) > len(after) and all(map(_same, messages, after)):
        messages = messages[len(after) :]
    return last_word(messages, field)


def last_word(messages: Messages, field: str) -> str:
    """What the assistant says in the only turn that is left after the prompt."""
    roles = [m.role for m in messages]
    if roles != ["assistant"]:
        got = f"{len(roles)} turns ({', '.join(roles)})" if roles else "none"
        raise ValueError(f"{field}: expected one assistant turn after the prompt, got {got}")
    return spoken(messages[0])


def transcript(text: str, field: str) -> Messages:
    r"""The turns of an HH-RLHF dialogue, which are marked `\n\nHuman:` and `\n\nAssistant:`."""
    head, *parts = _TURN.split(text)
    if head.strip() or not parts:
        raise ValueError(f"{field}: expected a dialogue that begins with 'Human:', got {text[:40]!r}")
    pairs = zip(parts[::2], parts[1::2], strict=True)
    return tuple(Message(SPEAKERS[speaker], words.strip()) for speaker, words in pairs)


def split_pair(chosen: Messages, rejected: Messages) -> tuple[Messages, str, str]:
    """The prompt that two whole dialogues share, and what the assistant says after it in each.

    The cut is at a turn: two answers that begin with the same words do not lend them to the prompt.
    """
    shared = 0
    while shared < min(len(chosen), len(rejected)) and _same(chosen[shared], rejected[shared]):
        shared += 1
    if shared == len(chosen) == len(rejected):
        raise ValueError("rejected: expected it to differ from chosen, got the same dialogue twice")
    if not shared:
        raise ValueError("rejected: expected it to begin with the same turns as chosen, which are the prompt")
    before = chosen[:shared]
    return before, last_word(chosen[shared:], "chosen"), last_word(rejected[shared:], "rejected")


def truth(value: Any, field: str) -> bool:
    """A label as JSON, a table or a 0/1 column writes it."""
    words = {"true": True, "1": True, "false": False, "0": False}
    known = words.get(str(value).strip().lower())
    if known is None:
        raise ValueError(f"{field}: expected true or false, got {value!r}")
    return known


def extras(fields: Fields, *used: str) -> dict[str, Any]:
    """What a row says beyond the fields that were used: its plain values (text, numbers, booleans)."""
    plain = (str, int, float, bool)
    return {name: value for name, value in fields.items() if name not in used and isinstance(value, plain)}


def text(fields: Fields, name: str, default: str | None = None) -> str:
    """The text in a field; an absent one is `default`, or an error without it."""
    value = fields.get(name)
    value = default if value is None else value
    if not isinstance(value, str):
        got = "nothing" if value is None else type(value).__name__
        raise ValueError(f"{name}: expected text, got {got}")
    return value


def _holds_turns(value: str) -> bool:
    """Whether a text is a conversation as a table holds it; an answer may well be a JSON list of something else."""
    if not value.lstrip().startswith("[{"):
        return False
    try:
        turns = json.loads(value)
    except json.JSONDecodeError:
        return False
    return all(isinstance(item, dict) and ("role" in item or "from" in item) for item in turns)


def _same(a: Message, b: Message) -> bool:
    return a.role == b.role and spoken(a).strip() == spoken(b).strip()
