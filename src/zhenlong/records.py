"""Records: the frozen dataclasses that all data becomes before it is tokenised.

Readers and the built-in world produce them. On disk a record is one JSON object per line (`to_json`, `from_json`; the
field `kind` names its class). A record validates itself when it is created: a wrong field raises `ValueError` naming
the field and what was expected; the reader adds the file and line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Final, TypeVar

T = TypeVar("T")
ROLES: Final = ("system", "user", "assistant", "tool")
STRENGTHS: Final = {1: "negligibly better", 2: "slightly better", 3: "better", 4: "significantly better"}


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


def map_collecting_errors(function: Callable[..., T], argument_tuples: Iterable[tuple[Any, ...]]) -> list[T]:
    """Call the function with each tuple of arguments. All `ValueError`s are collected into one."""
    results, problems = [], []
    for arguments in argument_tuples:
        try:
            results.append(function(*arguments))
        except ValueError as error:
            problems.append(str(error))
    if problems:
        raise ValueError("; ".join(dict.fromkeys(problems)))
    return results


@dataclass(frozen=True)
class Message:
    """One turn of a conversation.

    `tool_calls` are made by the assistant; `tools`, allowed only in the system turn, are the signatures it may call.
    Both follow the OpenAI schema: `{"type": "function", "function": {...}}`.
    """

    role: str
    content: str
    tool_calls: tuple[dict[str, Any], ...] = ()
    tools: tuple[dict[str, Any], ...] = ()

    def __post_init__(self) -> None:
        _require(self.role in ROLES, f"role: expected one of {', '.join(ROLES)}, got {self.role!r}")
        _require(isinstance(self.content, str), f"content: expected text, got {type(self.content).__name__}")
        object.__setattr__(self, "tool_calls", tuple(self.tool_calls))
        object.__setattr__(self, "tools", tuple(self.tools))
        _require(
            not self.tools or self.role == "system", f"tools: expected them in the system's turn, got {self.role}'s"
        )


Messages = tuple[Message, ...]


@dataclass(frozen=True)
class Document:
    """Plain text for pretraining."""

    text: str
    source: str = ""

    def __post_init__(self) -> None:
        _require(isinstance(self.text, str), f"text: expected text, got {type(self.text).__name__}")
        _require(bool(self.text.strip()), "text: expected some text, got none")


@dataclass(frozen=True)
class Demonstration:
    """A conversation to imitate. The loss is on the assistant's tokens only; there must be at least one."""

    messages: Messages
    source: str = ""
    meta: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "messages", _messages(self.messages, "messages"))
        assistant = [m for m in self.messages if m.role == "assistant"]
        _require(bool(assistant), "messages: expected at least one assistant turn, got none")
        empty = any(not m.content.strip() and not m.tool_calls for m in assistant)
        _require(not empty, "messages: expected text or a tool call in every assistant turn, got an empty one")


@dataclass(frozen=True)
class Ranking:
    """K >= 2 responses to one prompt and their ranks: 1 is best, equal ranks are ties and form no pair.

    `strength`, from 1 (negligibly) to 4 (significantly better), is how much better the best response is than the rest.
    """

    prompt: Messages
    responses: tuple[str, ...]
    ranks: tuple[int, ...]
    strength: int | None = None
    annotator: str | None = None
    edited: bool = False
    meta: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "prompt", _prompt(self.prompt))
        object.__setattr__(self, "responses", tuple(self.responses))
        object.__setattr__(self, "ranks", tuple(int(rank) for rank in self.ranks))
        _require(len(self.responses) >= 2, f"responses: expected at least 2, got {len(self.responses)}")
        one_rank_each = len(self.ranks) == len(self.responses)
        valid_strength = self.strength is None or self.strength in STRENGTHS
        map_collecting_errors(_require, [
            *[(_has_text(response), _missing_text_message(response, "responses")) for response in self.responses],
            (one_rank_each, f"ranks: expected {len(self.responses)}, one for each response, got {len(self.ranks)}"),
            (valid_strength, f"strength: expected 1, 2, 3 or 4, got {self.strength!r}"),
            (len(set(self.ranks)) > 1, "ranks: expected at least one response to be preferred, got all equal"),
        ])  # fmt: skip
        for chosen, rejected in self.pairs():
            distinct = self.responses[chosen] != self.responses[rejected]
            _require(distinct, "responses: expected chosen and rejected to differ, got the same text twice")

    def pairs(self) -> list[tuple[int, int]]:
        """All (chosen, rejected) pairs of response indices; ties form none."""
        return [(i, j) for i, a in enumerate(self.ranks) for j, b in enumerate(self.ranks) if a < b]


@dataclass(frozen=True)
class Rating:
    """One response with a label: desirable or undesirable (KTO)."""

    prompt: Messages
    response: str
    desirable: bool
    meta: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "prompt", _prompt(self.prompt))
        _response(self.response, "response")
        _require(isinstance(self.desirable, bool), f"desirable: expected true or false, got {self.desirable!r}")


@dataclass(frozen=True)
class Task:
    """A prompt whose response can be verified: by `verifier` (name and arguments) against `reference`.

    `meta` holds the row's columns for reward functions: all but a prompt in messages, a text prompt included.
    """

    prompt: Messages
    reference: str = ""
    verifier: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    groups: Mapping[str, str] = field(default_factory=dict)
    meta: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "prompt", _prompt(self.prompt))
        _require(isinstance(self.reference, str), f"reference: expected text, got {type(self.reference).__name__}")


Record = Document | Demonstration | Ranking | Rating | Task
RECORD_KINDS: Final[dict[str, type]] = {
    "document": Document,
    "demonstration": Demonstration,
    "ranking": Ranking,
    "rating": Rating,
    "task": Task,
}


def to_json(record: Record) -> dict[str, Any]:
    """The record as a JSON object; `from_json` is its inverse. Fields with their default value are omitted."""
    row: dict[str, Any] = {"kind": type(record).__name__.lower()}
    for item in fields(record):
        value = getattr(record, item.name)
        if value is None or (value in ((), {}, "", False) and item.name != "desirable"):
            continue
        row[item.name] = [_message_json(m) for m in value] if item.name in ("messages", "prompt") else value
        if isinstance(value, Mapping):
            row[item.name] = dict(value)
        elif isinstance(value, tuple) and item.name not in ("messages", "prompt"):
            row[item.name] = list(value)
    return row


def from_json(row: Mapping[str, Any]) -> Record:
    """The record that a JSON object describes. Raises `ValueError` naming a missing, unknown or wrong field."""
    kind = row.get("kind")
    if kind not in RECORD_KINDS:
        raise ValueError(f"kind: expected one of {', '.join(RECORD_KINDS)}, got {kind!r}")
    record = RECORD_KINDS[str(kind)]
    known = {item.name for item in fields(record)}
    unknown = sorted(set(row) - known - {"kind"})
    _require(not unknown, f"{', '.join(unknown)}: not a field of a {kind}; expected {', '.join(sorted(known))}")
    try:
        return record(**{name: value for name, value in row.items() if name != "kind"})
    except TypeError as error:
        raise ValueError(f"{kind}: {error}") from None


def _message_json(message: Message) -> dict[str, Any]:
    row: dict[str, Any] = {"role": message.role, "content": message.content}
    lists = {"tool_calls": message.tool_calls, "tools": message.tools}
    return row | {name: list(values) for name, values in lists.items() if values}


def _messages(value: Any, name: str) -> Messages:
    is_list = isinstance(value, list | tuple)
    _require(is_list, f"{name}: expected a list of messages, got {type(value).__name__}")
    _require(bool(value), f"{name}: expected at least one message, got none")
    return tuple(m if isinstance(m, Message) else _message(m, name) for m in value)


def _message(value: Any, name: str) -> Message:
    _require(isinstance(value, Mapping), f"{name}: expected objects with role and content, got {type(value).__name__}")
    _require("role" in value, f"{name}: expected a role in every message, got none")
    content = value.get("content")
    calls, tools = (tuple(value.get(name) or ()) for name in ("tool_calls", "tools"))
    return Message(value["role"], "" if content is None else content, calls, tools)


def _prompt(value: Any) -> Messages:
    prompt = _messages(value, "prompt")
    last = prompt[-1].role
    _require(last in ("user", "tool", "system"), f"prompt: expected it to end with the user's turn, got {last}'s")
    return prompt


def _response(value: Any, name: str) -> None:
    _require(_has_text(value), _missing_text_message(value, name))


def _has_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _missing_text_message(value: Any, name: str) -> str:
    if isinstance(value, str):
        return f"{name}: expected some text, got an empty response"
    return f"{name}: expected text, got {type(value).__name__}"
