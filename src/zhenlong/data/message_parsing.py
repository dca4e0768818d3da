"""Conversations in common formats as `Message`s: OpenAI/TRL `role`/`content`, ShareGPT `from`/`value`.

Functions here raise `ValueError` with the field and what was expected; the reader adds file and line.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from zhenlong.records import ROLES, Message, Messages, map_collecting_errors

SHAREGPT_ROLES: Final = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "assistant": "assistant",
    "function_call": "assistant",
    "observation": "tool",
    "tool": "tool",
    "system": "system",
}
OPENAI_ROLES: Final = {role: role for role in ROLES} | {"developer": "system", "function": "tool"}


def parse_messages(value: Any, field: str) -> Messages:
    """The messages of a list of turns in either style (or of a JSON text of one, as in tables)."""
    if isinstance(value, str):
        value = parse_json(value, field, "a list of turns")
    if not isinstance(value, list | tuple):
        raise ValueError(f"{field}: expected a list of turns, got {type(value).__name__}")
    return tuple(map_collecting_errors(parse_message, [(item, f"{field}[{i}]") for i, item in enumerate(value)]))


def parse_message(value: Any, field: str) -> Message:
    """One turn, in either style."""
    if isinstance(value, Message):
        return value
    if not isinstance(value, Mapping):
        raise ValueError(f"{field}: expected an object with role and content, got {type(value).__name__}")
    if value.get("from") is not None and value.get("role") is None:
        return _parse_sharegpt_turn(value, field)
    if value.get("role") is None:
        raise ValueError(f"{field}: expected role and content (or from and value), got {', '.join(value) or 'nothing'}")
    role = OPENAI_ROLES.get(value["role"])
    if role is None:
        raise ValueError(f"{field}.role: expected one of {', '.join(OPENAI_ROLES)}, got {value['role']!r}")
    _require_standard_weight(value, role, field)
    content, calls = _parse_content(value.get("content"), f"{field}.content")
    reasoning = value.get("reasoning_content")
    if reasoning:
        content = _think_block(reasoning) + content
    calls += [parse_tool_call(call, f"{field}.tool_calls") for call in value.get("tool_calls") or ()]
    return Message(role, content, tuple(calls), parse_tools(value.get("tools"), f"{field}.tools"))


def _parse_sharegpt_turn(value: Mapping[str, Any], field: str) -> Message:
    speaker, text = value["from"], value.get("value")
    role = SHAREGPT_ROLES.get(speaker)
    if role is None:
        raise ValueError(f"{field}.from: expected one of {', '.join(SHAREGPT_ROLES)}, got {speaker!r}")
    if not isinstance(text, str):
        raise ValueError(f"{field}.value: expected text, got {type(text).__name__}")
    if speaker != "function_call":
        return Message(role, text)
    calls = parse_json(text, f"{field}.value", "a function call with name and arguments")
    calls = calls if isinstance(calls, list) else [calls]
    return Message(role, "", tuple(parse_tool_call(call, f"{field}.value") for call in calls))


def _require_standard_weight(value: Mapping[str, Any], role: str, field: str) -> None:
    """Per-turn weights are accepted only if they equal what training does: 1 for the assistant, 0 for others."""
    for name in ("loss_weight", "weight"):
        weight = value.get(name)
        if weight is not None and weight != (1 if role == "assistant" else 0):
            raise ValueError(f"{field}.{name}: expected 1 on assistant turns and 0 on others, got {weight} ({role})")


def _parse_content(value: Any, field: str) -> tuple[str, list[dict[str, Any]]]:
    """Text, or typed parts (`text`, `reasoning`, `tool_call`) joined in order."""
    if value is None or isinstance(value, str):
        return value or "", []
    if not isinstance(value, list | tuple):
        raise ValueError(f"{field}: expected text or a list of parts, got {type(value).__name__}")
    text, calls = "", []
    for part in value:
        kind = part.get("type") if isinstance(part, Mapping) else None
        body = None if kind is None else part.get(kind) if part.get("value") is None else part["value"]
        if kind == "tool_call" and body is not None:
            calls.append(parse_tool_call(body, field))
        elif kind in ("text", "reasoning") and isinstance(body, str):
            text += body if kind == "text" else _think_block(body)
        else:
            raise ValueError(f"{field}: expected parts of type text, reasoning or tool_call, got {kind or part!r}")
    return text, calls


def _think_block(text: str) -> str:
    return f"<think>\n{text}\n</think>\n\n"


def parse_tool_call(value: Any, field: str) -> dict[str, Any]:
    """A call in the OpenAI schema with its arguments as an object, from that schema or from a name and arguments."""
    if isinstance(value, str):
        value = parse_json(value, field, "a function call with name and arguments")
    inner = value.get("function", value) if isinstance(value, Mapping) else None
    if not isinstance(inner, Mapping) or not isinstance(inner.get("name"), str):
        raise ValueError(f"{field}: expected a function call with name and arguments, got {value!r:.80}")
    arguments = inner.get("arguments") or {}
    if isinstance(arguments, str):
        arguments = parse_json(arguments, f"{field}.arguments", "an object")
    if not isinstance(arguments, Mapping):
        raise ValueError(f"{field}.arguments: expected an object, got {type(arguments).__name__}")
    return {"type": "function", "function": {"name": inner["name"], "arguments": dict(arguments)}}


def parse_tools(value: Any, field: str = "tools") -> tuple[dict[str, Any], ...]:
    """Signatures in the OpenAI schema, from that schema or bare functions, as a list or the JSON text of one."""
    tools = parse_json(value, field, "a list of function signatures") if isinstance(value, str) and value else value
    if not tools:
        return ()
    if not isinstance(tools, list | tuple):
        raise ValueError(f"{field}: expected a list of function signatures, got {type(tools).__name__}")
    return tuple(_parse_tool(one, f"{field}[{i}]") for i, one in enumerate(tools))


def _parse_tool(value: Any, field: str) -> dict[str, Any]:
    inner = value.get("function", value) if isinstance(value, Mapping) else None
    if not isinstance(inner, Mapping) or not isinstance(inner.get("name"), str):
        raise ValueError(f"{field}: expected a function signature with a name, got {value!r:.80}")
    return {"type": "function", "function": dict(inner)}


def tool_calls_text(calls: Sequence[Mapping[str, Any]]) -> str:
    """Calls as text for templates without tool calls: one JSON object in `<tool_call>` tags each."""
    bodies = [json.dumps(call.get("function", call), ensure_ascii=False) for call in calls]
    return "\n".join(f"<tool_call>\n{body}\n</tool_call>" for body in bodies)


def tools_text(tools: Sequence[Mapping[str, Any]]) -> str:
    """Signatures as text for templates without tools: one JSON object per line, and how to call."""
    if not tools:
        return ""
    lines = "\n".join(json.dumps(tool.get("function", tool), ensure_ascii=False) for tool in tools)
    return (
        f"You can call these functions:\n<tools>\n{lines}\n</tools>\nTo call one, answer with its name and arguments:\n"
        '<tool_call>\n{"name": ..., "arguments": {...}}\n</tool_call>'
    )


def message_text(message: Message) -> str:
    """A message as one text, including its tool calls and tools."""
    calls = tool_calls_text(message.tool_calls)
    body = "\n".join(part for part in (message.content, calls) if part)
    return "\n\n".join(part for part in (body, tools_text(message.tools)) if part)


def add_system_and_tools(messages: Messages, system: Any, tools: Any) -> Messages:
    """Add the columns `system` and `tools`, which some data sets have beside the turns, to the system turn.

    Chat templates write the tools in their model's format; one without tools gets them as text.
    """
    if system and not isinstance(system, str):
        raise ValueError(f"system: expected text, got {type(system).__name__}")
    all_tools, parts = parse_tools(tools), [system] if system else []
    if not all_tools and not parts:
        return messages
    if messages and messages[0].role == "system":
        parts = [part for part in (messages[0].content, *parts) if part]
        all_tools = (*messages[0].tools, *all_tools)
        messages = messages[1:]
    return (Message("system", "\n\n".join(parts), tools=all_tools), *messages)


def parse_json(text: str, field: str, expected: str) -> Any:
    """The value of a JSON text."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{field}: expected {expected} as JSON, got text that is not ({error.msg})") from None
