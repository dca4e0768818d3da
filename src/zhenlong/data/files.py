"""Rows of a local file: `.jsonl .json .csv .tsv .parquet .txt`, each also `.gz`.

A row is a mapping from field to value with its location in the file, so that later errors can name file and line. Files
are read as UTF-8, with or without a byte-order mark.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

from zhenlong.errors import UserError

_SEPARATOR: Final = re.compile(r"\s*[\[,]?\s*")  # precedes each item of a JSON list


@dataclass(frozen=True)
class RawRow:
    """One row: `location` names it in errors (`prefs.jsonl, line 3`); `problem` says why it has no usable fields."""

    location: str
    fields: Mapping[str, Any]
    problem: str = ""


def iter_file_rows(path: Path, by: str = "file") -> Iterator[RawRow]:
    """The rows of one file, in order. `by` splits a `.txt` into documents: `file`, `paragraph` (blank lines) or `line`.

    Raises `UserError` for a missing or empty file, an unknown extension, invalid UTF-8 and a broken file structure. A
    single broken line of `.jsonl`, `.csv` or `.tsv` is returned as a `RawRow` with a `problem`.
    """
    extension = Path(path.name.removesuffix(".gz")).suffix.lower()
    if extension not in EXTENSIONS:
        known = " ".join(EXTENSIONS)
        raise UserError(f"{path}: unknown extension {extension or 'none'!r}; expected one of {known}, each also .gz")
    data = _read_bytes(path)
    if not data.strip():
        raise UserError(f"{path}: the file is empty; expected at least one row")
    if extension == ".txt":
        return _text_rows(path, data, by)
    if by != "file":
        raise UserError(f"{path}: by={by} splits .txt files only; omit it")
    return _READERS[extension](path, data)


def _read_bytes(path: Path) -> bytes:
    try:
        data = path.read_bytes()
        return gzip.decompress(data) if path.suffix == ".gz" and data else data
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; check the path") from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError(f"{path}: not a whole gzip file ({error}); write it again") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None


def _decode_utf8(path: Path, data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise UserError(f"{path}, line {line}: not UTF-8 text ({error.reason}); convert the file to UTF-8") from None


def _text_rows(path: Path, data: bytes, by: str) -> Iterator[RawRow]:
    text = "\n".join(_decode_utf8(path, data).replace("\r\n", "\n").split("\r"))
    if by == "file":
        yield RawRow(f"{path}", {"text": text})
    elif by in ("line", "paragraph"):
        start = 1
        lines: list[str] = []
        for number, line in enumerate([*text.split("\n"), ""], 1):
            if line.strip():
                start = start if lines else number
                lines.append(line)
            if lines and (by == "line" or not line.strip()):
                yield RawRow(f"{path}, line {start}", {"text": "\n".join(lines)})
                lines = []
    else:
        raise UserError(f"{path}: by={by!r} is not a way to split text; expected file, paragraph or line")


UNREADABLE_JSON: Final = "JSON that Python does not read ({}): nested too deeply, or an integer of over 4,300 digits"


def _jsonl_rows(path: Path, data: bytes) -> Iterator[RawRow]:
    for number, line in enumerate(data.removeprefix(b"\xef\xbb\xbf").splitlines(), 1):
        if not line.strip():
            continue
        place = f"{path}, line {number}"
        try:
            value = json.loads(line.decode("utf-8"))
        except UnicodeDecodeError as error:
            raise UserError(f"{place}: not UTF-8 text ({error.reason}); convert the file to UTF-8") from None
        except json.JSONDecodeError as error:
            yield RawRow(
                place, {}, f"not valid JSON ({error.msg}, column {error.colno}); expected one object on each line"
            )
        except (ValueError, RecursionError) as error:
            yield RawRow(place, {}, UNREADABLE_JSON.format(type(error).__name__))
        else:
            yield _object_row(place, value)


def _json_rows(path: Path, data: bytes) -> Iterator[RawRow]:
    """A list of objects. Files with one object per line under this extension are read as `.jsonl`."""
    try:
        value = json.loads(_decode_utf8(path, data))
    except json.JSONDecodeError as error:
        if error.msg == "Extra data" and error.lineno > 1:
            yield from _jsonl_rows(path, data)
            return
        raise UserError(f"{path}, line {error.lineno}: not valid JSON ({error.msg}, column {error.colno})") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: {UNREADABLE_JSON.format(type(error).__name__)}") from None
    if isinstance(value, dict) and "\n" not in data.decode("utf-8-sig").strip():
        yield RawRow(f"{path}, row 1 (line 1)", value)  # one object on one line is a .jsonl of one row
        return
    if not isinstance(value, list):
        raise UserError(
            f"{path}: expected a list of objects, got one {_json_type_name(value)}; write a list, or use .jsonl"
        )
    if not value:
        raise UserError(f"{path}: the list is empty; expected at least one row")
    for number, (line, item) in enumerate(_iter_list_items(_decode_utf8(path, data)), 1):
        yield _object_row(f"{path}, row {number} (line {line})", item)


def _iter_list_items(text: str) -> Iterator[tuple[int, Any]]:
    """The items of a JSON list (`text` is known to be one), each with the line on which it starts."""
    decoder, line, counted, end = json.JSONDecoder(), 1, 0, 0
    while True:
        start = cast(re.Match[str], _SEPARATOR.match(text, end)).end()
        if text[start] == "]":
            return
        line, counted = line + text.count("\n", counted, start), start
        item, end = decoder.raw_decode(text, start)
        yield line, item


def _object_row(place: str, value: Any) -> RawRow:
    if isinstance(value, dict):
        return RawRow(place, value)
    return RawRow(place, {}, f"expected an object, got {_json_type_name(value)}")


def _json_type_name(value: Any) -> str:
    names = {dict: "object", list: "list", str: "string", bool: "boolean", int: "number", float: "number"}
    return names.get(type(value), "null")


def _table_rows(delimiter: str) -> Callable[[Path, bytes], Iterator[RawRow]]:
    def rows(path: Path, data: bytes) -> Iterator[RawRow]:
        csv.field_size_limit(2**31 - 1)  # the default limit of 128 KiB is too small for long responses
        lines = csv.reader(io.StringIO(_decode_utf8(path, data), newline=""), delimiter=delimiter)
        header = next(lines, [])
        if len(set(header)) < len(header):
            raise UserError(f"{path}, line 1: a column name occurs twice; expected a header of distinct names")
        number, read = 0, lines.line_num
        for values in lines:
            line, read = read + 1, lines.line_num  # a cell may contain line breaks
            if not values:
                continue
            number += 1
            problem = f"expected {len(header)} columns as in the header, got {len(values)}"
            matches = len(values) == len(header)
            place = f"{path}, row {number} (line {line})"
            yield RawRow(place, dict(zip(header, values, strict=False)), "" if matches else problem)

    return rows


def _parquet_rows(path: Path, data: bytes) -> Iterator[RawRow]:
    import pyarrow  # type: ignore[import-untyped]
    import pyarrow.parquet  # type: ignore[import-untyped]

    number = 0
    try:
        for batch in pyarrow.parquet.ParquetFile(io.BytesIO(data)).iter_batches():
            for fields in batch.to_pylist():
                number += 1
                yield RawRow(f"{path}, row {number}", fields)
    except pyarrow.ArrowException as error:
        reason = str(error).split("\n")[0]
        raise UserError(f"{path}: not a readable parquet file ({reason}); write it again") from None


_READERS: Final[dict[str, Callable[[Path, bytes], Iterator[RawRow]]]] = {
    ".jsonl": _jsonl_rows,
    ".json": _json_rows,
    ".csv": _table_rows(","),
    ".tsv": _table_rows("\t"),
    ".parquet": _parquet_rows,
}
EXTENSIONS: Final = (*_READERS, ".txt")
