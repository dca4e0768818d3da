"""Parsing of tool calls: Python call syntax, OpenAI's JSON, and Hermes's `<tool_call>` tags.

Text is parsed and never executed: Python as a syntax tree from which only literal values are read.
"""

from __future__ import annotations

import ast
import json
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

_TOOL_CALL_PATTERN: Final = re.compile(r"<tool_call>(.*?)(?:</tool_call>|$)", re.DOTALL)
MAX_CHARACTERS_OF_CALLS: Final = 200_000  # Python's parser takes 0.1 s for as many
_MAX_OPERAND: Final = 10**9  # largest integer operand of arithmetic in an argument
_OPERATORS: Final[dict[type, Callable[[Any, Any], Any]]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}


@dataclass(frozen=True)
class ToolCall:
    """A tool and its arguments by name. `native`: from an interface whose tool names cannot contain dots."""

    name: str
    arguments: Mapping[str, Any]
    native: bool = False


def parse_tool_calls(text: str) -> list[ToolCall]:
    """The calls in a text that consists of calls; empty for an empty list or text. Raises `ValueError` otherwise.

    Formats in order: `<tool_call>{"name": ..., "arguments": {...}}</tool_call>` (text around the tags is allowed);
    JSON, which is one call or a list of them, each `{"function": {"name", "arguments"}}`, `{"name", "arguments"}` or
    `{name: arguments}`, arguments as an object or as JSON text; Python, `[f(a=1), g(b=2)]`.
    """
    if len(text) > MAX_CHARACTERS_OF_CALLS:
        raise ValueError(f"more than {MAX_CHARACTERS_OF_CALLS} characters")
    try:
        return _calls(text)
    except (RecursionError, MemoryError):
        raise ValueError("nested too deeply") from None


def _calls(text: str) -> list[ToolCall]:
    tagged = _TOOL_CALL_PATTERN.findall(text)
    if tagged:
        return [call for one in tagged for call in _json_calls(_load_json(one))]
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return _python_calls(text)
    return _json_calls(value)


def _json_calls(value: Any) -> list[ToolCall]:
    if isinstance(value, dict) and isinstance(value.get("tool_calls"), list):
        value = value["tool_calls"]
    return [_json_call(one) for one in (value if isinstance(value, list) else [value])]


def _json_call(value: Any) -> ToolCall:
    native = isinstance(value, dict) and isinstance(value.get("function"), dict)
    inner = value["function"] if native else value
    if not isinstance(inner, dict):
        raise ValueError(f"expected a call, got {inner!r:.80}")
    if "name" in inner:
        name, arguments = inner["name"], inner.get("arguments", inner.get("parameters", {}))
    elif len(inner) == 1:
        name, arguments = next(iter(inner.items()))
    else:
        raise ValueError("expected a call with a name and arguments")
    if isinstance(arguments, str):
        arguments = _load_json(arguments or "{}")
    if not isinstance(name, str) or not isinstance(arguments, dict):
        raise ValueError(f"expected a name and arguments by name, got {name!r:.80} and {arguments!r:.80}")
    return ToolCall(name, arguments, native)


def _load_json(text: str) -> Any:
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("JSON nested too deeply") from None


def _python_calls(text: str) -> list[ToolCall]:
    """BFCL's prompt mode: missing brackets are added, surrounding backticks and quotes are dropped."""
    text = text.strip("`\n ")
    text = text if text.startswith("[") else "[" + text
    text = text if text.endswith("]") else text + "]"
    try:
        body = ast.parse(text.strip().strip("'"), mode="eval").body
        elements = [body] if isinstance(body, ast.Call) else body.elts  # type: ignore[attr-defined]
        return [_python_call(one) for one in elements]
    except (SyntaxError, AttributeError, TypeError, ArithmeticError) as error:
        raise ValueError(f"not a list of calls: {error}") from None


def _python_call(node: ast.expr) -> ToolCall:
    if not isinstance(node, ast.Call):
        raise ValueError(f"expected a call, got {ast.unparse(node)[:60]}")
    return ToolCall(_dotted_name(node.func), _keyword_arguments(node))


def _keyword_arguments(node: ast.Call) -> dict[str, Any]:
    """The keyword arguments; positional arguments are ignored, as in the official code."""
    return {one.arg or "**": _literal(one.value) for one in node.keywords}


def _dotted_name(node: ast.expr) -> str:
    parts = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join(reversed([*parts, node.id] if isinstance(node, ast.Name) else parts))


def _literal(node: ast.expr) -> Any:
    """The value of an argument's syntax tree. A name, or a call without keyword arguments, is its own source text."""
    if isinstance(node, ast.Constant):
        return "..." if node.value is Ellipsis else node.value
    if isinstance(node, ast.UnaryOp):
        return _unary(node)
    if isinstance(node, ast.BinOp):
        return _arithmetic(node)
    if isinstance(node, ast.List):
        return [_literal(one) for one in node.elts]
    if isinstance(node, ast.Tuple):
        return tuple(_literal(one) for one in node.elts)
    if isinstance(node, ast.Dict):
        if None in node.keys:
            raise ValueError("mapping unpacking (**) is not a value")
        return {_literal(key): _literal(value) for key, value in zip(node.keys, node.values, strict=True) if key}
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Call):
        return {_dotted_name(node.func): _keyword_arguments(node)} if node.keywords else ast.unparse(node)
    if isinstance(node, ast.Subscript):
        return ast.unparse(node)
    raise ValueError(f"not a value: {ast.unparse(node)[:60]}")


def _unary(node: ast.UnaryOp) -> Any:
    value = _literal(node.operand)
    if isinstance(node.op, ast.USub) and isinstance(value, int | float | complex):
        return -value
    if isinstance(node.op, ast.UAdd) and isinstance(value, int | float | complex):
        return value
    raise ValueError(f"not a value: {ast.unparse(node)[:60]}")


def _arithmetic(node: ast.BinOp) -> Any:
    """Arithmetic on plain numbers, such as `2 * 3.5`, bounded in time and memory."""
    left, right = _literal(node.left), _literal(node.right)
    numbers = all(isinstance(one, int | float) and abs(one) <= _MAX_OPERAND for one in (left, right))
    small = not isinstance(node.op, ast.Pow) or (numbers and abs(right) <= 64)
    if type(node.op) not in _OPERATORS or not numbers or not small:
        raise ValueError(f"not a value: {ast.unparse(node)[:60]}")
    return _OPERATORS[type(node.op)](left, right)
