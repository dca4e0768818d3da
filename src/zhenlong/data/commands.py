"""`zhenlong data validate` and `zhenlong data convert`: check data before training, and write it in other formats."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zhenlong.data.mixture_spec import parse_mixture_spec, unweighted_sources
from zhenlong.data.reader import BadRow, iter_located_records
from zhenlong.data.writers import WRITERS, iter_record_rows
from zhenlong.errors import UserError
from zhenlong.records import RECORD_KINDS, Rating, Record


@dataclass(frozen=True)
class SourceCounts:
    """What a source holds: its rows, its records by kind, and what is wrong with the others."""

    spec: str
    rows: int
    records: Mapping[str, int]
    problems: Sequence[BadRow]

    def as_text(self) -> str:
        """Every problem on a line of its own, then the counts."""
        problems = [f"{one.location}: {one.problem}" if one.location else one.problem for one in self.problems]
        counts = ", ".join(f"{count:,} {name}{'s' * (count != 1)}" for name, count in self.records.items())
        return "\n".join(
            [*problems, f"{self.spec}: {counts or 'no records'} in {self.rows:,} rows, {_count(problems)}"]
        )


@dataclass(frozen=True)
class DataValidation:
    """What `validate` found in each source; the command exits with 2 where there is a problem."""

    sources: tuple[SourceCounts, ...]

    @property
    def problems(self) -> list[BadRow]:
        """The problems of all sources."""
        return [problem for one in self.sources for problem in one.problems]

    @property
    def exit_code(self) -> int:
        """2 where there is a problem, as for every mistake in the data."""
        return 2 if self.problems else 0

    def as_text(self) -> str:
        """What the command line prints."""
        advice = [f"{_count(self.problems)} in the data; fix them, or use --skip_bad_rows"] if self.problems else []
        return "\n".join([*(one.as_text() for one in self.sources), *advice])


def _count(problems: Sequence[object]) -> str:
    return f"{len(problems):,} problem{'s' * (len(problems) != 1)}"


def validate(sources: str, *, kind: str = "") -> DataValidation:
    """Validate data: find every problem, with file and line; exit code 2 if there is any.

    Args:
        sources: Files, hf:owner/name or world:<kind>, as for training: several with commas, weights and other options.
        kind: Kind to read it as: document, demonstration, ranking, rating or task; by default the format's own.
    """
    found = []
    for one in parse_mixture_spec(sources).sources:
        bad: list[BadRow] = []
        row_count, kinds = _count_records(one.spec, record_kind(kind), bad)
        found.append(SourceCounts(one.spec, row_count, kinds, bad))
    return DataValidation(tuple(found))


def convert(source: str, *, to: str, output: str, kind: str = "", skip_bad_rows: bool = False, limit: int = 0) -> Path:
    """Write data in another format, one JSON object per line.

    A row that the format cannot represent is an error that names it, so nothing is lost. Returns the file.

    Args:
        source: A file, hf:owner/name or world:<kind>; several with commas.
        to: Format: zhenlong, or messages, sharegpt, alpaca, prompt_completion or flan for demonstrations,
            trl_preference or kwise for rankings, trl_unpaired for ratings, text for documents.
        output: File to write, ending in .jsonl.
        kind: For zhenlong, the kind to read it as: document, demonstration, ranking, rating or task; by default its
            own.
        skip_bad_rows: Skip rows that cannot be read or represented, and report how many.
        limit: Maximum number of records per source; 0 for all.
    """
    if to not in WRITERS:
        raise UserError(f"--to {to}: unknown format; expected one of {', '.join(WRITERS)}")
    if not output.endswith(".jsonl"):
        raise UserError(f"--output {output}: expected a name that ends in .jsonl")
    required_kind = WRITERS[to].kind
    if kind and required_kind:
        raise UserError(f"--kind {kind}: {to} rows are {required_kind.__name__}s; omit the option")
    bad: list[BadRow] | None = [] if skip_bad_rows else None
    written, temporary = 0, Path(f"{output}.partial")
    try:
        temporary.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("w", encoding="utf-8") as file:
            for spec in unweighted_sources(source):
                for row in _converted_rows(spec, to, required_kind or record_kind(kind), bad, limit or None):
                    file.write(json.dumps(row, ensure_ascii=False) + "\n")
                    written += 1
        if not written:
            raise UserError(f"{source}: nothing to write; no row can be represented as {to}")
        os.replace(temporary, output)
    except OSError as error:
        raise UserError(f"{output}: cannot be written ({error.strerror})") from None
    finally:
        temporary.unlink(missing_ok=True)
    for one in bad or ():
        print(f"left out: {one.location}: {one.problem}")
    print(f"{written:,} rows of {to}" + (f", {len(bad):,} skipped" if bad else ""))
    return Path(output)


def record_kind(name: str) -> type[Record] | None:
    """The record kind with this name, None for an empty name. Raises `UserError` for another."""
    if name and name not in RECORD_KINDS:
        raise UserError(f"--kind {name}: unknown; expected one of {', '.join(RECORD_KINDS)}")
    return RECORD_KINDS[name] if name else None


def _count_records(spec: str, kind: type[Record] | None, bad: list[BadRow]) -> tuple[int, dict[str, int]]:
    """Rows, and records by kind; problems are appended to `bad`, those of the whole source last."""
    places: set[str] = set()
    kinds: dict[str, int] = {}
    labels: set[bool] = set()
    try:
        for place, record in iter_located_records(spec, kind, bad=bad):
            places.add(place)
            name = type(record).__name__.lower()
            kinds[name] = kinds.get(name, 0) + 1
            if isinstance(record, Rating):
                labels.add(record.desirable)
    except UserError as error:  # nothing more can be read: the file's structure is broken
        bad.append(BadRow("", str(error)))
    places |= {one.location for one in bad if one.location}
    if len(labels) == 1:
        word = "desirable" if labels == {True} else "undesirable"
        bad.append(BadRow(spec, f"label: every response is {word}; expected some of both"))
    if not places and not bad:
        bad.append(BadRow(spec, "no rows, expected at least one"))
    return len(places), kinds


def _converted_rows(
    spec: str, to: str, kind: type[Record] | None, bad: list[BadRow] | None, limit: int | None
) -> Iterator[dict[str, Any]]:
    taken = 0
    for place, record in iter_located_records(spec, kind, bad=bad, limit=limit):
        try:
            rows = list(iter_record_rows(record, to))
        except ValueError as error:
            if bad is None:
                raise UserError(f"{place}: {error}") from None
            bad.append(BadRow(place, str(error)))
            continue
        yield from rows
        taken += 1
        if taken == limit:
            return
