"""`samples_<task>_<date>.jsonl` of lm-evaluation-harness: `doc_id`, `doc`, `resps`, `filter`."""

from __future__ import annotations

import math
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
    shorten,
)


def read_samples(rows: Sequence[RawRow], context: ReadingContext) -> Transcript:
    """The responses of every document; the lines of further filters repeat them and are left out."""
    first = rows[0].fields.get("filter")
    own = [row for row in rows if row.fields.get("filter") == first]
    notes = []
    if len(own) < len(rows):
        notes.append(f"{len(rows) - len(own)} lines of filters other than {first} repeat the responses")
    found = []
    for row in own:
        document = row.fields["doc"]
        names = [name for name in context.id_fields if isinstance(document, dict) and name in document]
        id_ = str(document[names[0]]) if names else None
        found.append(
            TranscriptRow(
                row.location,
                {"doc_id": row.fields["doc_id"], **_responses(row)},
                id_,
                document=document if isinstance(document, dict) else None,
            )
        )
    return Transcript("samples of lm-evaluation-harness", found, notes=notes)


def _responses(row: RawRow) -> dict[str, Any]:
    """Log-probabilities of the choices, of the whole text, or the generated texts."""
    given = row.fields["resps"]
    try:
        firsts = [one[0] for one in given]
        if all(isinstance(one, str) for one in firsts) and len(given) == 1:
            number = _number(firsts[0]) if not row.fields.get("arguments") or _is_rolling(row) else None
            if number is not None:
                return {"text_log_prob": number}
            texts = [str(text) for text in given[0]]
            return {"output": texts[0]} if len(texts) == 1 else {"outputs": texts}
        values = [_number(one[0] if isinstance(one, list | tuple) else one) for one in firsts]
        if values and all(value is not None for value in values):
            single = len(values) == 1 and not isinstance(firsts[0], list | tuple)
            return {"text_log_prob": values[0]} if single else {"choice_log_probs": values}
    except (TypeError, IndexError, KeyError):
        pass
    raise UserError(f"{row.location}: resps: expected texts or log-likelihoods, got {shorten(given)}")


def _is_rolling(row: RawRow) -> bool:
    """Whether the request has no decoding options: a log-likelihood of the whole text has one argument."""
    arguments = row.fields["arguments"]
    several = list(arguments.values()) if isinstance(arguments, dict) else list(arguments)
    return bool(several) and len(several[0]) == 1


def _number(given: Any) -> float | None:
    try:
        value = float(given)
    except (TypeError, ValueError):
        return None
    return None if math.isnan(value) else value


LM_EVAL_FORMATS: Final = (TranscriptFormat("lm-eval samples", has_fields("doc_id", "doc", "resps"), read_samples),)
