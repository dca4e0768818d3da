"""Mean win rates: over the scenarios of a category, how large a share of the other models a model beats."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from zhenlong.report.evaluation.folder import Evaluation, model_name
from zhenlong.report.evaluation.numbers import mean, number
from zhenlong.report.evaluation.table import Category, category_of


@dataclass(frozen=True)
class Wins:
    """For each model its mean win rate in each category (a dash where it has none), and the numbers of scenarios."""

    categories: list[str]
    columns: list[int]
    rows: list[tuple[str, list[tuple[str, float]]]]  # model; text and share (NaN: none) of each category


def wins_of(evaluation: Evaluation, categories: Sequence[Category]) -> Wins | None:
    """The mean win rates of at least two models; None for one, and categories without a direction are left out."""
    names, counts, columns = [], [], []
    for category in categories:
        rates = [rate for row in category.rows if (rate := _of_row(evaluation, category.name, row.place, row.measure))]
        if rates:
            names.append(category.name)
            counts.append(len(rates))
            columns.append([mean([rate[m] for rate in rates if m in rate]) for m in evaluation.models])
    if len(evaluation.models) < 2 or not names:
        return None
    rows = [
        (model_name(model), [(number(column[at], 2), column[at]) for column in columns]) for at, model in enumerate(evaluation.models)
    ]
    return Wins(names, counts, rows)


def win_rates(values: dict[str, float], higher_is_better: bool) -> dict[str, float]:
    """How large a share of the others each beats, ties counting one half; empty for fewer than two.

    stanford-crfm/helm: presentation/summarize.py.
    """
    finite = {name: value if higher_is_better else -value for name, value in values.items() if math.isfinite(value)}
    if len(finite) < 2:
        return {}
    return {
        name: sum((own > other) + 0.5 * (own == other) for key, other in finite.items() if key != name)
        / (len(finite) - 1)
        for name, own in finite.items()
    }


def _of_row(evaluation: Evaluation, category: str, place: tuple[str, int], measure: str) -> dict[str, float]:
    found = {
        one.model: one
        for one in evaluation.results
        if (one.scenario, one.shots) == place
        and one.measure == measure
        and not one.group
        and category_of(one) == category
    }
    better = next((one.higher_is_better for one in found.values()), None)
    return {} if better is None else win_rates({m: one.value.mean for m, one in found.items()}, better)
