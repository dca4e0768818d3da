"""The format of a file of recorded outputs, recognised by its first row, and its rows in our own fields."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from zhenlong.data.files import RawRow, iter_file_rows
from zhenlong.errors import UserError
from zhenlong.evaluate.transcripts.alpaca_eval import ALPACA_EVAL_FORMATS
from zhenlong.evaluate.transcripts.conversations import CONVERSATION_FORMATS
from zhenlong.evaluate.transcripts.inspect_log import read_inspect_log
from zhenlong.evaluate.transcripts.labelled_answers import LABELLED_FORMATS, with_output
from zhenlong.evaluate.transcripts.lm_eval import LM_EVAL_FORMATS
from zhenlong.evaluate.transcripts.tau_bench import TAU_BENCH_FORMATS, simulation_rows
from zhenlong.evaluate.transcripts.transcript import ReadingContext, Transcript, TranscriptRow

OWN_FORMAT: Final = "rows of id and output"
FORMATS: Final = (
    *CONVERSATION_FORMATS,
    *ALPACA_EVAL_FORMATS,
    *LM_EVAL_FORMATS,
    *TAU_BENCH_FORMATS,
    *LABELLED_FORMATS,
)
OWN_FIELDS: Final = ("output", "outputs", "turns", "choice_log_probs", "text_log_prob", "failed")


def read_transcript(path: Path, context: ReadingContext) -> Transcript:
    """The rows of the file. Raises `UserError` with file and line for one that is not in the format of the first."""
    if path.suffix == ".eval" or _is_inspect_log(path):
        return read_inspect_log(path, context)
    rows = list(file_rows(path))
    for row in rows:
        if row.problem:
            raise UserError(f"{row.location}: {row.problem}")
    if not rows:
        raise UserError(f"{path}: the file has no rows; expected recorded outputs")
    first = rows[0].fields
    named = [name for name in ("id", *context.id_fields) if first.get(name) is not None]
    own = "id" in first or (named and any(name in with_output(first) for name in OWN_FIELDS))
    known = next((one for one in FORMATS if one.fits(first)), None)
    if (
        known is None
        or (own and any(name in first for name in OWN_FIELDS))
        or (named and known is LABELLED_FORMATS[-1])
    ):
        return _read_own(rows, context)
    for row in rows:
        if not known.fits(row.fields):
            fields = ", ".join(row.fields) or "none"
            raise UserError(f"{row.location}: not a row of {known.name} as the first is; the fields here are {fields}")
    return known.read(rows, context)


def file_rows(path: Path) -> Iterator[RawRow]:
    """The rows of a file; of tau2-bench's one object, its simulations."""
    yield from simulation_rows(path) if "simulations" in _object_keys(path) else iter_file_rows(path)


def _read_own(rows: Sequence[RawRow], context: ReadingContext) -> Transcript:
    found = []
    for row in rows:
        names = [name for name in ("id", *context.id_fields) if row.fields.get(name) is not None]
        given = row.fields.get(names[0]) if names else None
        if isinstance(given, bool) or not isinstance(given, str | int):
            raise UserError(f"{row.location}: id: expected text or a whole number, got {given!r}")
        trial = row.fields.get("trial")
        if trial is not None and (isinstance(trial, bool) or not isinstance(trial, int) or trial < 0):
            raise UserError(f"{row.location}: trial: expected a number from 0 on, got {trial!r}")
        fields = {name: value for name, value in row.fields.items() if name != "trial"}
        found.append(TranscriptRow(row.location, with_output(fields), str(given), trial=trial))
    return Transcript(OWN_FORMAT, found)


def _is_inspect_log(path: Path) -> bool:
    keys = _object_keys(path)
    return "eval" in keys and ("samples" in keys or "plan" in keys)


def _object_keys(path: Path) -> Mapping[str, Any]:
    """The content of a `.json` file that is one object; empty for every other file."""
    if path.suffix != ".json":
        return {}
    try:
        text = path.read_text(encoding="utf-8-sig")
        whole = json.loads(text) if text.lstrip()[:1] == "{" else None
    except (OSError, ValueError):
        return {}  # the reader of rows says what is wrong
    return whole if isinstance(whole, dict) else {}
