"""Cost against quality, and quality by the number of examples in the prompt, as charts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from zhenlong.report.evaluation.drawing import Axis, Chart, Point, Series, axis_over, drawn, unit_axis
from zhenlong.report.evaluation.folder import Evaluation, label_of, model_name
from zhenlong.report.evaluation.numbers import digits_for, mean, number, spoken

COSTS: Final = {
    "seconds_per_request": "seconds a request",
    "flops_per_request": "floating-point operations a request",
    "generated_tokens": "tokens written a request",
    "peak_memory": "peak memory in bytes",
}


def costs_of(evaluation: Evaluation) -> list[Chart]:
    """A chart for each cost: its mean over scenarios against the mean of their main measures.

    Only scenarios count that every model drawn has both numbers of, and of which more is better.
    """
    charts = []
    for measure, words in COSTS.items():
        pairs = _pairs(evaluation, measure)
        if len(pairs) < 2:
            continue
        shared = sorted(set.intersection(*(set(own) for own in pairs.values())))
        if not shared:
            continue
        series, said = [], []
        for at, model in enumerate(evaluation.models):
            if model in pairs:
                x, y = (mean([pairs[model][place][i] for place in shared]) for i in (0, 1))
                text = f"{model_name(model)}: {number(x, 3)} {words}, quality {y:.3f}"
                series.append(Series(at, [Point(x, y, text)]))
                said.append(text)
        xs, ys = ([point for one in series for point in [getattr(one.points[0], axis)]] for axis in "xy")
        note = f"Mean over {len(shared)} scenario{'s' * (len(shared) > 1)}"
        charts.append(
            drawn(
                words.capitalize(),
                series,
                axis_over(xs, words),
                _quality(ys, "mean quality"),
                spoken="; ".join(said),
                note=note,
            )
        )
    return charts


def shots_of(evaluation: Evaluation) -> list[Chart]:
    """For each scenario asked with several numbers of examples, its main measure by their number."""
    charts = []
    for scenario in evaluation.scenarios:
        places = [place for place in evaluation.places if place[0] == scenario]
        if len(places) < 2:
            continue
        measure = evaluation.main_measure(scenario)
        found = {place[1]: evaluation.find(place, measure) for place in places}
        digits = digits_for(one.value for by_model in found.values() for one in by_model.values())
        series = []
        for at, model in enumerate(evaluation.models):
            points = []
            for shots, by_model in found.items():
                if model in by_model and math.isfinite(by_model[model].value.mean):
                    value = by_model[model].value
                    ends = value.ci95 if all(map(math.isfinite, value.ci95)) else None
                    says = f"{model_name(model)}, {shots} examples: {spoken(value, digits)}"
                    points.append(Point(shots, value.mean, says, ends))
            if points:
                series.append(Series(at, points))
        points = [point for one in series for point in one.points]
        if points:
            ys = [v for point in points for v in (point.y, *(point.y_ends or ()))]
            x = axis_over([point.x for point in points], "examples in the prompt", whole=True)
            said = "; ".join(point.says for point in points)
            charts.append(drawn(scenario, series, x, _quality(ys, label_of(measure).lower()), spoken=said))
    return charts


def _quality(values: Sequence[float], title: str) -> Axis:
    """From 0 to 1 where the values fill at least a third of that, else over the values."""
    inside = all(0 <= value <= 1 for value in values)
    return unit_axis(title) if inside and max(values) - min(values) > 1 / 3 else axis_over(values, title)


def _pairs(evaluation: Evaluation, cost: str) -> dict[str, dict[tuple[str, int], tuple[float, float]]]:
    """Of each model the cost and the main measure of each scenario that it has both of."""
    found: dict[str, dict[tuple[str, int], tuple[float, float]]] = {}
    for place in evaluation.places:
        quality = evaluation.find(place, evaluation.main_measure(place[0]))
        for model, spent in evaluation.find(place, cost).items():
            own = quality.get(model)
            if own and own.higher_is_better and math.isfinite(own.value.mean) and math.isfinite(spent.value.mean):
                found.setdefault(model, {})[place] = (spent.value.mean, own.value.mean)
    return found
