"""The heat table: every model on every scenario in the seven categories, coloured by what the intervals say.

A cell's colour says how far the model lies from the mean of the models in its row, in half-widths of its own interval,
and on which side: noise stays pale, however it looks as a number.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlencode

from zhenlong.evaluate.metrics.registry import CATEGORIES
from zhenlong.evaluate.results import Result
from zhenlong.report.evaluation.folder import WORST, Evaluation, Place, label_of, model_name
from zhenlong.report.evaluation.numbers import digits_for, half_width, mean, spoken, with_half

STEPS: Final = (1.0, 2.0, 4.0)  # half-widths from the row's mean at which a colour deepens
WORDS: Final = {
    -3: "far below the row", -2: "well below the row", -1: "below the row", 0: "",
    1: "above the row", 2: "well above the row", 3: "far above the row",
}  # fmt: skip
ARROWS: Final = {True: "↑", False: "↓", None: ""}
DIRECTIONS: Final = {True: "more is better", False: "less is better", None: "neither way is better"}


@dataclass(frozen=True)
class Cell:
    """One model's number: its text, half its interval's width, its colour (-3 worst to 3 best), what it says aloud."""

    text: str
    half: str
    level: int
    spoken: str
    failed: int
    n: int
    link: str


@dataclass(frozen=True)
class Row:
    """One measure of one scenario, a cell for each model (None: not measured). `chief` stands for its category."""

    place: Place
    scenario: str
    measure: str
    label: str
    arrow: str
    direction: str
    cells: list[Cell | None]
    chief: bool

    @property
    def n(self) -> str:
        """The numbers of instances, said once where all models have the same."""
        counts = sorted({cell.n for cell in self.cells if cell})
        return "" if not counts else f"n = {counts[0]:,}" + (f" to {counts[-1]:,}" if len(counts) > 1 else "")


@dataclass(frozen=True)
class Category:
    """The rows of one of the seven categories, and how large a share of the other models each model beats."""

    name: str
    rows: list[Row]
    others: list[Row]


@dataclass(frozen=True)
class Block:
    """One scenario in the overview: for each model a cell of each category; `measures` names the columns' numbers."""

    scenario: str
    measures: list[str]
    lines: list[tuple[str, list[Cell | None]]]


def categories_of(evaluation: Evaluation) -> list[Category]:
    """A table for each category that has numbers, in the order of the seven."""
    found = []
    for name in CATEGORIES:
        rows = [row for place in evaluation.places for row in _rows(evaluation, place, name)]
        if rows:
            found.append(Category(name, [r for r in rows if r.chief], [r for r in rows if not r.chief]))
    return found


def overview_of(evaluation: Evaluation, categories: Sequence[Category]) -> list[Block]:
    """For each scenario the chief number of every category and model."""
    blocks = []
    for place in evaluation.places:
        chief = [next((row for row in one.rows if row.place == place), None) for one in categories]
        if not any(chief):
            continue
        lines = [
            (model_name(model), [row.cells[at] if row else None for row in chief])
            for at, model in enumerate(evaluation.models)
        ]
        measures = [f"{row.label} {row.arrow}".strip() if row else "" for row in chief]
        blocks.append(Block(evaluation.named(place), measures, lines))
    return blocks


def category_of(result: Result) -> str:
    """The category whose table a number over all instances stands in; empty for one that stands in none.

    The worst over perturbations stands for robustness and fairness, each perturbation by itself nowhere here.
    """
    if not result.perturbation:
        return result.category
    return result.category if result.perturbation == WORST + result.category else ""


def levels_of(results: Sequence[Result | None]) -> list[int]:
    """Each number's colour: how surely it is better (positive) or worse than the mean of its row."""
    means = [one.value.mean for one in results if one and math.isfinite(one.value.mean)]
    if len(means) < 2:
        return [0] * len(results)
    return [0 if one is None else _level(one, mean(means)) for one in results]


def _level(result: Result, middle: float) -> int:
    half, away = half_width(result.value), result.value.mean - middle
    if half is None or result.higher_is_better is None or not math.isfinite(away):
        return 0
    steps = sum(abs(away) > step * half for step in STEPS)
    return steps if (away > 0) == result.higher_is_better else -steps


def _rows(evaluation: Evaluation, place: Place, category: str) -> list[Row]:
    """The measures of a scenario in a category, the one that stands for it first."""
    own = [
        one
        for one in evaluation.results
        if (one.scenario, one.shots) == place and not one.group and category_of(one) == category
    ]
    keys = list(dict.fromkeys((one.measure, one.perturbation) for one in own))
    main = evaluation.main_measure(place[0])
    directed = {one.measure for one in own if one.higher_is_better is not None}
    keys.sort(key=lambda key: (key[0] != main, key[0] not in directed))
    rows: list[Row] = []
    for measure, perturbation in keys:
        by_model = {one.model: one for one in own if (one.measure, one.perturbation) == (measure, perturbation)}
        rows.append(_row(evaluation, place, [by_model.get(m) for m in evaluation.models], chief=not rows))
    return rows


def _row(evaluation: Evaluation, place: Place, results: Sequence[Result | None], chief: bool) -> Row:
    told = [one for one in results if one]
    digits = digits_for(one.value for one in told)
    better = told[0].higher_is_better
    return Row(
        place=place,
        scenario=evaluation.named(place),
        measure=told[0].measure,
        label=label_of(told[0].measure),
        arrow=ARROWS[better],
        direction=DIRECTIONS[better],
        cells=[
            _cell(one, level, digits) if one else None for one, level in zip(results, levels_of(results), strict=True)
        ],
        chief=chief,
    )


def _cell(result: Result, level: int, digits: int) -> Cell:
    text, half = with_half(result.value, digits)
    said = ", ".join(filter(None, (spoken(result.value, digits), WORDS[level])))
    link = urlencode({"scenario": result.scenario, "model": result.model, "shots": result.shots})
    return Cell(text, half, level, said, result.failed, result.value.n, f"#instances?{link}")
