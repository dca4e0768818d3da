"""Recorded outputs of any model, read as outcomes: rows of `id` and a result, joined with a scenario's instances.

{"id", "output"}                    one response; with "log_prob" (of its tokens) if a metric needs confidence, and
                                    "reasoning_content" and "finish_reason" as an endpoint sent them
{"id", "outputs": [...]}            several responses (pass@k, avg@n)
{"id", "turns": [...]}              the responses to a conversation's turns
{"id", "choice_log_probs": [...]}   one log-probability per choice, in the order of the choices
{"id", "text_log_prob", "text_tokens"}   of the instance's own text (language modelling)
{"id", "failed": "why"}             no response
and the fields of a judge's verdicts that a judged scenario reads.
"""

from __future__ import annotations

import inspect
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from zhenlong.errors import UserError
from zhenlong.evaluate.adapters.methods import choice_values, chosen_reference
from zhenlong.evaluate.results.instance import Instance
from zhenlong.evaluate.results.outcome import ChoiceScores, Outcome
from zhenlong.evaluate.scenarios.instances import RECORDED_PREFIX
from zhenlong.evaluate.scenarios.scenario import Scenario
from zhenlong.evaluate.transcripts.formats import OWN_FORMAT, read_transcript
from zhenlong.evaluate.transcripts.matching import MatchedRow, Matching, match_rows, shorten_ids, unknown_row
from zhenlong.evaluate.transcripts.transcript import ReadingContext, Transcript
from zhenlong.inference.openai_responses import FAILED_REASONS
from zhenlong.inference.requests import GeneratedOutput

OUTPUT_FIELDS: Final = ("output", "outputs", "turns", "choice_log_probs", "text_log_prob", "failed")
OUTPUT_DETAILS: Final = ("log_prob", "truncated", "reasoning_content", "finish_reason")
KNOWN_FIELDS: Final = ("id", *OUTPUT_FIELDS, *OUTPUT_DETAILS, "choice_tokens", "choice_baseline", "text_tokens")
MISSING_OUTPUT: Final = "no recorded output"


@dataclass(frozen=True)
class RecordedOutputs:
    """The outcomes of a file of recorded outputs, in the instances' order, and what was found in the file."""

    outcomes: Sequence[Outcome]
    format: str
    model: str = ""  # as the file names it
    notes: Sequence[str] = ()
    counts: Mapping[str, int] = field(default_factory=dict)  # rows, instances, missing and extra ones


@dataclass(frozen=True)
class MatchingOptions:
    """What may be amiss in a file of recorded outputs, and which of its models is read."""

    allow_missing: bool = False
    allow_extra: bool = False
    model: str = ""


def read_recorded_outputs(
    scenario: Scenario, instances: Sequence[Instance], path: str | Path, options: MatchingOptions = MatchingOptions()
) -> RecordedOutputs:
    """One outcome per instance and trial, in the instances' order; an instance without a row counts as failed.

    Raises `UserError` with file and line for an invalid row, an unknown id or a repeated one, and, unless
    `allow_missing`, with the ids that have no row.
    """
    id_fields = (scenario.id or "").split("|") if scenario.id else []
    transcript = read_transcript(Path(path), ReadingContext(str(path), id_fields, options.model))
    matching = match_rows(scenario, instances, transcript)
    if matching.extra and not (options.allow_extra and matching.rows):
        raise unknown_row(scenario, instances, matching, len(transcript.rows))
    if matching.missing and not options.allow_missing:
        raise UserError(
            f"{path}: {len(matching.missing)} of {len(instances)} ids have no row: {shorten_ids(matching.missing)}; "
            f"add them, or count them as failed with --allow-missing"
        )
    by_id: dict[str, list[MatchedRow]] = defaultdict(list)
    for one in matching.rows:
        by_id[one.instance.id].append(one)
    outcomes: list[Outcome] = []
    for instance in instances:
        outcomes += _outcomes(scenario, instance, by_id[instance.id])
    counts = {
        "rows": len(transcript.rows),
        "instances": len(instances),
        "missing": len(matching.missing),
        "extra": len(matching.extra),
    }
    return RecordedOutputs(outcomes, transcript.format, transcript.model, _notes(transcript, matching, counts), counts)


def _notes(transcript: Transcript, matching: Matching, counts: Mapping[str, int]) -> list[str]:
    """What the user is told about the file: a line each."""
    notes = list(matching.notes)
    if counts["missing"]:
        notes.append(f"{counts['missing']} of {counts['instances']} instances have no row and count as failed")
    if counts["extra"]:
        notes.append(f"{counts['extra']} of {counts['rows']} rows belong to no instance and are left out")
    if transcript.format != OWN_FORMAT:
        notes.insert(0, f"read as {transcript.format}: {counts['rows']} rows, {counts['instances']} instances")
    return notes


def _outcomes(scenario: Scenario, instance: Instance, rows: Sequence[MatchedRow]) -> list[Outcome]:
    if not rows:
        return [Outcome(instance, failed=MISSING_OUTPUT)]
    rows = sorted(rows, key=lambda one: one.trial)
    if len(rows) > 1 and _takes_samples(scenario) and all("output" in one.row.fields for one in rows):
        texts = [one.row.fields["output"] for one in rows]
        rest = {name: value for name, value in rows[0].row.fields.items() if name != "output"}
        rows = [replace(rows[0], row=replace(rows[0].row, fields={**rest, "outputs": texts}), trial=0)]
    found = []
    for one in rows:
        known = instance
        if one.row.baseline:
            known = replace(instance, data={**instance.data, "baseline": tuple(one.row.baseline)})
        try:
            outcome = _outcome(scenario, known, one.row.fields)
        except ValueError as error:
            raise UserError(f"{one.row.location}: {error} (id {instance.id!r})") from None
        found.append(replace(outcome, trial=one.trial))
    return found


def _takes_samples(scenario: Scenario) -> bool:
    """Whether a metric is of several samples of an instance together, such as pass@k."""
    metrics = [metric.function for metric, _ in scenario.bind_metrics() if metric.kind == "instance"]
    return scenario.adapter.n > 1 or any("k" in inspect.signature(one).parameters for one in metrics)


def _outcome(scenario: Scenario, instance: Instance, fields: Mapping[str, Any]) -> Outcome:
    given = {name: value for name, value in fields.items() if value is not None}
    answers = [name for name in OUTPUT_FIELDS if name in given]
    recorded = {name: value for name, value in fields.items() if name not in KNOWN_FIELDS}  # null: an unparsed verdict
    judged = scenario.source.startswith(RECORDED_PREFIX) or any(
        metric.kind == "judged" for metric, _ in scenario.bind_metrics()
    )
    if len(answers) > 1 and set(answers) != {"output", "choice_log_probs"}:
        raise ValueError(f"expected one of {', '.join(answers)}")
    if given.get("finish_reason") in FAILED_REASONS:
        return Outcome(instance, failed=f"finish_reason {given['finish_reason']}", metadata=recorded)
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
    return replace(outcome, predicted=_predicted(scenario, outcome))


def _outputs(instance: Instance, given: Mapping[str, Any]) -> tuple[GeneratedOutput, ...]:
    log_prob = _number(given["log_prob"], "log_prob") if "log_prob" in given else None
    truncated = given.get("truncated", given.get("finish_reason") == "length")
    if not isinstance(truncated, bool):
        raise ValueError(f"truncated: expected true or false, got {truncated!r}")
    if "output" in given:
        reasoning = _text(given, "reasoning_content") if "reasoning_content" in given else ""
        return (GeneratedOutput(_text(given, "output"), log_prob, truncated=truncated, reasoning=reasoning),)
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
    if outcome.choices is not None:
        texts = [one.text for one in outcome.instance.references]
        values = choice_values(scenario.adapter, outcome.choices, texts)
        return values.index(max(values)) if values and max(values) > -math.inf else None
    if not scenario.adapter.method.startswith("multiple_choice") or not outcome.outputs:
        return None
    return chosen_reference(scenario.adapter, outcome)


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
