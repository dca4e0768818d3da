"""Charts of quality against cost, and of quality by number of in-context examples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from zhenlong.report.evaluation.evaluation_data import EvaluationData, measure_title
from zhenlong.report.evaluation.number_format import decimals_for, describe_interval, format_decimal, mean_or_nan
from zhenlong.report.evaluation.svg_charts import Axis, Chart, Point, Series, axis_for, build_chart, unit_axis

COST_TITLES: Final = {
    "seconds_per_request": "seconds per request",
    "flops_per_request": "FLOPs per request",
    "generated_tokens": "generated tokens per request",
    "peak_memory": "peak memory in bytes",
}


def cost_quality_charts(evaluation: EvaluationData) -> list[Chart]:
    """A chart per cost: its mean over scenarios against the mean of their main measures.

    Only scenarios count for which every plotted model has both numbers, and with a main measure where higher is better.
    """
    charts = []
    for measure, cost_title in COST_TITLES.items():
        pairs = _cost_quality_pairs(evaluation, measure)
        if len(pairs) < 2:
            continue
        shared = sorted(set.intersection(*(set(own) for own in pairs.values())))
        if not shared:
            continue
        series, tooltips = [], []
        for at, model in enumerate(evaluation.models):
            if model in pairs:
                x, y = (mean_or_nan([pairs[model][place][i] for place in shared]) for i in (0, 1))
                text = f"{evaluation.model_names[model]}: {format_decimal(x, 3)} {cost_title}, quality {y:.3f}"
                series.append(Series(at, [Point(x, y, text)]))
                tooltips.append(text)
        xs, ys = ([point for one in series for point in [getattr(one.points[0], axis)]] for axis in "xy")
        note = f"Mean over {len(shared)} scenario{'s' * (len(shared) > 1)}"
        charts.append(
            build_chart(
                cost_title.capitalize(),
                series,
                (axis_for(xs, cost_title), _quality_axis(ys, "mean quality")),
                aria_label="; ".join(tooltips),
                note=note,
            )
        )
    return charts


def shot_charts(evaluation: EvaluationData) -> list[Chart]:
    """For each scenario with several numbers of in-context examples, its main measure by that number."""
    charts = []
    for scenario in evaluation.scenarios:
        with_shots = [place for place in evaluation.scenario_shots if place[0] == scenario]
        if len(with_shots) < 2:
            continue
        measure = evaluation.main_measure(scenario)
        found = {place[1]: evaluation.results_by_model(place, measure) for place in with_shots}
        digits = decimals_for(one.value for by_model in found.values() for one in by_model.values())
        series = []
        for at, model in enumerate(evaluation.models):
            points = []
            for shots, by_model in found.items():
                if model in by_model and math.isfinite(by_model[model].value.mean):
                    value = by_model[model].value
                    ends = value.ci95 if all(map(math.isfinite, value.ci95)) else None
                    tooltip = f"{evaluation.model_names[model]}, {shots} examples: {describe_interval(value, digits)}"
                    points.append(Point(shots, value.mean, tooltip, ends))
            if points:
                series.append(Series(at, points))
        points = [point for one in series for point in one.points]
        if points:
            ys = [v for point in points for v in (point.y, *(point.y_interval or ()))]
            x = axis_for([point.x for point in points], "examples in the prompt", ticks_at_values=True)
            aria_label = "; ".join(point.tooltip for point in points)
            charts.append(
                build_chart(
                    scenario, series, (x, _quality_axis(ys, measure_title(measure).lower())), aria_label=aria_label
                )
            )
    return charts


def _quality_axis(values: Sequence[float], title: str) -> Axis:
    """An axis from 0 to 1 if the values span at least a third of it, else one that fits the values."""
    inside = all(0 <= value <= 1 for value in values)
    return unit_axis(title) if inside and max(values) - min(values) > 1 / 3 else axis_for(values, title)


def _cost_quality_pairs(evaluation: EvaluationData, cost: str) -> dict[str, dict[tuple[str, int], tuple[float, float]]]:
    """For each model, cost and main measure of each scenario for which it has both."""
    found: dict[str, dict[tuple[str, int], tuple[float, float]]] = {}
    for place in evaluation.scenario_shots:
        quality = evaluation.results_by_model(place, evaluation.main_measure(place[0]))
        for model, spent in evaluation.results_by_model(place, cost).items():
            own = quality.get(model)
            if own and own.higher_is_better and math.isfinite(own.value.mean) and math.isfinite(spent.value.mean):
                found.setdefault(model, {})[place] = (spent.value.mean, own.value.mean)
    return found
