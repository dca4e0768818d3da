"""One record as another kind, where the field does the same: a preference's chosen side as a demonstration."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from zhenlong.data.chats import spoken
from zhenlong.records import Demonstration, Document, Message, Ranking, Rating, Record, Task


def derivable(given: type[Record], kind: type[Record]) -> bool:
    """Whether a record of kind `given` can be read as `kind`."""
    return given is kind or (given, kind) in _DERIVATIONS


def derive(record: Record, kind: type[Record]) -> list[Record]:
    """`record` as records of `kind`: itself, or what `derivable` allows."""
    return [record] if type(record) is kind else _DERIVATIONS[type(record), kind](record)


def _chosen(ranking: Ranking) -> list[Record]:
    best = ranking.responses[ranking.ranks.index(min(ranking.ranks))]
    return [Demonstration((*ranking.prompt, Message("assistant", best)), meta=ranking.meta)]


def _thumbs(ranking: Ranking) -> list[Record]:
    """The best responses up and the worst down; those between are neither."""
    ends = {min(ranking.ranks): True, max(ranking.ranks): False}
    pairs = zip(ranking.responses, ranking.ranks, strict=True)
    return [Rating(ranking.prompt, text, ends[rank], ranking.meta) for text, rank in pairs if rank in ends]


def _prompt_only(record: Ranking | Rating) -> list[Record]:
    return [Task(record.prompt)]


def _last_turn(demonstration: Demonstration) -> list[Record]:
    """The conversation up to the assistant's last turn, with that turn as the reference and no verifier."""
    turns = demonstration.messages
    last = max(i for i, message in enumerate(turns) if message.role == "assistant")
    return [Task(turns[:last], spoken(turns[last]))]


def _as_text(demonstration: Demonstration) -> list[Record]:
    """The turns without markup, a blank line between them: instruction data for the end of pretraining."""
    return [Document("\n\n".join(map(spoken, demonstration.messages)), demonstration.source)]


_DERIVATIONS: Final[dict[tuple[type, type], Callable[[Any], list[Record]]]] = {
    (Ranking, Demonstration): _chosen,
    (Ranking, Rating): _thumbs,
    (Ranking, Task): _prompt_only,
    (Rating, Task): _prompt_only,
    (Demonstration, Task): _last_turn,
    (Demonstration, Document): _as_text,
}
