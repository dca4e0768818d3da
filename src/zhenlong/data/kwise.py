"""K responses to one prompt with scores or ranks, as UltraFeedback, Nectar and their like keep them.

The responses are a list (`completions`, `responses`, `answers`) of texts, or of objects that also hold a score or rank;
otherwise the row has a list of `scores` or `ranks` beside them. A higher score is better, a lower rank is better, and
equal ones are ties.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from zhenlong.data.prompts import Fields, extras, response
from zhenlong.records import Messages, Ranking

LISTS: Final = ("completions", "responses", "answers")
TEXTS: Final = ("response", "completion", "answer", "text", "content", "messages")
SCORES: Final = ("overall_score", "score", "fine-grained_score", "rating")
RANKS: Final = ("rank", "ranking")


def kwise(fields: Fields, before: Messages, listed: str) -> Ranking:
    """The ranking of a row whose responses stand in the field `listed`."""
    values = fields[listed]
    if not isinstance(values, list | tuple):
        raise ValueError(f"{listed}: expected a list of responses, got {type(values).__name__}")
    responses = tuple(response(_text(one, f"{listed}[{i}]"), f"{listed}[{i}]", before) for i, one in enumerate(values))
    ranks = _ranks(fields, values, listed)
    columns = tuple(f"{name}s" for name in (*SCORES, *RANKS))
    meta = extras(fields, *LISTS, *columns, "prompt", "instruction", "system", "tools", "strength", "annotator")
    return Ranking(before, responses, ranks, fields.get("strength"), fields.get("annotator"), meta=meta)


def has_scores(fields: Fields, listed: str) -> bool:
    """Whether a row says how good its responses are."""
    values = fields[listed]
    objects = isinstance(values, list | tuple) and bool(values) and all(isinstance(one, Mapping) for one in values)
    return _column(fields) is not None or (objects and _key(values[0]) is not None)


def _text(value: Any, field: str) -> Any:
    if not isinstance(value, Mapping) or "role" in value:
        return value
    name = next((name for name in TEXTS if value.get(name) is not None), None)
    if name is None:
        raise ValueError(f"{field}: expected a response in one of {', '.join(TEXTS)}, got {', '.join(value)}")
    return value[name]


def _ranks(fields: Fields, values: Any, listed: str) -> tuple[int, ...]:
    """1 for the best; equal scores have equal ranks."""
    column = _column(fields)
    if column is not None:
        numbers, key, field = fields[column], column.removesuffix("s"), column
        if not isinstance(numbers, list | tuple) or len(numbers) != len(values):
            raise ValueError(f"{column}: expected {len(values)} numbers, one for each response, got {numbers!r:.60}")
    else:
        key = _key(values[0]) or SCORES[1]
        numbers, field = [one.get(key) if isinstance(one, Mapping) else None for one in values], f"{listed}.{key}"
    found = [_number(one, f"{field}, response {i + 1}") for i, one in enumerate(numbers)]
    order = sorted(set(found), reverse=key in SCORES)
    return tuple(order.index(one) + 1 for one in found)


def _column(fields: Fields) -> str | None:
    names = [f"{name}s" for name in (*SCORES, *RANKS)]
    return next((name for name in names if fields.get(name) is not None), None)


def _key(one: Mapping[str, Any]) -> str | None:
    return next((name for name in (*SCORES, *RANKS) if one.get(name) is not None), None)


def _number(value: Any, field: str) -> float:
    """A score as a number or as text that holds one; N/A is none."""
    try:
        number = float(value) if not isinstance(value, bool) else float("nan")
    except (TypeError, ValueError):
        number = float("nan")
    if number != number:
        raise ValueError(f"{field}: expected a number, got {value!r}")
    return number
