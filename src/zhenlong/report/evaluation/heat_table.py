"""The heat table: every model on every scenario in the seven categories, coloured by significance.

The colour of a cell shows the distance from the mean of its row in half-widths of the cell's own interval, and the
side: noise stays pale, whatever the size of the number.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlencode

from zhenlong.evaluate.metrics.registry import CATEGORIES
from zhenlong.evaluate.results.result_files import WORST_CASE_PREFIX, Result
from zhenlong.evaluate.run.reading_shares import describe_shares
from zhenlong.report.evaluation.evaluation_data import (
    EvaluationData,
    ScenarioShots,
    measure_title,
)
from zhenlong.report.evaluation.number_format import (
    decimals_for,
    describe_interval,
    format_with_half_width,
    half_width,
    mean_or_nan,
)

LEVEL_THRESHOLDS: Final = (1.0, 2.0, 4.0)  # half-widths from the row's mean at which the colour level rises
LEVEL_TEXTS: Final = {
    -3: "far below the row", -2: "well below the row", -1: "below the row", 0: "",
    1: "above the row", 2: "well above the row", 3: "far above the row",
}  # fmt: skip
ARROWS: Final = {True: "↑", False: "↓", None: ""}
DIRECTION_TEXTS: Final = {True: "higher is better", False: "lower is better", None: "no direction"}


@dataclass(frozen=True)
class HeatCell:
    """One model's value: text, half-width, colour level (-3 worst to 3 best), label for screen readers."""

    text: str
    half_width: str
    level: int
    aria_label: str
    failed: int
    n: int
    link: str
    reading: str = ""  # the shares of answers that were not read


@dataclass(frozen=True)
class HeatRow:
    """One measure of one scenario, a cell per model (None: not measured). `main` marks the main one of its category."""

    scenario_shots: ScenarioShots
    scenario: str
    measure: str
    label: str
    arrow: str
    direction: str
    cells: list[HeatCell | None]
    is_main: bool

    @property
    def n(self) -> str:
        """The numbers of instances, or one number if it is the same for all models."""
        counts = sorted({cell.n for cell in self.cells if cell})
        return "" if not counts else f"n = {counts[0]:,}" + (f" to {counts[-1]:,}" if len(counts) > 1 else "")


@dataclass(frozen=True)
class CategoryTable:
    """The rows of one of the seven categories, with each model's win rate."""

    name: str
    rows: list[HeatRow]
    other_rows: list[HeatRow]


@dataclass(frozen=True)
class ScenarioBlock:
    """One scenario of the overview: a cell per model and category; `measures` names the measure of each column."""

    scenario: str
    measures: list[str]
    model_rows: list[tuple[str, list[HeatCell | None]]]


def category_tables(evaluation: EvaluationData) -> list[CategoryTable]:
    """A table for each category with results, in the fixed order of the seven."""
    found = []
    for name in CATEGORIES:
        rows = [row for place in evaluation.scenario_shots for row in _rows(evaluation, place, name)]
        if rows:
            found.append(CategoryTable(name, [r for r in rows if r.is_main], [r for r in rows if not r.is_main]))
    return found


def overview_blocks(evaluation: EvaluationData, categories: Sequence[CategoryTable]) -> list[ScenarioBlock]:
    """For each scenario, the main result of every category and model."""
    blocks = []
    for place in evaluation.scenario_shots:
        main_rows = [next((row for row in one.rows if row.scenario_shots == place), None) for one in categories]
        if not any(main_rows):
            continue
        model_rows = [
            (evaluation.model_names[model], [row.cells[at] if row else None for row in main_rows])
            for at, model in enumerate(evaluation.models)
        ]
        measures = [f"{row.label} {row.arrow}".strip() if row else "" for row in main_rows]
        blocks.append(ScenarioBlock(evaluation.scenario_title(place), measures, model_rows))
    return blocks


def result_category(result: Result) -> str:
    """The category whose table shows a result over all instances; empty if none does.

    Robustness and fairness show the worst case over perturbations; single perturbations are not shown here.
    """
    if not result.perturbation:
        return result.category
    return result.category if result.perturbation == WORST_CASE_PREFIX + result.category else ""


def heat_levels(results: Sequence[Result | None]) -> list[int]:
    """Each result's colour level: positive if better than the mean of its row, negative if worse."""
    means = [one.value.mean for one in results if one and math.isfinite(one.value.mean) and one.value.is_sufficient]
    if len(means) < 2:
        return [0] * len(results)
    return [0 if one is None else _heat_level(one, mean_or_nan(means)) for one in results]


def _heat_level(result: Result, row_mean: float) -> int:
    half, away = half_width(result.value), result.value.mean - row_mean
    if half is None or not result.value.is_sufficient or result.higher_is_better is None or not math.isfinite(away):
        return 0
    steps = sum(abs(away) > step * half for step in LEVEL_THRESHOLDS)
    return steps if (away > 0) == result.higher_is_better else -steps


def _rows(evaluation: EvaluationData, scenario_shots: ScenarioShots, category: str) -> list[HeatRow]:
    """The measures of a scenario in a category, the main one first."""
    own = [
        one
        for one in evaluation.results
        if (one.scenario, one.shots) == scenario_shots and not one.group and result_category(one) == category
    ]
    keys = list(dict.fromkeys((one.measure, one.perturbation) for one in own))
    main = evaluation.main_measure(scenario_shots[0])
    directed = {one.measure for one in own if one.higher_is_better is not None}
    keys.sort(key=lambda key: (key[0] != main, key[0] not in directed))
    rows: list[HeatRow] = []
    for measure, perturbation in keys:
        by_model = {one.model: one for one in own if (one.measure, one.perturbation) == (measure, perturbation)}
        rows.append(_row(evaluation, scenario_shots, [by_model.get(m) for m in evaluation.models], is_main=not rows))
    return rows


def _row(
    evaluation: EvaluationData, scenario_shots: ScenarioShots, results: Sequence[Result | None], is_main: bool
) -> HeatRow:
    present = [one for one in results if one]
    digits = decimals_for(one.value for one in present)
    higher_is_better = present[0].higher_is_better
    return HeatRow(
        scenario_shots=scenario_shots,
        scenario=evaluation.scenario_title(scenario_shots),
        measure=present[0].measure,
        label=measure_title(present[0].measure),
        arrow=ARROWS[higher_is_better],
        direction=DIRECTION_TEXTS[higher_is_better],
        cells=[
            _cell(one, level, digits) if one else None for one, level in zip(results, heat_levels(results), strict=True)
        ],
        is_main=is_main,
    )


def _cell(result: Result, level: int, digits: int) -> HeatCell:
    text, half = format_with_half_width(result.value, digits)
    aria_label = ", ".join(filter(None, (describe_interval(result.value, digits), LEVEL_TEXTS[level])))
    link = urlencode({"scenario": result.scenario, "model": result.model, "shots": result.shots})
    return HeatCell(
        text,
        half,
        level,
        aria_label,
        result.failed,
        result.value.n,
        f"#instances?{link}",
        describe_shares(result.reading),
    )
