"""What a file of recorded outputs holds, whatever wrote it: rows of our own fields, each with what identifies it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from zhenlong.data.files import RawRow
from zhenlong.errors import UserError

MAX_NAMES_SHOWN = 5


@dataclass(frozen=True)
class TranscriptRow:
    """One recorded output. It belongs to the instance of its `id`, else of its `document`, else of its `prompt`."""

    location: str
    fields: Mapping[str, Any]  # `output`, `outputs`, `turns`, ... and a judge's verdicts, as in recorded outputs
    id: str | None = None
    prompt: str | None = None  # the request, where the file has no id
    document: Mapping[str, Any] | None = None  # the row of the data set, where the file repeats it
    trial: int | None = None  # the number of the sample or epoch, where the file says it
    baseline: Sequence[str] = ()  # the responses, by turn, that a judge compared with


@dataclass(frozen=True)
class Transcript:
    """The rows of a file, the name of its format, the model that it names, and remarks for the reader."""

    format: str
    rows: Sequence[TranscriptRow]
    model: str = ""
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class ReadingContext:
    """What a format needs to know beside the rows: the file, the id fields of the data, and the model asked for."""

    path: str
    id_fields: Sequence[str] = ()
    model: str = ""


@dataclass(frozen=True)
class TranscriptFormat:
    """A published format: how its first row is recognised, and its rows read."""

    name: str
    fits: Callable[[Mapping[str, Any]], bool]
    read: Callable[[Sequence[RawRow], ReadingContext], Transcript]


def has_fields(*names: str) -> Callable[[Mapping[str, Any]], bool]:
    """Whether a row has all of these fields."""
    return lambda fields: all(name in fields for name in names)


def rows_of_model(rows: Sequence[RawRow], names: Sequence[str], context: ReadingContext) -> tuple[list[RawRow], str]:
    """The rows whose fields `names` hold the model asked for, and its name; all rows where the file has only one.

    Raises `UserError` for a file of several models, none of which was asked for.
    """
    present = list(dict.fromkeys(str(row.fields[name]) for row in rows for name in names[:1] if name in row.fields))
    everyone = list(dict.fromkeys(str(row.fields[name]) for row in rows for name in names if name in row.fields))
    if context.model in everyone:
        return [row for row in rows if context.model in [str(row.fields.get(name)) for name in names]], context.model
    if len(present) == 1:
        return list(rows), present[0]
    shown = ", ".join(present[:MAX_NAMES_SHOWN]) + (", ..." if len(present) > MAX_NAMES_SHOWN else "")
    raise UserError(f"{context.path}: holds {len(present)} models ({shown}); choose one with --model")


def read_field(row: RawRow, name: str, kind: type | tuple[type, ...], expected: str) -> Any:
    """A field of a row. Raises `UserError` with the row's location for one that is missing or of another type."""
    value = row.fields.get(name)
    if isinstance(value, bool) or not isinstance(value, kind):
        raise UserError(f"{row.location}: {name}: expected {expected}, got {shorten(value)}")
    return value


def read_row_id(row: RawRow, names: Iterable[str]) -> str:
    """The first of these fields that the row has, as its id. Raises `UserError` for a row with none of them."""
    several = list(names)
    name = next((one for one in several if row.fields.get(one) is not None), several[0])
    return str(read_field(row, name, (str, int), "text or a whole number"))


def shorten(value: Any, length: int = 60) -> str:
    """A value for an error, on one line and not longer than that."""
    text = " ".join(repr(value).split())
    return text if len(text) <= length else text[: length - 3] + "..."


@dataclass
class RowsById:
    """Rows that the file spreads over several lines, such as one for each turn, in the order of their first line."""

    found: dict[Any, list[RawRow]] = field(default_factory=dict)

    def add(self, key: Any, row: RawRow) -> None:
        """Keep a line under its key."""
        self.found.setdefault(key, []).append(row)
