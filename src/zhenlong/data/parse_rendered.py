"""Parsing rendered text into messages: the inverse of the built-in chat templates.

`parse_rendered(template.render(messages), name)` gives the messages: exactly for ChatML and Alpaca; for Llama 2 and
Llama 3 without white space around a turn's text, which these formats strip. It also reads the output of the templates
of Qwen 2.5, Llama 2, Llama 3 and Llama 3.1. A message must not contain the format's markers, which rendered text cannot
distinguish.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any, Final

from zhenlong.data.builtin_templates import (
    ALPACA_SYSTEM,
    BUILTIN_TEMPLATES,
    LLAMA3_TOOLS,
    TOOLS_PREFIX,
    TOOLS_SUFFIX,
    bos_and_turn_end,
)
from zhenlong.errors import UserError
from zhenlong.records import Message, Messages

PUBLISHED_MARKERS: Final = {  # start of a conversation, end of a turn
    "chatml": ("", "<|im_end|>"),
    "llama2": ("<s>", "</s>"),
    "llama3": ("<|begin_of_text|>", "<|eot_id|>"),
    "alpaca": ("<s>", "</s>"),
}
RenderedTurn = tuple[str, str]  # role and text

_CHATML_HEAD: Final = re.compile(r"<\|im_start\|>(\w+)\n")
_LLAMA3_HEAD: Final = re.compile(r"<\|start_header_id\|>(\w+)<\|end_header_id\|>\n\n")
_LLAMA3_DATES: Final = re.compile(
    r"(?:Environment: ipython\n)?Cutting Knowledge Date: [^\n]+\nToday Date: [^\n]+\n(?:\n|$)"
)
_SYSTEM: Final = re.compile(r"<<SYS>>\n(.*?)\n<</SYS>>\n\n", re.DOTALL)
_RESULTS: Final = re.compile(r"(?:<tool_response>\n.*?\n</tool_response>(?:\n|$))+", re.DOTALL)
_RESULT: Final = re.compile(r"<tool_response>\n(.*?)\n</tool_response>(?:\n|$)", re.DOTALL)
_CALLS: Final = re.compile(r"(?:^|\n)((?:<tool_call>\n[^\n]*\n</tool_call>(?:\n|$))+)\Z")
_CALL: Final = re.compile(r"<tool_call>\n([^\n]*)\n</tool_call>")
_ALPACA_INSTRUCTION, _ALPACA_RESPONSE = "### Instruction:\n", "\n\n### Response:\n"


def parse_rendered(text: str, name: str, tokenizer: Any = None) -> Messages:
    """The messages of a conversation in a built-in format, with tool calls, tool results and tools.

    `tokenizer` gives the BOS and end-of-turn tokens; by default they are the published markers. An empty assistant turn
    at the end gives no message, a truncated one its text so far. Raises `UserError` with the position where the text
    does not match the format.
    """
    if name not in BUILTIN_TEMPLATES:
        raise UserError(f"chat format {name!r}: unknown; expected {', '.join(BUILTIN_TEMPLATES)}")
    bos, end = bos_and_turn_end(tokenizer, name) if tokenizer is not None else PUBLISHED_MARKERS[name]
    turns = list(_TURN_PARSERS[name](text, bos, end))
    if turns and turns[-1] == ("assistant", ""):
        turns.pop()
    return tuple(_llama3_messages(turns) if name == "llama3" else _messages(turns))


# The turns of each format


def _chatml_turns(text: str, bos: str, end: str) -> Iterator[RenderedTurn]:
    return _header_turns(text, len(bos) if bos and text.startswith(bos) else 0, _CHATML_HEAD, end, "\n")


def _llama3_turns(text: str, bos: str, end: str) -> Iterator[RenderedTurn]:
    return _header_turns(text, len(bos) if bos and text.startswith(bos) else 0, _LLAMA3_HEAD, end, "")


def _header_turns(text: str, at: int, head: re.Pattern[str], end: str, after: str) -> Iterator[RenderedTurn]:
    """Turns that start with a header naming the role and end with a marker."""
    while at < len(text):
        match = head.match(text, at)
        if match is None:
            raise _unexpected(text, at, "the header of a turn")
        close = text.find(end, match.end())
        if close < 0 and match[1] != "assistant":
            raise _unexpected(text, match.end(), f"{end} at the end of the {match[1]}'s turn")
        yield match[1], text[match.end() :] if close < 0 else text[match.end() : close]
        at = len(text) if close < 0 else close + len(end)
        at += len(after) if text.startswith(after, at) else 0


def _llama2_turns(text: str, bos: str, end: str) -> Iterator[RenderedTurn]:
    at, first = 0, True
    while at < len(text):
        start = at + (len(bos) if bos and text.startswith(bos, at) else 0)
        if text.startswith("[INST] ", start):
            close = text.find(" [/INST]", start + 6)
            if close < 0:
                raise _unexpected(text, start, "[/INST] at the end of the user's turn")
            words = text[start + 7 : close]
            system = _SYSTEM.match(words) if first else None
            if system:
                yield "system", system[1]
            yield "user", words[system.end() :] if system else words
            at, first = close + len(" [/INST]"), False
        elif text.startswith(" ", at) and not first:
            close = text.find(f" {end}", at)
            yield "assistant", text[at + 1 :] if close < 0 else text[at + 1 : close]
            at = len(text) if close < 0 else close + 1 + len(end)
        else:
            raise _unexpected(text, at, "[INST]")


def _alpaca_turns(text: str, bos: str, end: str) -> Iterator[RenderedTurn]:
    at = len(bos) if bos and text.startswith(bos) else 0
    start = text.find(f"\n\n{_ALPACA_INSTRUCTION}", at)
    system = text[at:start] if start >= 0 else text[at:].removesuffix("\n\n")
    if system != ALPACA_SYSTEM:
        yield "system", system
    at = start + 2 if start >= 0 else len(text)
    while at < len(text):
        if text.startswith(_ALPACA_INSTRUCTION, at):
            close = text.find(_ALPACA_RESPONSE, at)
            if close < 0:
                raise _unexpected(text, at, "### Response: after the instruction")
            yield "user", text[at + len(_ALPACA_INSTRUCTION) : close]
            at = close + len(_ALPACA_RESPONSE)
        else:
            close = text.find(end, at)
            yield "assistant", text[at:] if close < 0 else text[at:close]
            at = len(text) if close < 0 else close + len(end)
            at += 2 if text.startswith("\n\n", at) else 0


def _unexpected(text: str, at: int, what: str) -> UserError:
    return UserError(f"rendered conversation, character {at}: expected {what}, got {text[at : at + 40]!r}")


_TURN_PARSERS: Final[dict[str, Callable[[str, str, str], Iterator[RenderedTurn]]]] = {
    "chatml": _chatml_turns,
    "llama2": _llama2_turns,
    "llama3": _llama3_turns,
    "alpaca": _alpaca_turns,
}


# The text of a turn: calls, results, signatures


def _messages(turns: list[RenderedTurn]) -> Iterator[Message]:
    """Turns with tools in tags: signatures in the system turn, calls in assistant turns, results in user turns."""
    for role, words in turns:
        if role == "system":
            before, begun, rest = words.partition(TOOLS_PREFIX)
            has_tools = begun and rest.endswith(TOOLS_SUFFIX)
            tools = (
                [json.loads(line) for line in rest.removesuffix(TOOLS_SUFFIX).split("\n") if line] if has_tools else []
            )
            yield Message("system", before.removesuffix("\n\n") if has_tools else words, tools=tuple(tools))
        elif role == "assistant":
            yield _parse_tagged_calls(words)
        elif role == "user" and _RESULTS.fullmatch(words):
            yield from (Message("tool", result) for result in _RESULT.findall(words))
        else:
            yield Message(role, words)


def _parse_tagged_calls(words: str) -> Message:
    block = _CALLS.search(words)
    calls = [_parse_call(body, "arguments") for body in _CALL.findall(block[1])] if block else []
    if block is None or None in calls:
        return Message("assistant", words)
    return Message("assistant", words[: block.start()], tuple(call for call in calls if call))


def _llama3_messages(turns: list[RenderedTurn]) -> Iterator[Message]:
    """Llama 3's turns: dates in the system turn, signatures in the first user turn, calls and results as JSON."""
    tools: list[dict[str, Any]] = []
    system: str | None = None
    rest = list(turns)
    if rest and rest[0][0] == "system":
        words = rest.pop(0)[1]
        dates = _LLAMA3_DATES.match(words)
        system = words[dates.end() :] if dates else words
        system = None if dates and not system else system
    if rest and rest[0][0] == "user" and rest[0][1].startswith(LLAMA3_TOOLS):
        tools, words = _leading_tools(rest[0][1].removeprefix(LLAMA3_TOOLS))
        rest[0] = ("user", words)
    if system is not None or tools:
        yield Message("system", system or "", tools=tuple(tools))
    for role, words in rest:
        if role in ("ipython", "tool"):
            yield Message("tool", _parse_json_text(words))
        else:
            yield _parse_bare_calls(words) if role == "assistant" else Message(role, words)


def _leading_tools(text: str) -> tuple[list[dict[str, Any]], str]:
    """The signatures at the start of a text, each followed by a blank line, and the rest of the text."""
    found: list[dict[str, Any]] = []
    while text.startswith("{"):
        try:
            value, at = json.JSONDecoder().raw_decode(text)
        except json.JSONDecodeError:
            break
        if value.get("type") != "function" or not text.startswith("\n\n", at):
            break
        found.append(value)
        text = text[at + 2 :]
    return found, text


def _parse_bare_calls(words: str) -> Message:
    """An assistant turn whose last lines may be calls."""
    lines, calls = words.split("\n"), []
    while lines and (call := _parse_call(lines[-1], "parameters")):
        calls.append(call)
        lines.pop()
    return Message("assistant", "\n".join(lines), tuple(calls[::-1]))


def _parse_call(body: str, arguments: str) -> dict[str, Any] | None:
    """The call in a JSON text of a name and arguments, or None."""
    try:
        value = json.loads(body)
    except json.JSONDecodeError:
        return None
    if not isinstance(value, dict) or list(value) != ["name", arguments] or not isinstance(value[arguments], dict):
        return None
    return {"type": "function", "function": {"name": value["name"], "arguments": value[arguments]}}


def _parse_json_text(words: str) -> str:
    try:
        value = json.loads(words)
    except json.JSONDecodeError:
        return words
    return value if isinstance(value, str) else words
