"""Results by group: the main measure over each group of instances, and the gap between groups."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from zhenlong.evaluate.results.result_files import Result
from zhenlong.report.evaluation.evaluation_data import EvaluationData, ScenarioShots, measure_title
from zhenlong.report.evaluation.heat_table import ARROWS, LEVEL_THRESHOLDS, HeatCell
from zhenlong.report.evaluation.number_format import (
    decimals_for,
    describe_interval,
    format_decimal,
    format_with_half_width,
    half_width,
)

GROUP_LEVEL_TEXTS = {
    -2: "significantly worse than the model overall",
    0: "",
    2: "significantly better than the model overall",
}


@dataclass(frozen=True)
class GroupTable:
    """One measure of a scenario by the values of one group, a column per model; a gap is best minus worst."""

    scenario: str
    name: str
    label: str
    arrow: str
    rows: list[tuple[str, list[HeatCell | None]]]
    overall: list[str]
    gaps: list[str]


def group_tables(evaluation: EvaluationData, scenario_shots: ScenarioShots) -> list[GroupTable]:
    """The groupings of a scenario with at least two values, for its main measure or one that exists only by group."""
    own = [
        one
        for one in evaluation.results
        if (one.scenario, one.shots) == scenario_shots and one.group and not one.perturbation
    ]
    main = evaluation.main_measure(scenario_shots[0])
    names = dict.fromkeys(one.group.split("=", 1)[0] for one in own)
    found = []
    for name in names:
        within = [one for one in own if one.group.split("=", 1)[0] == name]
        measure = main if any(one.measure == main for one in within) else within[0].measure
        table = _group_table(evaluation, scenario_shots, name, [one for one in within if one.measure == measure])
        if len(table.rows) > 1:
            found.append(table)
    return found


def _group_table(
    evaluation: EvaluationData, scenario_shots: ScenarioShots, name: str, results: Sequence[Result]
) -> GroupTable:
    measure, higher_is_better = results[0].measure, results[0].higher_is_better
    overall = evaluation.results_by_model(scenario_shots, measure)
    digits = decimals_for(one.value for one in (overall.values() or results))
    values = list(dict.fromkeys(one.group.split("=", 1)[1] for one in results))
    by_key = {(one.model, one.group.split("=", 1)[1]): one for one in results}
    rows = [
        (value, [_cell(by_key.get((model, value)), overall.get(model), digits) for model in evaluation.models])
        for value in values
    ]
    means = [[by_key[m, v].value.mean for v in values if (m, v) in by_key] for m in evaluation.models]
    finite = [[one for one in column if math.isfinite(one)] for column in means]
    return GroupTable(
        evaluation.scenario_title(scenario_shots),
        name,
        measure_title(measure),
        ARROWS[higher_is_better],
        rows,
        [format_decimal(overall[m].value.mean if m in overall else None, digits) for m in evaluation.models],
        [format_decimal(max(column) - min(column) if column else None, digits) for column in finite],
    )


def _cell(result: Result | None, overall: Result | None, digits: int) -> HeatCell | None:
    """A group's cell, coloured if its interval excludes the model's overall value."""
    if result is None:
        return None
    text, half = format_with_half_width(result.value, digits)
    level, width = 0, half_width(result.value)
    if overall and width is not None and result.value.is_sufficient and result.higher_is_better is not None:
        low, high = result.value.ci95
        difference = result.value.mean - overall.value.mean
        significant = not low <= overall.value.mean <= high and abs(difference) > LEVEL_THRESHOLDS[0] * width
        level = 0 if not significant else 2 if (difference > 0) == result.higher_is_better else -2
    aria_label = ", ".join(filter(None, (describe_interval(result.value, digits), GROUP_LEVEL_TEXTS[level])))
    return HeatCell(text, half, level, aria_label, result.failed, result.value.n, "")
