"""`zhenlong data contamination`: which training rows hold what an evaluation asks."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from rich.box import SIMPLE_HEAD
from rich.table import Table

from zhenlong.data.blend import parse_blend, sources_alone
from zhenlong.data.overlap import COMMON, Hit, Item, N, hits, index
from zhenlong.data.reader import placed
from zhenlong.errors import UserError
from zhenlong.evaluate.comparison.compare import console
from zhenlong.evaluate.scenarios import instances_of, scenario
from zhenlong.loop.atomic import write_json
from zhenlong.records import Demonstration, Document, Messages, Ranking, Rating, Record, Task

SHOWN: Final = 20  # hits that the terminal lists


@dataclass(frozen=True)
class Contamination:
    """What one evaluation and the training rows share. `common`: n-grams of too many items, which do not count."""

    evaluation: str
    items: int
    rows: int
    common: int
    hits: tuple[Hit, ...]

    @property
    def items_hit(self) -> int:
        """Items that some training row holds."""
        return len({hit.item for hit in self.hits})

    @property
    def rows_hit(self) -> int:
        """Training rows that hold something of the evaluation."""
        return len({hit.row for hit in self.hits})


def contamination(
    *, train: str, evaluation: str, n: int = N, common: int = COMMON, limit: int = 0, output: str = ""
) -> None:
    """Find the training rows that hold what an evaluation asks: n words in a row, or the question itself.

    Args:
        train: Training data, as for training: several sources with commas.
        evaluation: Scenarios by name, or files of tasks, demonstrations and so on; several with commas.
        n: Words in a row that count as an overlap.
        common: Items of an evaluation that may share such words; what more of them share is how questions are put.
        limit: Items of each evaluation to take, the first ones; 0 takes all.
        output: JSON file to write every overlap to.

    Returns nothing; the exit code is 0 whatever was found. See docs/data.md.
    """
    if n < 1 or common < 1 or limit < 0:
        raise UserError(
            f"contamination: expected n and common above 0, and limit 0 or more, got {n}, {common}, {limit}"
        )
    rows = [(place, texts_of(record)) for one in parse_blend(train).sources for place, record in placed(one.spec)]
    found = [against(name, items_of(name, limit), rows, n, common) for name in sources_alone(evaluation)]
    if output:
        every = [asdict(one) | {"items_hit": one.items_hit, "rows_hit": one.rows_hit} for one in found]
        write_json(Path(output), {"n": n, "evaluations": every})
    _show(found, n)


def against(
    name: str, items: list[Item], rows: list[tuple[str, list[str]]], n: int = N, common: int = COMMON
) -> Contamination:
    """What training rows, each a place and its texts, share with the items of an evaluation."""
    made = index(items, n, common)
    shared = tuple(hit for place, texts in rows for hit in hits(place, texts, made))
    return Contamination(name, len(items), len({place for place, _ in rows}), made.common, shared)


def items_of(name: str, limit: int = 0) -> list[Item]:
    """The items of a scenario, or of a file of records."""
    if not Path(name).exists() and re.fullmatch(r"\w+", name):
        instances = instances_of(scenario(name), limit=limit or None)
        return [Item(one.id, (one.input, *one.turns), one.correct) for one in instances]
    return [item for item, _ in zip(_recorded(name), range(limit or 2**62), strict=False)]


def texts_of(record: Record) -> list[str]:
    """All that a training record says, text by text."""
    match record:
        case Document(text=text):
            return [text]
        case Demonstration(messages=messages):
            return _said(messages)
        case Ranking(prompt=prompt, responses=responses):
            return [*_said(prompt), *responses]
        case Rating(prompt=prompt, response=response):
            return [*_said(prompt), response]
        case Task(prompt=prompt, reference=reference):
            return [*_said(prompt), reference]


def _recorded(spec: str) -> Iterator[Item]:
    """Records as items: what users ask, and all else that is said."""
    for place, record in placed(spec):
        prompt = getattr(record, "prompt", getattr(record, "messages", ()))
        questions = tuple(one.content for one in prompt if one.role == "user")
        rest = [text for text in texts_of(record) if text not in questions]
        yield Item(place, questions or tuple(texts_of(record)), tuple(rest) if questions else ())


def _said(messages: Messages) -> list[str]:
    return [one.content for one in messages if one.content.strip()]


def _show(found: list[Contamination], n: int) -> None:
    screen = console()
    table = Table(
        title=f"Overlaps of {n} words, and equal questions", title_justify="left", box=SIMPLE_HEAD, pad_edge=False
    )
    table.add_column("evaluation", overflow="fold")
    for name in ("items", "in training", "share", "of these equal", "training rows", "of", "left out"):
        table.add_column(name, justify="right")
    for one in found:
        equal = len({hit.item for hit in one.hits if hit.exact})
        share = f"{one.items_hit / one.items:.1%}" if one.items else "-"
        counts: tuple[Any, ...] = (one.items, one.items_hit, share, equal, one.rows_hit, one.rows, one.common)
        table.add_row(one.evaluation, *(f"{count:,}" if isinstance(count, int) else count for count in counts))
    screen.print(table)
    screen.print(f"left out: {n}-grams that too many items share (--common)", style="dim", highlight=False)
    for one in found:
        for hit in one.hits[:SHOWN]:
            how = "the question itself" if hit.exact else f"{hit.shared} overlap{'s' * (hit.shared != 1)}"
            item = hit.item if hit.item.startswith(one.evaluation) else f"{one.evaluation} {hit.item}"
            said = f"{hit.row} - {item}: {how}: {hit.passage}"
            screen.print(said, highlight=False, markup=False, soft_wrap=True)
        if len(one.hits) > SHOWN:
            screen.print(f"... and {len(one.hits) - SHOWN:,} more; --output keeps them all", highlight=False)
