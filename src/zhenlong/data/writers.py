"""Records as rows of common formats, for other programs; the inverse of `row_formats.py`.

A row is written only if reading it gives the same record: what a format cannot represent (a tool call in FLAN, a third
response in a pair) is an error, so nothing is lost silently. Rankings of more than two responses become all their pairs
in pairwise formats.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Final

from zhenlong.data.message_parsing import message_text
from zhenlong.data.row_formats import convert_row, detect_format
from zhenlong.records import Demonstration, Document, Message, Messages, Ranking, Rating, Record, to_json

JsonRow = dict[str, Any]


@dataclass(frozen=True)
class RowWriter:
    """How records of a kind (None: any) become rows; `split` gives the records that the rows represent."""

    kind: type[Record] | None
    to_row: Callable[[Any], JsonRow]
    split: Callable[[Any], list[Any]] = lambda record: [record]


def iter_record_rows(record: Record, to: str) -> Iterator[JsonRow]:
    """The rows of format `to` for a record. Raises `ValueError` if the format cannot represent it."""
    writer = WRITERS[to]
    for part in writer.split(record):
        row = writer.to_row(part)
        _require_round_trip(part, row, to)
        yield row


def _require_round_trip(record: Record, row: JsonRow, to: str) -> None:
    row_format = detect_format(row)
    if row_format is None:
        raise ValueError(f"{to}: the row would be of no known format; it has {', '.join(row)}")
    try:
        found = convert_row(row_format, row, type(record))
    except (ValueError, StopIteration) as error:
        raise ValueError(f"{to}: the row would be read as {row_format} instead: {error}") from None
    if found != [record]:
        names = [one.name for one in fields(record) if getattr(found[0], one.name) != getattr(record, one.name)]
        raise ValueError(f"{to} cannot hold the record's {' and '.join(names) or 'rows'}; choose another format")


def _messages_row(record: Demonstration) -> JsonRow:
    head, turns = _without_tools(record.messages)
    return {"messages": [_openai_message(turn) for turn in turns], **head, **record.meta}


def _without_tools(messages: Messages) -> tuple[JsonRow, Messages]:
    """The column of tools, if there are any, and the turns without them."""
    first = messages[0]
    if not first.tools:
        return {}, messages
    system = (replace(first, tools=()),) if first.content else ()
    return {"tools": list(first.tools)}, (*system, *messages[1:])


def _openai_message(message: Message) -> JsonRow:
    row: JsonRow = {"role": message.role, "content": message.content}
    return row | {"tool_calls": list(message.tool_calls)} if message.tool_calls else row


def _sharegpt_row(record: Demonstration) -> JsonRow:
    head, turns = _without_tools(record.messages)
    head = {name: json.dumps(value, ensure_ascii=False) for name, value in head.items()}
    system = {"system": turns[0].content} if turns[0].role == "system" else {}
    conversation = [one for turn in turns[len(system) :] for one in _sharegpt_turns(turn)]
    return {"conversations": conversation, **system, **head, **record.meta}


def _sharegpt_turns(message: Message) -> list[JsonRow]:
    speakers = {"user": "human", "assistant": "gpt", "tool": "observation", "system": "system"}
    if not message.tool_calls:
        return [{"from": speakers[message.role], "value": message.content}]
    if message.content:
        raise ValueError("sharegpt cannot hold text beside a function call; choose messages or zhenlong")
    calls = [call["function"] for call in message.tool_calls]
    return [{"from": "function_call", "value": json.dumps(calls[0] if len(calls) == 1 else calls, ensure_ascii=False)}]


def _alpaca_row(record: Demonstration) -> JsonRow:
    head, turns = _without_tools(record.messages)
    system = {"system": turns[0].content} if turns[0].role == "system" else {}
    rest = turns[len(system) :]
    roles = ["user", "assistant"] * (len(rest) // 2)
    if [turn.role for turn in rest] != roles or any(turn.tool_calls for turn in rest):
        raise ValueError("alpaca holds alternating user and assistant turns without calls; choose messages or zhenlong")
    pairs = [[user.content, assistant.content] for user, assistant in zip(rest[::2], rest[1::2], strict=True)]
    row = {"instruction": pairs[-1][0], "input": "", "output": pairs[-1][1], **system, **head}
    return row | ({"history": pairs[:-1]} if pairs[1:] else {}) | dict(record.meta)


def _prompt_completion_row(record: Demonstration) -> JsonRow:
    head, turns = _without_tools(record.messages)
    return {
        "prompt": [_openai_message(one) for one in turns[:-1]],
        "completion": [_openai_message(turns[-1])],
        **head,
        **record.meta,
    }


def _flan_row(record: Demonstration) -> JsonRow:
    user, assistant = record.messages[-2:] if len(record.messages) > 1 else (record.messages[0], record.messages[0])
    return {"inputs": user.content, "targets": message_text(assistant), **record.meta}


def _split_into_pairs(record: Ranking) -> list[Ranking]:
    texts = record.responses
    pairs = [(texts[chosen], texts[rejected]) for chosen, rejected in record.pairs()]
    return [replace(record, responses=pair, ranks=(1, 2)) for pair in pairs]


def _trl_preference_row(record: Ranking) -> JsonRow:
    head, turns = _without_tools(record.prompt)
    chosen, rejected = ([{"role": "assistant", "content": text}] for text in record.responses)
    row = {"prompt": [_openai_message(one) for one in turns], "chosen": chosen, "rejected": rejected}
    return {**row, **head, **_annotation_columns(record), **record.meta}


def _annotation_columns(record: Ranking) -> JsonRow:
    columns = {"strength": record.strength, "annotator": record.annotator}
    return {name: value for name, value in columns.items() if value is not None}


def _ranked_responses_row(record: Ranking) -> JsonRow:
    head, turns = _without_tools(record.prompt)
    row = {
        "prompt": [_openai_message(one) for one in turns],
        "responses": list(record.responses),
        "ranks": list(record.ranks),
    }
    return {**row, **head, **_annotation_columns(record), **record.meta}


def _with_dense_ranks(record: Ranking) -> list[Ranking]:
    """The ranking with dense ranks 1, 2, 3, …, as they are read from a row."""
    order = sorted(set(record.ranks))
    return [replace(record, ranks=tuple(order.index(rank) + 1 for rank in record.ranks))]


def _trl_unpaired_row(record: Rating) -> JsonRow:
    head, turns = _without_tools(record.prompt)
    completion = [{"role": "assistant", "content": record.response}]
    return {
        "prompt": [_openai_message(one) for one in turns],
        "completion": completion,
        "label": record.desirable,
        **head,
    } | dict(record.meta)


def _text_row(record: Document) -> JsonRow:
    return {"text": record.text} | ({"source": record.source} if record.source else {})


WRITERS: Final[Mapping[str, RowWriter]] = {
    "zhenlong": RowWriter(None, to_json),
    "messages": RowWriter(Demonstration, _messages_row),
    "sharegpt": RowWriter(Demonstration, _sharegpt_row),
    "alpaca": RowWriter(Demonstration, _alpaca_row),
    "prompt_completion": RowWriter(Demonstration, _prompt_completion_row),
    "flan": RowWriter(Demonstration, _flan_row),
    "trl_preference": RowWriter(Ranking, _trl_preference_row, _split_into_pairs),
    "kwise": RowWriter(Ranking, _ranked_responses_row, _with_dense_ranks),
    "trl_unpaired": RowWriter(Rating, _trl_unpaired_row),
    "text": RowWriter(Document, _text_row),
}
