"""How far apart are the two sides on each measure, and could it be chance?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from zhenlong.evaluate.comparison.pairing import Row, Values
from zhenlong.evaluate.hypothesis import detectable, detectable_share, holm, mcnemar, permutation_test, score_interval
from zhenlong.evaluate.statistics import Interval, bootstrap_ends
from zhenlong.loop.atomic import plain

FEW: Final = 10  # pairs of outcomes that differ, below which resampling them claims too much certainty
LEVEL: Final = 0.05


@dataclass(frozen=True)
class Difference:
    """One measure of B less that of A, over the instances that both answered.

    Without pairs (`test` is empty) `a` and `b` are each side's own numbers and the interval is that of unpaired values.
    """

    row: Row
    a: float
    b: float
    difference: Interval
    test: str = ""  # mcnemar or permutation
    p: float | None = None
    mid_p: float | None = None  # McNemar's, less conservative
    adjusted: float | None = None  # p after Holm's correction for all measures tested
    detectable: float | None = None  # what this n shows in 80 of 100 samples; None where that cannot be known

    @property
    def verdict(self) -> str:
        """better, worse or differs (a measure without direction) where the corrected p is below 0.05, else empty."""
        if self.adjusted is None or self.adjusted >= LEVEL:
            return ""
        better = self.row.a.higher_is_better
        if better is None:
            return "differs"
        return "better" if (self.difference.mean > 0) == better else "worse"

    def as_json(self) -> dict[str, Any]:
        """The row as JSON holds it; null for what is not known."""
        one = self.row.a
        names = ("scenario", "measure", "category", "higher_is_better", "perturbation", "group", "main")
        found = {name: getattr(one, name) for name in names}
        found |= {"shots": [one.shots, self.row.b.shots], "a": self.a, "b": self.b}
        found |= {"difference": self.difference.as_json(), "paired": bool(self.test), "test": self.test, "p": self.p}
        found |= {"mid_p": self.mid_p, "holm": self.adjusted, "detectable": self.detectable, "verdict": self.verdict}
        return dict(plain(found))


def differences(rows: Sequence[Row], seed: int = 0) -> list[Difference]:
    """The difference of every row; p is corrected over all rows without a group, and over all those with one."""
    found = [_difference(row, seed) for row in rows]
    for grouped in (False, True):
        places = [place for place, one in enumerate(found) if one.p is not None and bool(one.row.a.group) == grouped]
        adjusted = holm([found[place].p or 0.0 for place in places])
        for place, value in zip(places, adjusted, strict=True):
            found[place] = replace(found[place], adjusted=value)
    return found


def are_outcomes(pairs: Values) -> bool:
    """Whether all values are 0 or 1."""
    return all(value in (0.0, 1.0) for values in pairs for value in values)


def paired_ends(pairs: Values, confidence: float = 0.95, seed: int = 0) -> tuple[float, float]:
    """The interval of the mean of b - a: the bootstrap of the differences, or the score interval of few outcomes.

    Where all values are 0 or 1 and fewer than ten pairs differ, resampling would claim certainty: Tango (1998) instead.
    """
    if are_outcomes(pairs):
        found = mcnemar(*pairs)
        if found.only_a + found.only_b < FEW:
            low, high = score_interval(found.only_b, found.only_a, len(pairs[0]), confidence)
            return low, high
    return bootstrap_ends(np.subtract(pairs[1], pairs[0]), confidence, seed)


def unpaired_ends(row: Row, z_ratio: float = 1.0) -> tuple[float, float]:
    """The interval of b - a from each side's own 95 % interval, as if they were independent samples.

    Its arms are sqrt of the summed squares of the arms that matter (Zou and Donner 2008); for the same instances that
    is wider than pairing would give. `z_ratio` scales it to another confidence: that one's normal point over 1.96.
    """
    a, b = row.a.value, row.b.value
    seen = b.mean - a.mean
    below = math.hypot(b.mean - b.ci95[0], a.ci95[1] - a.mean)
    above = math.hypot(b.ci95[1] - b.mean, a.mean - a.ci95[0])
    return seen - z_ratio * below, seen + z_ratio * above


def _difference(row: Row, seed: int) -> Difference:
    if row.pairs is None:
        a, b = row.a.value, row.b.value
        return Difference(row, a.mean, b.mean, Interval(b.mean - a.mean, unpaired_ends(row), min(a.n, b.n)))
    a_values, b_values = np.array(row.pairs[0]), np.array(row.pairs[1])
    gained, n = b_values - a_values, len(a_values)
    between = Interval(float(gained.mean()), paired_ends(row.pairs, seed=seed), n)
    means = float(a_values.mean()), float(b_values.mean())
    if are_outcomes(row.pairs):
        found = mcnemar(a_values, b_values)
        shown = detectable_share(found.only_a + found.only_b, n)
        return Difference(row, *means, between, "mcnemar", found.p, found.mid_p, detectable=_known(shown))
    p = permutation_test(gained, seed)
    return Difference(row, *means, between, "permutation", p, detectable=_known(detectable(gained)))


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None
