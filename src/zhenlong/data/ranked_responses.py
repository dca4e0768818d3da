"""K responses to one prompt with scores or ranks, as in UltraFeedback and Nectar.

The responses are a list (`completions`, `responses`, `answers`) of texts, or of objects with a score or rank; otherwise
the row also has a list of `scores` or `ranks`. A higher score is better, a lower rank is better, and equal ones are
ties.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from zhenlong.data.field_parsing import Fields, extra_columns, parse_response
from zhenlong.records import Messages, Ranking

RESPONSE_LIST_FIELDS: Final = ("completions", "responses", "answers")
RESPONSE_TEXT_FIELDS: Final = ("response", "completion", "answer", "text", "content", "messages")
SCORE_FIELDS: Final = ("overall_score", "score", "fine-grained_score", "rating")
RANK_FIELDS: Final = ("rank", "ranking")


def parse_ranked_responses(fields: Fields, prompt: Messages, responses_field: str) -> Ranking:
    """The ranking of a row with responses in the field `responses_field`."""
    values = fields[responses_field]
    if not isinstance(values, list | tuple):
        raise ValueError(f"{responses_field}: expected a list of responses, got {type(values).__name__}")
    responses = tuple(
        parse_response(_response_text(one, f"{responses_field}[{i}]"), f"{responses_field}[{i}]", prompt)
        for i, one in enumerate(values)
    )
    ranks = _dense_ranks(fields, values, responses_field)
    columns = tuple(f"{name}s" for name in (*SCORE_FIELDS, *RANK_FIELDS))
    meta = extra_columns(
        fields, *RESPONSE_LIST_FIELDS, *columns, "prompt", "instruction", "system", "tools", "strength", "annotator"
    )
    return Ranking(prompt, responses, ranks, fields.get("strength"), fields.get("annotator"), meta=meta)


def has_scores(fields: Fields, responses_field: str) -> bool:
    """Whether a row has scores or ranks."""
    values = fields[responses_field]
    objects = isinstance(values, list | tuple) and bool(values) and all(isinstance(one, Mapping) for one in values)
    return _score_column(fields) is not None or (objects and _score_key(values[0]) is not None)


def _response_text(value: Any, field: str) -> Any:
    if not isinstance(value, Mapping) or "role" in value:
        return value
    name = next((name for name in RESPONSE_TEXT_FIELDS if value.get(name) is not None), None)
    if name is None:
        raise ValueError(
            f"{field}: expected a response in one of {', '.join(RESPONSE_TEXT_FIELDS)}, got {', '.join(value)}"
        )
    return value[name]


def _dense_ranks(fields: Fields, values: Any, responses_field: str) -> tuple[int, ...]:
    """Ranks from 1, the best; equal scores have equal ranks."""
    column = _score_column(fields)
    if column is not None:
        numbers, key, field = fields[column], column.removesuffix("s"), column
        if not isinstance(numbers, list | tuple) or len(numbers) != len(values):
            raise ValueError(f"{column}: expected {len(values)} numbers, one for each response, got {numbers!r:.60}")
    else:
        key = _score_key(values[0]) or SCORE_FIELDS[1]
        numbers, field = (
            [one.get(key) if isinstance(one, Mapping) else None for one in values],
            f"{responses_field}.{key}",
        )
    found = [_parse_score(one, f"{field}, response {i + 1}") for i, one in enumerate(numbers)]
    order = sorted(set(found), reverse=key in SCORE_FIELDS)
    return tuple(order.index(one) + 1 for one in found)


def _score_column(fields: Fields) -> str | None:
    names = [f"{name}s" for name in (*SCORE_FIELDS, *RANK_FIELDS)]
    return next((name for name in names if fields.get(name) is not None), None)


def _score_key(one: Mapping[str, Any]) -> str | None:
    return next((name for name in (*SCORE_FIELDS, *RANK_FIELDS) if one.get(name) is not None), None)


def _parse_score(value: Any, field: str) -> float:
    """A score from a number or from text that contains one; N/A is invalid."""
    try:
        number = float(value) if not isinstance(value, bool) else float("nan")
    except (TypeError, ValueError):
        number = float("nan")
    if number != number:
        raise ValueError(f"{field}: expected a number, got {value!r}")
    return number
