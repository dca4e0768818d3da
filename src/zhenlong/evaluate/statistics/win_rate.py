"""HELM's mean win rate: which model is best over many measures?"""

from __future__ import annotations

from collections.abc import Mapping

MeasureColumn = tuple[Mapping[str, float], bool | None]  # value of each model, and whether higher is better


def mean_win_rate(columns: Mapping[str, MeasureColumn]) -> dict[str, float]:
    """For each model, the mean over columns of the fraction of other models in the column that it beats.

    Ties count one half. Columns with fewer than two values or without a direction are left out; a model is averaged
    over the columns in which it has a value, and omitted if it has none. The rate depends on the models compared.
    Source: stanford-crfm/helm:src/helm/benchmark/presentation/summarize.py (compute_aggregate_row_win_rates).
    """
    rates: dict[str, list[float]] = {}
    for values, higher_is_better in columns.values():
        known = {model: value for model, value in values.items() if value == value}
        if len(known) < 2 or higher_is_better is None:
            continue
        for model, value in known.items():
            rates.setdefault(model, []).append(_win_rate(model, value, known, higher_is_better))
    return {model: sum(several) / len(several) for model, several in rates.items()}


def _win_rate(model: str, value: float, values: Mapping[str, float], higher_is_better: bool) -> float:
    others = [other for name, other in values.items() if name != model]
    wins = sum((value > other) if higher_is_better else (value < other) for other in others)
    return (wins + 0.5 * sum(value == other for other in others)) / len(others)
