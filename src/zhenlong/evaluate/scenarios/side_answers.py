"""Answers that belong to a scenario's instances but lie in a file of their own: a baseline's, a reference's.

They are joined by id. Rows are read in the forms in which benchmarks publish models' answers: FastChat's and
Arena-Hard's `choices[0].turns`, Arena-Hard v2's `messages`, AlpacaEval's `output`, and our own `outputs`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from zhenlong.data.sources import iter_source_rows
from zhenlong.errors import UserError
from zhenlong.evaluate.results.instance import Instance


def join_answers(instances: Sequence[Instance], key: str, source: str, id: str | None) -> list[Instance]:
    """The instances with the source's answers, turn after turn, under `key` of their data.

    A row's id is in the scenario's own id field or in `id`; without an id field it is the row's 0-based number, or
    `id`. Instances without an answer stay as they are: whoever needs one says so. Raises `UserError` for rows that
    cannot be read, and for answers of which none fits.
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
        raise UserError(f"{source}: no answer to any instance; expected ids such as {instances[0].id}")
    return [replace(one, data={**one.data, key: found[one.id]}) if one.id in found else one for one in instances]


def row_answers(fields: Mapping[str, Any]) -> tuple[str, ...]:
    """A row's answers, turn after turn. Raises `ValueError` for a row in none of the known forms."""
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
    """A turn's text: itself, or within `content`, `answer`."""
    while isinstance(given, Mapping):
        given = given["content"] if "content" in given else given["answer"]
    if not isinstance(given, str):
        raise TypeError(f"expected text, got {type(given).__name__}")
    return given
