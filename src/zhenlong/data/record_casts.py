"""Casting a record to another kind where that is common practice: a preference's chosen side as a demonstration."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from zhenlong.data.message_parsing import message_text
from zhenlong.records import Demonstration, Document, Message, Ranking, Rating, Record, Task


def can_cast(source: type[Record], target: type[Record]) -> bool:
    """Whether a record of kind `source` can be read as `target`."""
    return source is target or (source, target) in _CASTS


def cast_record(record: Record, target: type[Record]) -> list[Record]:
    """`record` as records of `target`: unchanged, or cast as `can_cast` allows."""
    return [record] if type(record) is target else _CASTS[type(record), target](record)


def _best_demonstration(ranking: Ranking) -> list[Record]:
    best = ranking.responses[ranking.ranks.index(min(ranking.ranks))]
    return [Demonstration((*ranking.prompt, Message("assistant", best)), meta=ranking.meta)]


def _best_and_worst_ratings(ranking: Ranking) -> list[Record]:
    """The best responses as desirable and the worst as undesirable; those between are omitted."""
    labels = {min(ranking.ranks): True, max(ranking.ranks): False}
    pairs = zip(ranking.responses, ranking.ranks, strict=True)
    return [Rating(ranking.prompt, text, labels[rank], ranking.meta) for text, rank in pairs if rank in labels]


def _prompt_task(record: Ranking | Rating) -> list[Record]:
    return [Task(record.prompt, meta=record.meta)]


def _last_turn_task(demonstration: Demonstration) -> list[Record]:
    """The conversation before the assistant's last turn, with that turn as the reference and no verifier."""
    turns = demonstration.messages
    last = max(i for i, message in enumerate(turns) if message.role == "assistant")
    return [Task(turns[:last], message_text(turns[last]), meta=demonstration.meta)]


def _conversation_document(demonstration: Demonstration) -> list[Record]:
    """The turns without markup, separated by blank lines: instruction data for the end of pretraining."""
    return [Document("\n\n".join(map(message_text, demonstration.messages)), demonstration.source)]


_CASTS: Final[dict[tuple[type, type], Callable[[Any], list[Record]]]] = {
    (Ranking, Demonstration): _best_demonstration,
    (Ranking, Rating): _best_and_worst_ratings,
    (Ranking, Task): _prompt_task,
    (Rating, Task): _prompt_task,
    (Demonstration, Task): _last_turn_task,
    (Demonstration, Document): _conversation_document,
}
