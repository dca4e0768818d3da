"""Recorded outputs of any model, read as outcomes: rows of `id` and a result, joined with a scenario's instances.

{"id", "output"}                    one response; with "log_prob" (of its tokens) if a metric needs confidence
{"id", "outputs": [...]}            several responses (pass@k, avg@n)
{"id", "turns": [...]}              the responses to a conversation's turns
{"id", "choice_log_probs": [...]}   one log-probability per choice, in the order of the choices
{"id", "text_log_prob", "text_tokens"}   of the instance's own text (language modelling)
{"id", "failed": "why"}             no response
and the fields of a judge's verdicts that a judged scenario reads.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from zhenlong.data.files import RawRow, iter_file_rows
from zhenlong.errors import UserError
from zhenlong.evaluate.adapters.methods import parse_choice_letter
from zhenlong.evaluate.adapters.prompt import choice_letters
from zhenlong.evaluate.results.instance import Instance
from zhenlong.evaluate.results.outcome import ChoiceScores, Outcome
from zhenlong.evaluate.scenarios.scenario import Scenario
from zhenlong.inference.requests import GeneratedOutput

OUTPUT_FIELDS: Final = ("output", "outputs", "turns", "choice_log_probs", "text_log_prob", "failed")
KNOWN_FIELDS: Final = ("id", *OUTPUT_FIELDS, "log_prob", "truncated", "choice_tokens", "choice_baseline", "text_tokens")
MISSING_OUTPUT: Final = "no recorded output"
MAX_IDS_SHOWN: Final = 5


def read_recorded_outputs(
    scenario: Scenario, instances: Sequence[Instance], path: str | Path, *, allow_missing: bool = False
) -> list[Outcome]:
    """One outcome per instance, in their order; an instance without a row counts as failed.

    Raises `UserError` with file and line for an invalid row, an unknown id or a repeated one, and, unless
    `allow_missing`, with the ids that have no row.
    """
    known = {one.id: one for one in instances}
    found: dict[str, Outcome] = {}
    places: dict[str, str] = {}
    for row in iter_file_rows(Path(path)):
        id_ = _row_id(row)
        if id_ in places:
            raise UserError(f"{row.location}: duplicate id {id_!r} (first at {places[id_]}); expected every id once")
        if id_ not in known:
            raise UserError(
                f"{row.location}: unknown id {id_!r}; {scenario.name} has {len(known)} ids: {_abbreviated_ids(known)}"
            )
        places[id_] = row.location
        try:
            found[id_] = _outcome(scenario, known[id_], row.fields)
        except ValueError as error:
            raise UserError(f"{row.location}: {error} (id {id_!r})") from None
    missing = [id_ for id_ in known if id_ not in found]
    if missing and not allow_missing:
        raise UserError(
            f"{path}: {len(missing)} of {len(known)} ids have no row: {_abbreviated_ids(missing)}; "
            f"add them, or count them as failed with --allow-missing"
        )
    return [found[one.id] if one.id in found else Outcome(one, failed=MISSING_OUTPUT) for one in instances]


def _row_id(row: RawRow) -> str:
    if row.problem:
        raise UserError(f"{row.location}: {row.problem}")
    given = row.fields.get("id")
    if isinstance(given, bool) or not isinstance(given, (str, int)):
        raise UserError(f"{row.location}: id: expected text or a whole number, got {given!r}")
    return str(given)


def _outcome(scenario: Scenario, instance: Instance, fields: Mapping[str, Any]) -> Outcome:
    given = {name: value for name, value in fields.items() if value is not None}
    answers = [name for name in OUTPUT_FIELDS if name in given]
    recorded = {name: value for name, value in fields.items() if name not in KNOWN_FIELDS}  # null: an unparsed verdict
    judged = any(metric.kind == "judged" for metric, _ in scenario.bind_metrics())
    if len(answers) > 1 and set(answers) != {"output", "choice_log_probs"}:
        raise ValueError(f"expected one of {', '.join(answers)}")
    if not answers and not (judged and recorded):
        fields_here = ", ".join(fields)
        raise ValueError(f"expected output, outputs or choice_log_probs; the fields here are {fields_here}")
    if "failed" in given:
        return Outcome(instance, failed=_text(given, "failed") or "failed", metadata=recorded)
    outcome = Outcome(
        instance,
        outputs=_outputs(instance, given),
        choices=_choices(instance, given) if "choice_log_probs" in given else None,
        text_log_prob=_number(given["text_log_prob"], "text_log_prob") if "text_log_prob" in given else None,
        text_tokens=_count(given, "text_tokens"),
        metadata=recorded,
    )
    return Outcome(**{**vars(outcome), "predicted": _predicted(scenario, outcome)})


def _outputs(instance: Instance, given: Mapping[str, Any]) -> tuple[GeneratedOutput, ...]:
    log_prob = _number(given["log_prob"], "log_prob") if "log_prob" in given else None
    truncated = given.get("truncated", False)
    if not isinstance(truncated, bool):
        raise ValueError(f"truncated: expected true or false, got {truncated!r}")
    if "output" in given:
        return (GeneratedOutput(_text(given, "output"), log_prob, truncated=truncated),)
    if "outputs" in given:
        return tuple(GeneratedOutput(one) for one in _texts(given, "outputs"))
    if "turns" in given:
        turns, expected = _texts(given, "turns"), 1 + len(instance.turns)
        if len(turns) != expected:
            raise ValueError(f"turns: expected {expected} responses, got {len(turns)}")
        return (GeneratedOutput(turns[0], turns=tuple(turns[1:])),)
    return ()


def _choices(instance: Instance, given: Mapping[str, Any]) -> ChoiceScores:
    def numbers(name: str) -> tuple[float, ...]:
        values, expected = given[name], len(instance.references)
        if not isinstance(values, (list, tuple)) or len(values) != expected:
            size = f"{len(values)} of them" if isinstance(values, (list, tuple)) else repr(values)
            raise ValueError(f"{name}: expected a list of {expected} numbers, one for each choice, got {size}")
        return tuple(_number(value, name) for value in values)

    tokens = tuple(int(count) for count in numbers("choice_tokens")) if "choice_tokens" in given else ()
    baseline = numbers("choice_baseline") if "choice_baseline" in given else ()
    return ChoiceScores(numbers("choice_log_probs"), tokens, baseline)


def _predicted(scenario: Scenario, outcome: Outcome) -> int | None:
    """The predicted choice: the most likely by the adapter's rule, or the one that the text names by letter or text."""
    method, instance = scenario.adapter.method, outcome.instance
    if outcome.choices is not None:
        values = _choice_values(scenario, outcome.choices)
        return values.index(max(values)) if values and max(values) > -math.inf else None
    if not method.startswith("multiple_choice") or not outcome.outputs:
        return None
    letter = parse_choice_letter(outcome.text, choice_letters(scenario.adapter, instance))
    words = [place for place, one in enumerate(instance.references) if one.text.strip() == outcome.text.strip()]
    return words[0] if words else letter


def _choice_values(scenario: Scenario, choices: ChoiceScores) -> list[float]:
    """The values that rank the choices: summed, per token or calibrated, as the adapter says and the row allows."""
    method = scenario.adapter.method
    if method == "multiple_choice_separate" and scenario.adapter.per_token and choices.num_tokens:
        return [value / max(1, count) for value, count in zip(choices.log_probs, choices.num_tokens, strict=True)]
    if method == "multiple_choice_calibrated" and choices.calibration_log_probs:
        return [value - base for value, base in zip(choices.log_probs, choices.calibration_log_probs, strict=True)]
    return list(choices.log_probs)


def _text(given: Mapping[str, Any], name: str) -> str:
    if not isinstance(given[name], str):
        raise ValueError(f"{name}: expected text, got {_abbreviated(given[name])}")
    return str(given[name])


def _texts(given: Mapping[str, Any], name: str) -> list[str]:
    values = given[name]
    if not isinstance(values, (list, tuple)) or not values or not all(isinstance(one, str) for one in values):
        raise ValueError(f"{name}: expected a list of at least one text, got {_abbreviated(values)}")
    return list(values)


def _count(given: Mapping[str, Any], name: str) -> int | None:
    value = given.get(name)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
        raise ValueError(f"{name}: expected a whole number, got {_abbreviated(value)}")
    return value


def _number(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or math.isnan(value):
        raise ValueError(f"{name}: expected a number, got {_abbreviated(value)}")
    return float(value)


def _abbreviated(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _abbreviated_ids(ids: Any) -> str:
    several = list(ids)
    return ", ".join(several[:MAX_IDS_SHOWN]) + (", ..." if len(several) > MAX_IDS_SHOWN else "")
