"""Which model is better? Paired differences on the very same instances, tested as `zhenlong compare` tests them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Final

import numpy as np

from zhenlong.evaluate.comparison.compare import chance
from zhenlong.evaluate.comparison.differences import LEVEL, are_outcomes, paired_ends
from zhenlong.evaluate.hypothesis import holm, mcnemar, permutation_test
from zhenlong.evaluate.results import Record
from zhenlong.evaluate.statistics import Interval
from zhenlong.report.evaluation.folder import Evaluation, Place, label_of, model_name
from zhenlong.report.evaluation.numbers import digits_for, number, with_half

PAIRS: Final = 6  # of models up to which all are compared; with more, each is compared with the baseline


@dataclass(frozen=True)
class Difference:
    """One measure of a model less that of another; `level` is -2 for a sure loss, 2 for a sure gain, else 0."""

    scenario: str
    label: str
    value: Interval
    p: float
    higher_is_better: bool | None
    text: str
    half: str
    ends: str
    chance: str = ""  # p after Holm's correction for all rows of the pair
    level: int = 0
    bar: tuple[float, float, float] | None = None  # low, mean and high as hundredths of the drawn width


@dataclass(frozen=True)
class Pair:
    """All differences of two models."""

    model: str
    other: str
    rows: list[Difference]

    @property
    def title(self) -> str:
        """Which is taken from which."""
        return f"{model_name(self.model)} less {model_name(self.other)}"


def pairs_of(evaluation: Evaluation) -> list[tuple[str, str]]:
    """The pairs (later, earlier) of models that are compared: all, or of many models each with the baseline.

    That is the `baseline` of evaluation.json, else the first model.
    """
    every = [(later, earlier) for earlier, later in combinations(evaluation.models, 2)]
    asked = evaluation.asked.get("baseline")
    first = asked if asked in evaluation.models else evaluation.models[0]
    return every if len(every) <= PAIRS else [(model, first) for model in evaluation.models if model != first]


def differences_of(
    evaluation: Evaluation, place: Place, records: Mapping[str, Sequence[Record]]
) -> Iterator[tuple[tuple[str, str], Difference]]:
    """A scenario's differences for each pair of models that share at least two answered instances.

    They are of the main measure; where the scenario is the only one, of every measure that has a direction.
    """
    for measure, better in _measures(evaluation, place):
        values = {model: _by_instance(own, place[1], measure) for model, own in records.items()}
        for pair in pairs_of(evaluation):
            first, second = (values.get(model, {}) for model in pair)
            shared = [key for key in first if key in second]
            if len(shared) > 1:
                both = [second[key] for key in shared], [first[key] for key in shared]
                yield pair, _difference(evaluation.named(place), label_of(measure), both, better)


def compared(pairs: Sequence[Pair]) -> list[Pair]:
    """The same with p-values corrected within each pair, and bars on one scale.

    The scale is wide enough for every interval within -1 and 1; larger ones are of another unit and have no bar.
    """
    ends = [end for pair in pairs for row in pair.rows for end in row.value.ci95 if abs(end) <= 1]
    widest = max((abs(end) for end in ends), default=1.0) or 1.0
    found = []
    for pair in pairs:
        adjusted = holm([row.p for row in pair.rows])
        rows = [_finished(row, p, widest) for row, p in zip(pair.rows, adjusted, strict=True)]
        found.append(replace(pair, rows=rows))
    return found


def _measures(evaluation: Evaluation, place: Place) -> list[tuple[str, bool | None]]:
    main = evaluation.main_measure(place[0])
    own = [
        one
        for one in evaluation.results
        if (one.scenario, one.shots, one.perturbation, one.group) == (*place, "", "") and one.category != "efficiency"
    ]
    better = {one.measure: one.higher_is_better for one in own}
    if len(evaluation.places) > 1:
        return [(main, better.get(main))]
    return [(name, way) for name, way in better.items() if name == main or way is not None]


def _by_instance(records: Sequence[Record], shots: int, measure: str) -> dict[str, float]:
    """The mean score over the trials of each unperturbed instance."""
    found: dict[str, list[float]] = {}
    for one in records:
        if not one.perturbation and not one.failed and one.shots == shots and measure in one.scores:
            found.setdefault(one.id, []).append(one.scores[measure])
    return {key: float(np.mean(several)) for key, several in found.items() if np.isfinite(several).all()}


def _difference(scenario: str, label: str, both: tuple[list[float], list[float]], better: bool | None) -> Difference:
    """The second values less the first."""
    gained = np.subtract(both[1], both[0])
    value = Interval(float(gained.mean()), paired_ends(both), len(gained))
    p = mcnemar(*both).p if are_outcomes(both) else permutation_test(gained)
    digits = digits_for([value])
    text, half = with_half(value, digits, signed=True)
    ends = " to ".join(number(end, digits, signed=True) for end in value.ci95)
    return Difference(scenario, label, value, p, better, text, half, ends)


def _finished(row: Difference, adjusted: float, widest: float) -> Difference:
    sure = adjusted < LEVEL and row.higher_is_better is not None
    level = 0 if not sure else 2 if (row.value.mean > 0) == row.higher_is_better else -2
    low, high = row.value.ci95
    drawn = abs(low) <= 1 and abs(high) <= 1
    ends = [round(50 + 48 * end / widest, 1) for end in (low, row.value.mean, high)]
    bar = (ends[0], ends[1], ends[2]) if drawn else None
    return replace(row, chance=chance(adjusted), level=level, bar=bar)
