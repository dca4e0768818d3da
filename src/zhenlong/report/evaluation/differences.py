"""Which model is better? Paired differences of the main measures, on the very same instances."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final

import numpy as np

from zhenlong.evaluate.results import Record
from zhenlong.evaluate.statistics import Interval, paired_difference
from zhenlong.report.evaluation.folder import Evaluation, Place, label_of, model_name
from zhenlong.report.evaluation.numbers import digits_for, number, with_half

PAIRS: Final = 6  # of models up to which all are compared; with more, each is compared with the first


@dataclass(frozen=True)
class Difference:
    """One scenario's difference of two models, later less earlier; `level` is -2 for a sure loss, 2 for a sure gain."""

    scenario: str
    label: str
    text: str
    half: str
    ends: str
    level: int
    n: int
    value: Interval
    bar: tuple[float, float, float] | None = None  # low, mean and high as shares of the drawn width


@dataclass(frozen=True)
class Pair:
    """All differences of two models."""

    model: str
    other: str
    rows: list[Difference]

    @property
    def title(self) -> str:
        return f"{model_name(self.model)} less {model_name(self.other)}"


def pairs_of(models: Sequence[str]) -> list[tuple[str, str]]:
    """The pairs (later, earlier) of models that are compared."""
    every = [(later, earlier) for earlier, later in combinations(models, 2)]
    return every if len(every) <= PAIRS else [(model, models[0]) for model in models[1:]]


def differences_of(
    evaluation: Evaluation, place: Place, records: Mapping[str, Sequence[Record]]
) -> Iterator[tuple[tuple[str, str], Difference]]:
    """A scenario's difference for each pair of models that share at least two answered instances."""
    main = evaluation.main_measure(place[0])
    known = evaluation.find(place, main)
    better = next((one.higher_is_better for one in known.values()), None)
    values = {model: _by_instance(own, place[1], main) for model, own in records.items()}
    for pair in pairs_of(evaluation.models):
        first, second = (values.get(model, {}) for model in pair)
        shared = [key for key in first if key in second]
        if len(shared) > 1:
            found = paired_difference([first[key] for key in shared], [second[key] for key in shared])
            yield pair, _difference(evaluation.named(place), label_of(main), found, better)


def drawn_beside(pairs: Sequence[Pair]) -> list[Pair]:
    """The same with bars on one scale, wide enough for every interval that lies within -1 and 1.

    Differences of larger measures have no bar: they are of another unit.
    """
    drawn = [end for pair in pairs for row in pair.rows for end in row.value.ci95 if abs(end) <= 1]
    widest = max((abs(end) for end in drawn), default=1.0) or 1.0
    return [Pair(pair.model, pair.other, [_with_bar(row, widest) for row in pair.rows]) for pair in pairs]


def _by_instance(records: Sequence[Record], shots: int, measure: str) -> dict[str, float]:
    """The mean score over the trials of each unperturbed instance."""
    found: dict[str, list[float]] = {}
    for one in records:
        if not one.perturbation and not one.failed and one.shots == shots and measure in one.scores:
            found.setdefault(one.id, []).append(one.scores[measure])
    return {key: float(np.mean(several)) for key, several in found.items() if np.isfinite(several).all()}


def _difference(scenario: str, label: str, value: Interval, better: bool | None) -> Difference:
    digits = digits_for([value])
    text, half = with_half(value, digits, signed=True)
    low, high = value.ci95
    sure = low > 0 or high < 0
    level = 0 if not sure or better is None else 2 if (value.mean > 0) == better else -2
    ends = f"{number(low, digits, signed=True)} to {number(high, digits, signed=True)}"
    return Difference(scenario, label, text, half, ends, level, value.n, value)


def _with_bar(row: Difference, widest: float) -> Difference:
    ends = (row.value.ci95[0], row.value.mean, row.value.ci95[1])
    if not all(abs(end) <= 1 for end in ends):
        return row
    low, middle, high = (round(50 + 48 * end / widest, 1) for end in ends)
    return Difference(**{**row.__dict__, "bar": (low, middle, high)})
