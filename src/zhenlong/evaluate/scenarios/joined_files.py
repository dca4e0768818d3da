"""Scenario data in several files: tables of one folder, fields in a sibling file, answers joined by id.

Answers are those of a baseline or a reference, in the formats in which benchmarks publish them: FastChat's and
Arena-Hard's `choices[0].turns`, Arena-Hard v2's `messages`, AlpacaEval's `output`, and our own `outputs`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from zhenlong.data.files import EXTENSIONS, RawRow
from zhenlong.data.sources import iter_source_rows
from zhenlong.errors import UserError
from zhenlong.evaluate.results.instance import Instance


def table_files(source: str) -> list[Path]:
    """The files of a folder with nothing but tables, sorted by name, or the single `.csv` or `.tsv` file.

    Empty for any other source.
    """
    folder = Path(source)
    if folder.is_file() and _extension(folder) in (".csv", ".tsv"):
        return [folder]
    if not folder.is_dir():
        return []
    files = sorted(one for one in folder.iterdir() if not one.name.startswith("."))
    return files if all(one.is_file() and _extension(one) in EXTENSIONS for one in files) else []


def rows_of_tables(files: list[Path]) -> Iterator[RawRow]:
    """The rows of several files in sequence, each with its file's name (no extension) in the field `file`."""
    for path in files:
        for row in iter_source_rows(str(path)):
            yield replace(row, fields={"file": path.name.split(".")[0], **row.fields})


def join_sibling_file(rows: Iterator[RawRow], source: str, folder: str, key: str) -> Iterator[RawRow]:
    """The rows, joined by `key` with the rows of the file of the same name in `folder` next to the source.

    Without such a file the rows stay as they are. Raises `UserError` for a row that the sibling file lacks.
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


def join_answers(instances: Sequence[Instance], key: str, source: str, id: str | None) -> list[Instance]:
    """The instances with the source's answers, by turn, under `key` of their data.

    A row's id is in the scenario's own id field or in `id`; without an id field it is `id`, or the row's 0-based
    number. Instances without an answer stay as they are; a metric that needs one raises. Raises `UserError` for rows
    that cannot be read, and if no answer matches an instance.
    """
    found: dict[str, tuple[str, ...]] = {}
    for number, row in enumerate(iter_source_rows(source)):
        if row.problem:
            raise UserError(f"{row.location}: {row.problem}")
        names = [name for name in (*(id or "").split("|"), "id") if name in row.fields]
        if id is not None and not names:
            raise UserError(f"{row.location}: {id.replace('|', ' or ')}: missing; expected the id of the {key} answer")
        try:
            found[str(row.fields[names[0]]) if names else str(number)] = row_answers(row.fields)
        except ValueError as error:
            raise UserError(f"{row.location}: {error}") from None
    if instances and not any(one.id in found for one in instances):
        raise UserError(f"{source}: no answer matches an instance; expected ids such as {instances[0].id}")
    return [replace(one, data={**one.data, key: found[one.id]}) if one.id in found else one for one in instances]


def row_answers(fields: Mapping[str, Any]) -> tuple[str, ...]:
    """A row's answers by turn. Raises `ValueError` for an unknown row format."""
    try:
        if "choices" in fields:
            return tuple(_text(one) for one in fields["choices"][0]["turns"])
        if "messages" in fields:
            return tuple(_text(one) for one in fields["messages"] if one["role"] == "assistant")
        if "outputs" in fields:
            return tuple(_text(one) for one in fields["outputs"])
        if "output" in fields:
            return (_text(fields["output"]), *map(_text, fields.get("turns") or ()))
    except (KeyError, IndexError, TypeError):
        pass
    raise ValueError(
        f"expected an answer in choices, messages, output or outputs; the fields here are {', '.join(fields)}"
    )


def _text(given: Any) -> str:
    """A turn's text: a string, or nested under `content` and `answer`."""
    while isinstance(given, Mapping):
        given = given["content"] if "content" in given else given["answer"]
    if not isinstance(given, str):
        raise TypeError(f"expected text, got {type(given).__name__}")
    return given
