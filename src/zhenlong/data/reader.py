"""`read`: all records of one kind from any source; bad rows are errors that name their location, or are skipped."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar, cast

from zhenlong.data.files import RawRow
from zhenlong.data.mixture_spec import unweighted_sources
from zhenlong.data.row_formats import ROW_FORMATS, RowFormat, convert_row, detect_format, readable_kinds
from zhenlong.data.sources import iter_source_rows
from zhenlong.errors import UserError
from zhenlong.records import Record

RecordT = TypeVar("RecordT", bound=Record)


@dataclass(frozen=True)
class BadRow:
    """A skipped row: its location and its problem."""

    location: str
    problem: str


def read(
    specs: str | Sequence[str],
    kind: type[RecordT],
    *,
    skip_bad_rows: bool = False,
    limit: int | None = None,
    skipped: list[BadRow] | None = None,
) -> list[RecordT]:
    """All records of `kind` in one or several sources, in file order (see `sources.iter_source_rows`).

    `limit` is the maximum number of records per source. With `skip_bad_rows` a bad row is skipped and appended to
    `skipped`; without that list, a warning says how many there were. Otherwise it raises `UserError` naming file, line
    and field.
    """
    records: list[Record] = []
    for spec in unweighted_sources(specs):
        records += _read_source(spec, cast(Any, kind), skip_bad_rows, limit, skipped)
    return cast(list[RecordT], records)


def _read_source(
    spec: str, kind: type[Record], skip_bad_rows: bool, limit: int | None, skipped: list[BadRow] | None
) -> list[Record]:
    bad: list[BadRow] = []
    records = list(islice(iter_records(spec, kind, bad=bad if skip_bad_rows else None, limit=limit), limit))
    if not records:
        first = f"; the first: {bad[0].location}: {bad[0].problem}" if bad else ""
        raise UserError(f"{spec}: no usable rows, expected at least one{first}")
    if skipped is not None:
        skipped.extend(bad)
    elif bad:
        warnings.warn(
            f"{spec}: {len(bad)} bad rows skipped; the first: {bad[0].location}: {bad[0].problem}", stacklevel=2
        )
    return records


def iter_records(
    spec: str, kind: type[Record], *, bad: list[BadRow] | None = None, limit: int | None = None
) -> Iterator[Record]:
    """Yield the records. Bad rows are appended to `bad`, or raise `UserError` if it is None."""
    return (record for _, record in iter_located_records(spec, kind, bad=bad, limit=limit))


def iter_located_records(
    spec: str, kind: type[Record] | None = None, *, bad: list[BadRow] | None = None, limit: int | None = None
) -> Iterator[tuple[str, Record]]:
    """Like `iter_records`, each record with the location of its row; without `kind`, the format's own kind."""
    first: tuple[RowFormat, str] | None = None
    for row in iter_source_rows(spec, limit):
        row_format = None if row.problem else detect_format(row.fields)
        if row_format and first is None:
            first = row_format, row.location
            kind = kind or next(iter(row_format.converters))
            _require_kind(spec, row_format, kind)
        try:
            expected = _require_same_format(row, row_format, first)
            records = convert_row(expected, row.fields, kind or next(iter(expected.converters)))
        except ValueError as error:
            problem = " ".join(str(error).split())
            if bad is None:
                raise UserError(f"{row.location}: {problem}") from None
            bad.append(BadRow(row.location, problem))
        else:
            yield from ((row.location, record) for record in records)


def _require_kind(spec: str, row_format: RowFormat, kind: type[Record]) -> None:
    kinds = readable_kinds(row_format)
    if kind not in kinds:
        names = ", ".join(k.__name__ for k in kinds)
        raise UserError(f"{spec}: {row_format} rows cannot be read as {kind.__name__}; they give {names}")


def _require_same_format(row: RawRow, row_format: RowFormat | None, first: tuple[RowFormat, str] | None) -> RowFormat:
    """The format of a row, which must be that of the whole source. Raises `ValueError` for a row of another format."""
    if row.problem:
        raise ValueError(row.problem)
    if first is None:
        fields = ", ".join(row.fields) or "none"
        raise ValueError(
            f"no known row format has the fields {fields}; expected those of one, such as {_EXAMPLE_FIELDS}"
        )
    expected, location = first
    if row_format is expected:
        return expected
    missing = [name for name in expected.fields if row.fields.get(name) is None]
    has_fewer_fields = row_format is not None and set(row_format.fields) < set(expected.fields)
    if (
        row_format is None
        or has_fewer_fields
        or (not missing and ROW_FORMATS.index(row_format) > ROW_FORMATS.index(expected))
    ):
        if missing:
            raise ValueError(f"{missing[0]}: missing; expected a row of {expected}")
        return expected  # the fields are there, but a value is wrong: the converter reports it
    raise ValueError(f"the row is {row_format}, but {location} is {expected}; expected one format in a source")


_EXAMPLE_FIELDS = (
    "messages; instruction, output; prompt, chosen, rejected; prompt, completion, label; question, answer; text"
)
