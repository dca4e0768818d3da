"""`zhenlong data contamination`: training rows that contain items of an evaluation."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from rich.box import SIMPLE_HEAD
from rich.table import Table

from zhenlong.data.mixture_spec import parse_mixture_spec, unweighted_sources
from zhenlong.data.ngram_overlap import (
    DEFAULT_MAX_SHARED_ITEMS,
    DEFAULT_NGRAM,
    EvaluationItem,
    OverlapHit,
    build_index,
    find_hits,
)
from zhenlong.data.reader import iter_located_records
from zhenlong.errors import UserError
from zhenlong.evaluate.run.console import wide_console
from zhenlong.evaluate.scenarios import get_scenario, load_instances
from zhenlong.loop.atomic import write_json
from zhenlong.records import Demonstration, Document, Messages, Ranking, Rating, Record, Task

MAX_HITS_SHOWN: Final = 20  # hits that the terminal lists


@dataclass(frozen=True)
class Contamination:
    """Overlaps of one evaluation with the training rows.

    `num_common_ngrams` counts n-grams that occur in too many items and are ignored.
    """

    evaluation: str
    items: int
    rows: int
    num_common_ngrams: int
    hits: tuple[OverlapHit, ...]

    @property
    def contaminated_items(self) -> int:
        """Items that overlap with some training row."""
        return len({hit.item for hit in self.hits})

    @property
    def contaminated_rows(self) -> int:
        """Training rows that overlap with some item."""
        return len({hit.row for hit in self.hits})


def contamination(
    *,
    train: str,
    evaluation: str,
    ngram: int = DEFAULT_NGRAM,
    max_shared_items: int = DEFAULT_MAX_SHARED_ITEMS,
    limit: int = 0,
    output: str = "",
) -> list[Contamination]:
    """Find training rows that share an n-gram of words with an evaluation item, or are the same question.

    Args:
        train: Training data, as for training: one or more sources, separated by commas.
        evaluation: Names of scenarios, or files of records (tasks, demonstrations ...), separated by commas.
        ngram: Length of the overlaps, in words.
        max_shared_items: Maximum number of items that may share an n-gram; more frequent ones are phrasing and are
            ignored.
        limit: Number of items to take from each evaluation; 0: all.
        output: JSON file for all overlaps.

    The exit code is 0 whether or not there are overlaps. See docs/data.md.
    """
    if ngram < 1 or max_shared_items < 1 or limit < 0:
        raise UserError(
            "contamination: expected ngram and max_shared_items above 0, and limit 0 or more, "
            f"got {ngram}, {max_shared_items}, {limit}"
        )
    rows = [
        (place, record_texts(record))
        for one in parse_mixture_spec(train).sources
        for place, record in iter_located_records(one.spec)
    ]
    found = [
        find_contamination(name, items_of(name, limit), rows, ngram, max_shared_items)
        for name in unweighted_sources(evaluation)
    ]
    if output:
        every = [
            asdict(one) | {"contaminated_items": one.contaminated_items, "contaminated_rows": one.contaminated_rows}
            for one in found
        ]
        write_json(Path(output), {"ngram": ngram, "evaluations": every})
    _print_contamination(found, ngram)
    return found


def find_contamination(
    name: str,
    items: list[EvaluationItem],
    rows: list[tuple[str, list[str]]],
    ngram: int = DEFAULT_NGRAM,
    max_shared_items: int = DEFAULT_MAX_SHARED_ITEMS,
) -> Contamination:
    """The overlaps of training rows, each a location and its texts, with the items of an evaluation."""
    ngram_index = build_index(items, ngram, max_shared_items)
    shared = tuple(hit for place, texts in rows for hit in find_hits(place, texts, ngram_index))
    return Contamination(name, len(items), len({place for place, _ in rows}), ngram_index.ignored_ngrams, shared)


def items_of(name: str, limit: int = 0) -> list[EvaluationItem]:
    """The items of a scenario, or of a file of records."""
    if not Path(name).exists() and re.fullmatch(r"\w+", name):
        instances = load_instances(get_scenario(name), limit=limit or None)
        return [EvaluationItem(one.id, (one.input, *one.turns), one.correct_texts) for one in instances]
    return [item for item, _ in zip(_record_items(name), range(limit or 2**62), strict=False)]


def record_texts(record: Record) -> list[str]:
    """All texts of a training record."""
    match record:
        case Document(text=text):
            return [text]
        case Demonstration(messages=messages):
            return _message_texts(messages)
        case Ranking(prompt=prompt, responses=responses):
            return [*_message_texts(prompt), *responses]
        case Rating(prompt=prompt, response=response):
            return [*_message_texts(prompt), response]
        case Task(prompt=prompt, reference=reference):
            return [*_message_texts(prompt), reference]


def _record_items(spec: str) -> Iterator[EvaluationItem]:
    """Records as items: the user's turns as the question, all other text."""
    for place, record in iter_located_records(spec):
        prompt = getattr(record, "prompt", getattr(record, "messages", ()))
        questions = tuple(one.content for one in prompt if one.role == "user")
        rest = [text for text in record_texts(record) if text not in questions]
        yield EvaluationItem(place, questions or tuple(record_texts(record)), tuple(rest) if questions else ())


def _message_texts(messages: Messages) -> list[str]:
    return [one.content for one in messages if one.content.strip()]


def _print_contamination(found: list[Contamination], ngram: int) -> None:
    screen = wide_console()
    table = Table(
        title=f"Overlaps of {ngram} words, and identical questions",
        title_justify="left",
        box=SIMPLE_HEAD,
        pad_edge=False,
    )
    table.add_column("evaluation", overflow="fold")
    for name in ("items", "in training", "share", "of these equal", "training rows", "of", "left out"):
        table.add_column(name, justify="right")
    for one in found:
        equal = len({hit.item for hit in one.hits if hit.exact})
        share = f"{one.contaminated_items / one.items:.1%}" if one.items else "-"
        counts: tuple[Any, ...] = (
            one.items,
            one.contaminated_items,
            share,
            equal,
            one.contaminated_rows,
            one.rows,
            one.num_common_ngrams,
        )
        table.add_row(one.evaluation, *(f"{count:,}" if isinstance(count, int) else count for count in counts))
    screen.print(table)
    screen.print(f"ignored: {ngram}-grams that too many items share (--max_shared_items)", style="dim", highlight=False)
    for one in found:
        for hit in one.hits[:MAX_HITS_SHOWN]:
            how = "the question itself" if hit.exact else f"{hit.shared_ngrams} overlap{'s' * (hit.shared_ngrams != 1)}"
            item = hit.item if hit.item.startswith(one.evaluation) else f"{one.evaluation} {hit.item}"
            said = f"{hit.row} - {item}: {how}: {hit.passage}"
            screen.print(said, highlight=False, markup=False, soft_wrap=True)
        if len(one.hits) > MAX_HITS_SHOWN:
            screen.print(f"... and {len(one.hits) - MAX_HITS_SHOWN:,} more; --output keeps them all", highlight=False)
