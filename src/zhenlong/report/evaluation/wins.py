"""Mean win rates: over the scenarios of a category, how large a share of the other models a model beats."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from zhenlong.evaluate.comparison.win_rate import Column, mean_win_rate
from zhenlong.report.evaluation.folder import Evaluation, model_name
from zhenlong.report.evaluation.numbers import number
from zhenlong.report.evaluation.table import Category, Row, category_of


@dataclass(frozen=True)
class Wins:
    """For each model its mean win rate in each category (a dash where it has none), and the numbers of scenarios."""

    categories: list[str]
    columns: list[int]
    rows: list[tuple[str, list[tuple[str, float]]]]  # model; text and share (NaN: none) of each category


def wins_of(evaluation: Evaluation, categories: Sequence[Category]) -> Wins | None:
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
        (model_name(model), [(number(column[at], 2), column[at]) for column in columns])
        for at, model in enumerate(evaluation.models)
    ]
    return Wins(names, counts, rows)


def _column(evaluation: Evaluation, category: str, row: Row) -> Column:
    """The models' values in a row of a table, and which way is better."""
    found = {
        one.model: one
        for one in evaluation.results
        if (one.scenario, one.shots) == row.place
        and one.measure == row.measure
        and not one.group
        and category_of(one) == category
    }
    better = next((one.higher_is_better for one in found.values()), None)
    return {model: one.value.mean for model, one in found.items() if math.isfinite(one.value.mean)}, better
