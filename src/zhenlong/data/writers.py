"""Records as rows of the field's formats, for other programs to read; the inverse of `formats.py`.

A row is written only if reading it gives the very record again: what a format cannot hold (a tool call in FLAN, a third
response in a pair) is an error that says so, never lost on the way. Preferences of more than two responses become all
their pairs where the format has pairs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Final

from zhenlong.data.chats import spoken
from zhenlong.data.formats import convert, detect
from zhenlong.records import Demonstration, Document, Message, Messages, Ranking, Rating, Record, to_json

Row = dict[str, Any]


@dataclass(frozen=True)
class Writer:
    """How records of a kind (None: of any) become rows; `parts` says what the records of the rows are."""

    kind: type[Record] | None
    row: Callable[[Any], Row]
    parts: Callable[[Any], list[Any]] = lambda record: [record]


def rows_of_record(record: Record, to: str) -> Iterator[Row]:
    """The rows of format `to` that hold a record. Raises `ValueError` for one that it cannot hold."""
    writer = WRITERS[to]
    for part in writer.parts(record):
        row = writer.row(part)
        _require_same(part, row, to)
        yield row


def _require_same(record: Record, row: Row, to: str) -> None:
    form = detect(row)
    if form is None:
        raise ValueError(f"{to}: the row would be of no known format; it has {', '.join(row)}")
    try:
        found = convert(form, row, type(record))
    except (ValueError, StopIteration) as error:
        raise ValueError(f"{to}: the row would be read as {form} and not as it is: {error}") from None
    if found != [record]:
        names = [one.name for one in fields(record) if getattr(found[0], one.name) != getattr(record, one.name)]
        raise ValueError(f"{to} cannot hold the record's {' and '.join(names) or 'rows'}; choose another format")


def _messages(record: Demonstration) -> Row:
    head, turns = _without_tools(record.messages)
    return {"messages": [_openai(turn) for turn in turns], **head, **record.meta}


def _without_tools(messages: Messages) -> tuple[Row, Messages]:
    """The column of tools, where there are any, and the turns without them."""
    first = messages[0]
    if not first.tools:
        return {}, messages
    system = (replace(first, tools=()),) if first.content else ()
    return {"tools": list(first.tools)}, (*system, *messages[1:])


def _openai(message: Message) -> Row:
    row: Row = {"role": message.role, "content": message.content}
    return row | {"tool_calls": list(message.tool_calls)} if message.tool_calls else row


def _sharegpt(record: Demonstration) -> Row:
    head, turns = _without_tools(record.messages)
    head = {name: json.dumps(value, ensure_ascii=False) for name, value in head.items()}
    system = {"system": turns[0].content} if turns[0].role == "system" else {}
    said = [one for turn in turns[len(system) :] for one in _sharegpt_turns(turn)]
    return {"conversations": said, **system, **head, **record.meta}


def _sharegpt_turns(message: Message) -> list[Row]:
    speakers = {"user": "human", "assistant": "gpt", "tool": "observation", "system": "system"}
    if not message.tool_calls:
        return [{"from": speakers[message.role], "value": message.content}]
    if message.content:
        raise ValueError("sharegpt cannot hold words beside a function call; choose messages or zhenlong")
    calls = [call["function"] for call in message.tool_calls]
    return [{"from": "function_call", "value": json.dumps(calls[0] if len(calls) == 1 else calls, ensure_ascii=False)}]


def _alpaca(record: Demonstration) -> Row:
    head, turns = _without_tools(record.messages)
    system = {"system": turns[0].content} if turns[0].role == "system" else {}
    rest = turns[len(system) :]
    roles = ["user", "assistant"] * (len(rest) // 2)
    if [turn.role for turn in rest] != roles or any(turn.tool_calls for turn in rest):
        raise ValueError("alpaca holds questions and answers in turn, and no calls; choose messages or zhenlong")
    pairs = [[asked.content, answered.content] for asked, answered in zip(rest[::2], rest[1::2], strict=True)]
    row = {"instruction": pairs[-1][0], "input": "", "output": pairs[-1][1], **system, **head}
    return row | ({"history": pairs[:-1]} if pairs[1:] else {}) | dict(record.meta)


def _prompt_completion(record: Demonstration) -> Row:
    head, turns = _without_tools(record.messages)
    return {"prompt": [_openai(one) for one in turns[:-1]], "completion": [_openai(turns[-1])], **head, **record.meta}


def _flan(record: Demonstration) -> Row:
    asked, answered = record.messages[-2:] if len(record.messages) > 1 else (record.messages[0], record.messages[0])
    return {"inputs": asked.content, "targets": spoken(answered), **record.meta}


def _pairs(record: Ranking) -> list[Ranking]:
    texts = record.responses
    pairs = [(texts[better], texts[worse]) for better, worse in record.pairs()]
    return [replace(record, responses=pair, ranks=(1, 2)) for pair in pairs]


def _trl_preference(record: Ranking) -> Row:
    head, turns = _without_tools(record.prompt)
    chosen, rejected = ([{"role": "assistant", "content": said}] for said in record.responses)
    row = {"prompt": [_openai(one) for one in turns], "chosen": chosen, "rejected": rejected}
    return {**row, **head, **_told(record), **record.meta}


def _told(record: Ranking) -> Row:
    told = {"strength": record.strength, "annotator": record.annotator}
    return {name: value for name, value in told.items() if value is not None}


def _kwise(record: Ranking) -> Row:
    head, turns = _without_tools(record.prompt)
    row = {"prompt": [_openai(one) for one in turns], "responses": list(record.responses), "ranks": list(record.ranks)}
    return {**row, **head, **_told(record), **record.meta}


def _dense(record: Ranking) -> list[Ranking]:
    """The ranking with ranks 1, 2, 3 and so on, which is how those of a row are read."""
    order = sorted(set(record.ranks))
    return [replace(record, ranks=tuple(order.index(rank) + 1 for rank in record.ranks))]


def _trl_unpaired(record: Rating) -> Row:
    head, turns = _without_tools(record.prompt)
    said = [{"role": "assistant", "content": record.response}]
    return {"prompt": [_openai(one) for one in turns], "completion": said, "label": record.desirable, **head} | dict(
        record.meta
    )


def _text(record: Document) -> Row:
    return {"text": record.text} | ({"source": record.source} if record.source else {})


WRITERS: Final[Mapping[str, Writer]] = {
    "zhenlong": Writer(None, to_json),
    "messages": Writer(Demonstration, _messages),
    "sharegpt": Writer(Demonstration, _sharegpt),
    "alpaca": Writer(Demonstration, _alpaca),
    "prompt_completion": Writer(Demonstration, _prompt_completion),
    "flan": Writer(Demonstration, _flan),
    "trl_preference": Writer(Ranking, _trl_preference, _pairs),
    "kwise": Writer(Ranking, _kwise, _dense),
    "trl_unpaired": Writer(Rating, _trl_unpaired),
    "text": Writer(Document, _text),
}
