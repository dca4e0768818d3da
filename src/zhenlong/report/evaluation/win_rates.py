"""Mean win rates: the fraction of other models that a model beats, averaged over the scenarios of a category."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from zhenlong.evaluate.statistics.win_rate import MeasureColumn, mean_win_rate
from zhenlong.report.evaluation.evaluation_data import EvaluationData
from zhenlong.report.evaluation.heat_table import CategoryTable, HeatRow, result_category
from zhenlong.report.evaluation.number_format import format_decimal


@dataclass(frozen=True)
class WinRates:
    """For each model its mean win rate per category (a dash if it has none), and the numbers of scenarios."""

    categories: list[str]
    scenario_counts: list[int]
    rows: list[tuple[str, list[tuple[str, float]]]]  # model; text and rate (NaN: none) per category


def win_rate_table(evaluation: EvaluationData, categories: Sequence[CategoryTable]) -> WinRates | None:
    """The mean win rates of at least two models, over at least two scenarios of some category; else None.

    Categories without a direction are left out.
    """
    names, counts, columns = [], [], []
    for category in categories:
        values = {str(at): _column(evaluation, category.name, row) for at, row in enumerate(category.rows)}
        rates = mean_win_rate(values)
        if rates:
            names.append(category.name)
            counts.append(sum(better is not None and len(by_model) > 1 for by_model, better in values.values()))
            columns.append([rates.get(model, math.nan) for model in evaluation.models])
    if len(evaluation.models) < 2 or max(counts, default=0) < 2:
        return None
    rows = [
        (evaluation.model_names[model], [(format_decimal(column[at], 2), column[at]) for column in columns])
        for at, model in enumerate(evaluation.models)
    ]
    return WinRates(names, counts, rows)


def _column(evaluation: EvaluationData, category: str, row: HeatRow) -> MeasureColumn:
    """The models' values in a row of a table, and whether higher is better."""
    found = {
        one.model: one
        for one in evaluation.results
        if (one.scenario, one.shots) == row.scenario_shots
        and one.measure == row.measure
        and not one.group
        and result_category(one) == category
    }
    higher_is_better = next((one.higher_is_better for one in found.values()), None)
    ranked = {
        m: one.value.mean for m, one in found.items() if math.isfinite(one.value.mean) and one.value.is_sufficient
    }
    return ranked, higher_is_better
