"""Paired differences between models on the same instances, with the tests of `zhenlong compare`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Final

import numpy as np

from zhenlong.evaluate.compare.compare import format_p_value
from zhenlong.evaluate.compare.differences import SIGNIFICANCE_LEVEL
from zhenlong.evaluate.results.result_files import InstanceRecord
from zhenlong.evaluate.statistics.intervals import Interval
from zhenlong.evaluate.statistics.paired import PairedValues
from zhenlong.evaluate.statistics.significance import holm_correction
from zhenlong.report.evaluation.evaluation_data import EvaluationData, ScenarioShots, measure_title
from zhenlong.report.evaluation.number_format import decimals_for, format_decimal, format_with_half_width

MAX_PAIRS: Final = 6  # with more pairs of models, each model is compared with the baseline only


@dataclass(frozen=True)
class DifferenceRow:
    """The difference of one measure between two models; `level` is 2 or -2 for a significant gain or loss, else 0."""

    scenario: str
    label: str
    value: Interval
    p: float
    higher_is_better: bool | None
    text: str
    half_width: str
    interval_text: str
    p_holm_text: str = ""  # p after Holm's correction for all rows of the pair
    level: int = 0
    bar: tuple[float, float, float] = (50.0, 50.0, 50.0)  # low, mean and high in per cent of the drawn width


@dataclass(frozen=True)
class ModelPair:
    """All differences of two models."""

    title: str  # the models, minuend first
    rows: list[DifferenceRow]


def compared_pairs(evaluation: EvaluationData) -> list[tuple[str, str]]:
    """The pairs (later, earlier) of models to compare: all, or for many models each with the baseline.

    The baseline is the `baseline` of evaluation.json, else the first model.
    """
    every = [(later, earlier) for earlier, later in combinations(evaluation.models, 2)]
    baseline = evaluation.manifest.get("baseline")
    first = baseline if baseline in evaluation.models else evaluation.models[0]
    return every if len(every) <= MAX_PAIRS else [(model, first) for model in evaluation.models if model != first]


def pair_title(evaluation: EvaluationData, model: str, other: str) -> str:
    """The models of a pair, minuend first."""
    return f"{evaluation.model_names[model]} - {evaluation.model_names[other]}"


def scenario_differences(
    evaluation: EvaluationData, scenario_shots: ScenarioShots, records: Mapping[str, Sequence[InstanceRecord]]
) -> Iterator[tuple[tuple[str, str], DifferenceRow]]:
    """A scenario's differences for each pair of models with at least two common instances that did not fail.

    They cover the main measure; if there is only one scenario, every measure with a direction.
    """
    clusters = {one.id: one.cluster or f"id {one.id}" for own in records.values() for one in own}
    for measure, higher_is_better in _measures_to_compare(evaluation, scenario_shots):
        values = {model: _mean_scores_by_instance(own, scenario_shots[1], measure) for model, own in records.items()}
        for pair in compared_pairs(evaluation):
            first, second = (values.get(model, {}) for model in pair)
            shared = [key for key in first if key in second]
            if len(shared) > 1:
                both = PairedValues(
                    [second[key] for key in shared], [first[key] for key in shared], [clusters[key] for key in shared]
                )
                yield (
                    pair,
                    _difference(
                        evaluation.scenario_title(scenario_shots), measure_title(measure), both, higher_is_better
                    ),
                )


def apply_holm(pairs: Sequence[ModelPair]) -> list[ModelPair]:
    """The pairs with p-values corrected within each pair, and bars on a common scale.

    The scale covers every difference within -1 and 1; a row beyond has another unit, and a scale of its own.
    """
    reaches = [_reach(row) for pair in pairs for row in pair.rows]
    widest = max((reach for reach in reaches if reach <= 1), default=1.0) or 1.0
    found = []
    for pair in pairs:
        adjusted = holm_correction([row.p for row in pair.rows])
        rows = [_with_significance(row, p, widest) for row, p in zip(pair.rows, adjusted, strict=True)]
        found.append(replace(pair, rows=rows))
    return found


def _measures_to_compare(evaluation: EvaluationData, scenario_shots: ScenarioShots) -> list[tuple[str, bool | None]]:
    main = evaluation.main_measure(scenario_shots[0])
    own = [
        one
        for one in evaluation.results
        if (one.scenario, one.shots, one.perturbation, one.group) == (*scenario_shots, "", "")
        and one.category != "efficiency"
    ]
    directions = {one.measure: one.higher_is_better for one in own}
    if len(evaluation.scenario_shots) > 1:
        return [(main, directions.get(main))]
    return [(name, way) for name, way in directions.items() if name == main or way is not None]


def _mean_scores_by_instance(records: Sequence[InstanceRecord], shots: int, measure: str) -> dict[str, float]:
    """The score of each unperturbed instance, averaged over trials."""
    found: dict[str, list[float]] = {}
    for one in records:
        if not one.perturbation and not one.failed and one.shots == shots and measure in one.scores:
            found.setdefault(one.id, []).append(one.scores[measure])
    return {key: float(np.mean(several)) for key, several in found.items() if np.isfinite(several).all()}


def _difference(scenario: str, label: str, both: PairedValues, higher_is_better: bool | None) -> DifferenceRow:
    """The second values minus the first."""
    value, p = both.difference(), both.test().p
    digits = decimals_for([value])
    text, half = format_with_half_width(value, digits, signed=True)
    ends = " to ".join(format_decimal(end, digits, signed=True) for end in value.ci95)
    interval_text = ends if value.is_known else "interval unknown"
    return DifferenceRow(scenario, label, value, p, higher_is_better, text, half, interval_text)


def _with_significance(row: DifferenceRow, p_holm: float, widest: float) -> DifferenceRow:
    known = row.higher_is_better is not None and row.value.is_sufficient
    significant = p_holm < SIGNIFICANCE_LEVEL and known
    level = 0 if not significant else 2 if (row.value.mean > 0) == row.higher_is_better else -2
    scale = widest if _reach(row) <= 1 else _reach(row)
    ends = row.value.ci95 if row.value.is_known else (row.value.mean, row.value.mean)
    low, middle, high = (round(50 + 48 * end / scale, 1) for end in (ends[0], row.value.mean, ends[1]))
    return replace(row, p_holm_text=format_p_value(p_holm), level=level, bar=(low, middle, high))


def _reach(row: DifferenceRow) -> float:
    """The distance from 0 of what the bar shows."""
    return max(abs(one) for one in (row.value.mean, *row.value.ci95) if math.isfinite(one))
