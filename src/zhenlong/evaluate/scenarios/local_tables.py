"""Rows of local files for which the files around them matter: a table for each subject, answers in a file beside."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from zhenlong.data.files import EXTENSIONS, RawRow
from zhenlong.data.sources import iter_source_rows
from zhenlong.errors import UserError


def table_files(source: str) -> list[Path]:
    """The files of a folder that holds nothing but tables, in the order of their names, or the one `.csv` or `.tsv`.

    Of any other source none.
    """
    folder = Path(source)
    if folder.is_file() and _extension(folder) in (".csv", ".tsv"):
        return [folder]
    if not folder.is_dir():
        return []
    files = sorted(one for one in folder.iterdir() if not one.name.startswith("."))
    return files if all(one.is_file() and _extension(one) in EXTENSIONS for one in files) else []


def rows_of_tables(files: list[Path]) -> Iterator[RawRow]:
    """The rows of several files, one after the other, each with its file's name (no extension) in the field `file`."""
    for path in files:
        for row in iter_source_rows(str(path)):
            yield replace(row, fields={"file": path.name.split(".")[0], **row.fields})


def join_sibling_file(rows: Iterator[RawRow], source: str, folder: str, key: str) -> Iterator[RawRow]:
    """The rows with the fields of those of the same `key` in the file of the same name in `folder` beside the source.

    Without such a file the rows stay as they are. Raises `UserError` for a row that the file beside lacks.
    """
    path = Path(source).parent / folder / Path(source).name
    if not path.is_file() or path == Path(source):
        yield from rows
        return
    beside = {str(row.fields.get(key)): row.fields for row in iter_source_rows(str(path))}
    for row in rows:
        name = str(row.fields.get(key))
        if not row.problem and name not in beside:
            raise UserError(f"{row.location}: {path} has no row with {key} {name!r}; expected one for every row")
        yield replace(row, fields={**beside.get(name, {}), **row.fields})


def _extension(path: Path) -> str:
    return Path(path.name.removesuffix(".gz")).suffix.lower()
