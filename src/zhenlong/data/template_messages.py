"""Messages in the form that a chat template reads: content as text or parts, reasoning and tool calls in their fields.

Templates differ in what they read. Vision models' want content as a list of parts. Some have a field of their own for
reasoning (`reasoning_content`, `reasoning` or `thinking`), and get a leading `<think>` block there. Some want the
arguments of tool calls as JSON text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from zhenlong.data.message_parsing import message_text
from zhenlong.records import Message

_REASONING_FIELDS: Final = ("reasoning_content", "reasoning", "thinking")
_REASONING: Final = re.compile(r"\s*<think>(.*?)</think>\s*(.*)", re.DOTALL)
_CHECKED_WORDS: Final = 8  # of the start and of the end of a text


@dataclass(frozen=True)
class MessageForm:
    """The form of a template's messages. `of_source` tells what its source mentions; the rest is found by trying."""

    reads_tools: bool = False
    reads_tool_calls: bool = False
    reasoning_fields: tuple[str, ...] = ()
    content_parts: bool = False
    json_arguments: bool = False

    @classmethod
    def of_source(cls, source: str) -> MessageForm:
        """What a template reads, by the names in its source."""
        fields = [name for name in _REASONING_FIELDS if re.search(rf"""(?:\.|['"]){name}\b""", source)]
        return cls(re.search(r"\btools\b", source) is not None, "tool_calls" in source, tuple(fields))

    def as_template_message(self, message: Message) -> dict[str, Any]:
        """A message for the template. Tool calls and signatures become text where it has no place for them."""
        reasoning, answer = split_reasoning(message.content) if message.role == "assistant" else ("", message.content)
        in_field = bool(reasoning and self.reasoning_fields)
        content = answer if in_field else message.content
        found: dict[str, Any] = {"role": message.role}
        if message.tool_calls and self.reads_tool_calls:
            found["content"] = self._content(content)
            found["tool_calls"] = [self._tool_call(call) for call in message.tool_calls]
        elif message.tools and self.reads_tools:
            found["content"] = self._content(content)
        else:
            found["content"] = self._content(
                message_text(Message(message.role, content, message.tool_calls, message.tools))
            )
        return found | (dict.fromkeys(self.reasoning_fields, reasoning) if in_field else {})

    def _content(self, text: str) -> Any:
        return [{"type": "text", "text": text}] if self.content_parts else text

    def _tool_call(self, call: dict[str, Any]) -> dict[str, Any]:
        if not self.json_arguments:
            return call
        function = call["function"]
        return {**call, "function": {**function, "arguments": json.dumps(function["arguments"], ensure_ascii=False)}}


def split_reasoning(content: str) -> tuple[str, str]:
    """An answer's leading `<think>` block without its tags and the white space around, and the rest."""
    found = _REASONING.fullmatch(content)
    return (found[1].strip(), found[2]) if found else ("", content)


def omitted_part(message: Message, text: str, form: MessageForm, own_turn: str | None = None) -> str:
    """What of a message a rendered conversation lacks, in words; empty where all is there.

    Of an assistant's message only the tool calls are looked for, since templates shorten earlier turns; with
    `own_turn`, the rendered text of this message alone, its reasoning, answer and arguments are, too.
    """
    names = [(call["function"]["name"], "a tool call") for call in message.tool_calls]
    names += [(tool["function"]["name"], "a tool's signature") for tool in message.tools]
    missing = next((what for name, what in names if name not in text), "")
    if missing:
        return missing
    if message.role == "tool":
        return "" if _has_words(text, message.content) else "a tool turn"
    if message.role in ("system", "user"):
        return "" if message.content.strip() in text else f"a {message.role} turn"
    if own_turn is None:
        return ""
    reasoning, answer = split_reasoning(message.content)
    if reasoning not in own_turn:
        return "an answer's reasoning" + (
            f" (its source reads {', '.join(form.reasoning_fields)})" if form.reasoning_fields else ""
        )
    if answer.strip() not in own_turn:
        return "part of an answer"
    arguments = [argument for call in message.tool_calls for argument in _texts(call["function"]["arguments"])]
    return "" if all(_has_words(own_turn, one) for one in arguments) else "an argument of a tool call"


def _texts(value: Any) -> Iterator[str]:
    """All texts in a JSON value, the names of fields included."""
    if isinstance(value, dict):
        for name, one in value.items():
            yield name
            yield from _texts(one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _texts(one)
    elif isinstance(value, str):
        yield value


def _has_words(text: str, words: str) -> bool:
    """Whether the first and last words of a text are in another, however it is quoted there."""
    found = re.findall(r"[A-Za-z0-9]+", words)
    return all(word in text for word in (*found[:_CHECKED_WORDS], *found[-_CHECKED_WORDS:]))
