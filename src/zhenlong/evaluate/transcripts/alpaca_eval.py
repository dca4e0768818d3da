"""AlpacaEval's files: a model's outputs, and annotations of pairs.

{"instruction", "output", "generator"}
{"instruction", "output_1", "generator_1", "output_2", "generator_2", "annotator", "preference"}
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from zhenlong.data.files import RawRow
from zhenlong.errors import UserError
from zhenlong.evaluate.transcripts.transcript import (
    ReadingContext,
    Transcript,
    TranscriptFormat,
    TranscriptRow,
    has_fields,
    read_field,
    rows_of_model,
)


def read_outputs(rows: Sequence[RawRow], context: ReadingContext) -> Transcript:
    """The outputs of one model, matched by instruction."""
    own, model = rows_of_model(rows, ["generator"], context)
    found = [
        TranscriptRow(
            row.location,
            {"output": read_field(row, "output", str, "text")},
            prompt=read_field(row, "instruction", str, "text"),
        )
        for row in own
    ]
    return Transcript("outputs in AlpacaEval's format", found, model)


def read_annotations(rows: Sequence[RawRow], context: ReadingContext) -> Transcript:
    """The preferences between the baseline and the model: output 2, or the one whose generator was asked for."""
    own, model = rows_of_model(rows, ["generator_2", "generator_1"], context)
    found = []
    for row in own:
        second = str(row.fields.get("generator_2")) == model
        texts = [read_field(row, name, str, "text") for name in ("output_1", "output_2")]
        baseline, output = texts if second else texts[::-1]
        fields = {"output": output, "preference": _preference(row, second)}
        prompt = read_field(row, "instruction", str, "text")
        found.append(TranscriptRow(row.location, fields, prompt=prompt, baseline=(baseline,)))
    return Transcript("annotations in AlpacaEval's format", found, model)


def _preference(row: RawRow, second: bool) -> float | None:
    """From 1 (the baseline) to 2 (the model); 0 is a tie, None an annotation that failed."""
    given: Any = row.fields.get("preference")
    if given in (None, "", "nan") or given != given:
        return None
    try:
        value = float(given)
    except (TypeError, ValueError):
        raise UserError(f"{row.location}: preference: expected a number from 1 to 2, got {given!r}") from None
    return value if second or value == 0 else 3 - value


ALPACA_EVAL_FORMATS: Final = (
    TranscriptFormat(
        "AlpacaEval annotations", has_fields("instruction", "output_1", "output_2", "preference"), read_annotations
    ),
    TranscriptFormat("AlpacaEval outputs", has_fields("instruction", "output", "generator"), read_outputs),
)
