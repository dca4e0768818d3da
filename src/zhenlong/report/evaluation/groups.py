"""Fairness between groups: the main measure over each group of instances, and how far apart the groups are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from zhenlong.evaluate.results import Result
from zhenlong.report.evaluation.folder import Evaluation, Place, label_of
from zhenlong.report.evaluation.numbers import digits_for, half_width, number, spoken, with_half
from zhenlong.report.evaluation.table import ARROWS, STEPS, Cell

WORDS = {-2: "surely worse than the model is over all", 0: "", 2: "surely better than the model is over all"}


@dataclass(frozen=True)
class Grouping:
    """One measure of a scenario by the values of one group, a column for each model; gaps are best less worst."""

    scenario: str
    name: str
    label: str
    arrow: str
    rows: list[tuple[str, list[Cell | None]]]
    overall: list[str]
    gaps: list[str]


def groupings_of(evaluation: Evaluation, place: Place) -> list[Grouping]:
    """The groupings of a scenario that have at least two values, by its main measure or one that is only by group."""
    own = [
        one for one in evaluation.results if (one.scenario, one.shots) == place and one.group and not one.perturbation
    ]
    main = evaluation.main_measure(place[0])
    names = dict.fromkeys(one.group.split("=", 1)[0] for one in own)
    found = []
    for name in names:
        within = [one for one in own if one.group.split("=", 1)[0] == name]
        measure = main if any(one.measure == main for one in within) else within[0].measure
        table = _grouping(evaluation, place, name, [one for one in within if one.measure == measure])
        if len(table.rows) > 1:
            found.append(table)
    return found


def _grouping(evaluation: Evaluation, place: Place, name: str, results: Sequence[Result]) -> Grouping:
    measure, better = results[0].measure, results[0].higher_is_better
    overall = evaluation.find(place, measure)
    digits = digits_for(one.value for one in (overall.values() or results))
    values = list(dict.fromkeys(one.group.split("=", 1)[1] for one in results))
    by_key = {(one.model, one.group.split("=", 1)[1]): one for one in results}
    rows = [
        (value, [_cell(by_key.get((model, value)), overall.get(model), digits) for model in evaluation.models])
        for value in values
    ]
    means = [[by_key[m, v].value.mean for v in values if (m, v) in by_key] for m in evaluation.models]
    finite = [[one for one in column if math.isfinite(one)] for column in means]
    return Grouping(
        evaluation.named(place),
        name,
        label_of(measure),
        ARROWS[better],
        rows,
        [number(overall[m].value.mean if m in overall else None, digits) for m in evaluation.models],
        [number(max(column) - min(column) if column else None, digits) for column in finite],
    )


def _cell(result: Result | None, overall: Result | None, digits: int) -> Cell | None:
    """A group's number, coloured where its interval leaves out what the model reaches over all."""
    if result is None:
        return None
    text, half = with_half(result.value, digits)
    level, width = 0, half_width(result.value)
    if overall and width is not None and result.higher_is_better is not None:
        low, high = result.value.ci95
        away = result.value.mean - overall.value.mean
        sure = not low <= overall.value.mean <= high and abs(away) > STEPS[0] * width
        level = 0 if not sure else 2 if (away > 0) == result.higher_is_better else -2
    said = ", ".join(filter(None, (spoken(result.value, digits), WORDS[level])))
    return Cell(text, half, level, said, result.failed, result.value.n, "")
