"""`read`: the records of a kind out of any source, with every bad row named by its place or counted and listed."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar, cast

from zhenlong.data.blend import sources_alone
from zhenlong.data.files import Row
from zhenlong.data.formats import FORMATS, Format, convert, detect, kinds
from zhenlong.data.sources import rows_of
from zhenlong.errors import UserError
from zhenlong.records import Record

K = TypeVar("K", bound=Record)


@dataclass(frozen=True)
class BadRow:
    """A row that was left out on request: where it is, and what is wrong with it."""

    place: str
    problem: str


def read(
    specs: str | Sequence[str],
    kind: type[K],
    *,
    skip_bad_rows: bool = False,
    limit: int | None = None,
    skipped: list[BadRow] | None = None,
) -> list[K]:
    """All records of `kind` that one source or several give, in file order (`sources.rows_of` says what a source is).

    `limit` stops after that many records of each source. With `skip_bad_rows` a bad row is left out and appended to
    `skipped`; without a list to append to, a warning says how many there were. Otherwise it is a `UserError` naming
    file, line and field.
    """
    records: list[Record] = []
    for spec in sources_alone(specs):
        records += _read_source(spec, cast(Any, kind), skip_bad_rows, limit, skipped)
    return cast(list[K], records)


def _read_source(
    spec: str, kind: type[Record], skip_bad_rows: bool, limit: int | None, skipped: list[BadRow] | None
) -> list[Record]:
    bad: list[BadRow] = []
    records = list(islice(stream(spec, kind, bad=bad if skip_bad_rows else None, limit=limit), limit))
    if not records:
        first = f"; the first: {bad[0].place}: {bad[0].problem}" if bad else ""
        raise UserError(f"{spec}: no usable rows, expected at least one{first}")
    if skipped is not None:
        skipped.extend(bad)
    elif bad:
        warnings.warn(
            f"{spec}: {len(bad)} bad rows left out; the first: {bad[0].place}: {bad[0].problem}", stacklevel=2
        )
    return records


def stream(
    spec: str, kind: type[Record], *, bad: list[BadRow] | None = None, limit: int | None = None
) -> Iterator[Record]:
    """The records one by one. Bad rows are appended to `bad`, or raise `UserError` where it is None."""
    return (record for _, record in placed(spec, kind, bad=bad, limit=limit))


def placed(
    spec: str, kind: type[Record] | None = None, *, bad: list[BadRow] | None = None, limit: int | None = None
) -> Iterator[tuple[str, Record]]:
    """The records as in `stream`, each with the place of its row; without `kind` as what their format is for."""
    first: tuple[Format, str] | None = None
    for row in rows_of(spec, limit):
        form = None if row.problem else detect(row.fields)
        if form and first is None:
            first = form, row.place
            kind = kind or next(iter(form.gives))
            _require_kind(spec, form, kind)
        try:
            expected = _one_format(row, form, first)
            found = convert(expected, row.fields, kind or next(iter(expected.gives)))
        except ValueError as error:
            problem = " ".join(str(error).split())
            if bad is None:
                raise UserError(f"{row.place}: {problem}") from None
            bad.append(BadRow(row.place, problem))
        else:
            yield from ((row.place, record) for record in found)


def _require_kind(spec: str, form: Format, kind: type[Record]) -> None:
    given = kinds(form)
    if kind not in given:
        names = ", ".join(k.__name__ for k in given)
        raise UserError(f"{spec}: {form} rows cannot be read as {kind.__name__}; they give {names}")


def _one_format(row: Row, form: Format | None, first: tuple[Format, str] | None) -> Format:
    """The format to convert a row by: the one of the whole source. Raises `ValueError` for a row that has another."""
    if row.problem:
        raise ValueError(row.problem)
    if first is None:
        fields = ", ".join(row.fields) or "none"
        raise ValueError(f"no known row format has the fields {fields}; expected those of one, such as {_EXAMPLES}")
    expected, place = first
    if form is expected:
        return expected
    missing = [name for name in expected.fields if row.fields.get(name) is None]
    lesser = form is not None and set(form.fields) < set(expected.fields)
    if form is None or lesser or (not missing and FORMATS.index(form) > FORMATS.index(expected)):
        if missing:
            raise ValueError(f"{missing[0]}: missing; expected a row of {expected}")
        return expected  # it has the fields, but a value that does not fit: the converter says which
    raise ValueError(f"the row is {form}, but {place} is {expected}; expected one format in a source")


_EXAMPLES = "messages; instruction, output; prompt, chosen, rejected; prompt, completion, label; question, answer; text"
