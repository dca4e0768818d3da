"""Paired difference of each measure between two models, with its interval and p-value."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from zhenlong.evaluate.compare.pairing import MeasurePair, PairedValues
from zhenlong.evaluate.statistics.intervals import Interval, bootstrap_bounds
from zhenlong.evaluate.statistics.significance import (
    holm_correction,
    mcnemar,
    mcnemar_detectable_effect,
    minimum_detectable_effect,
    permutation_test,
    tango_interval,
)
from zhenlong.loop.atomic import to_jsonable

MIN_DISCORDANT_PAIRS: Final = 10  # with fewer discordant pairs the bootstrap interval is too narrow
SIGNIFICANCE_LEVEL: Final = 0.05


@dataclass(frozen=True)
class MeasureDifference:
    """B - A of one measure, over the instances that both have outcomes for.

    Without pairs (`test` is empty) `a` and `b` are each side's own values and the interval is for unpaired samples.
    """

    measures: MeasurePair
    a: float
    b: float
    difference: Interval
    test: str = ""  # mcnemar or permutation
    p: float | None = None
    mid_p: float | None = None  # McNemar's mid-p, less conservative
    p_holm: float | None = None  # p after Holm's correction for all measures tested
    mde: float | None = None  # minimum detectable effect at 80 % power; None if it cannot be estimated

    @property
    def verdict(self) -> str:
        """`better`, `worse` or (a measure without direction) `differs` if the corrected p is below 0.05, else empty."""
        if self.p_holm is None or self.p_holm >= SIGNIFICANCE_LEVEL:
            return ""
        better = self.measures.a.higher_is_better
        if better is None:
            return "differs"
        return "better" if (self.difference.mean > 0) == better else "worse"

    def as_json(self) -> dict[str, Any]:
        """The row as JSON; null for unknown values."""
        one = self.measures.a
        names = ("scenario", "measure", "category", "higher_is_better", "perturbation", "group", "main")
        found = {name: getattr(one, name) for name in names}
        found |= {"shots": [one.shots, self.measures.b.shots], "a": self.a, "b": self.b}
        found |= {"difference": self.difference.as_json(), "paired": bool(self.test), "test": self.test, "p": self.p}
        found |= {"mid_p": self.mid_p, "holm": self.p_holm, "mde": self.mde, "verdict": self.verdict}
        return dict(to_jsonable(found))


def compute_differences(rows: Sequence[MeasurePair], seed: int = 0) -> list[MeasureDifference]:
    """The difference of every row; p is corrected over all rows without a group, and separately over those with one."""
    found = [_difference(row, seed) for row in rows]
    for grouped in (False, True):
        places = [
            place for place, one in enumerate(found) if one.p is not None and bool(one.measures.a.group) == grouped
        ]
        adjusted = holm_correction([found[place].p or 0.0 for place in places])
        for place, value in zip(places, adjusted, strict=True):
            found[place] = replace(found[place], p_holm=value)
    return found


def are_binary(pairs: PairedValues) -> bool:
    """Whether all values are 0 or 1."""
    return all(value in (0.0, 1.0) for values in pairs for value in values)


def paired_bounds(pairs: PairedValues, confidence: float = 0.95, seed: int = 0) -> tuple[float, float]:
    """The interval of the mean of b - a: percentile bootstrap of the differences, or Tango's score interval.

    Binary values with fewer than ten discordant pairs take Tango (1998): the bootstrap would be too narrow, or empty.
    """
    if are_binary(pairs):
        found = mcnemar(*pairs)
        if found.only_a + found.only_b < MIN_DISCORDANT_PAIRS:
            low, high = tango_interval(found.only_b, found.only_a, len(pairs[0]), confidence)
            return low, high
    return bootstrap_bounds(np.subtract(pairs[1], pairs[0]), confidence, seed)


def unpaired_bounds(row: MeasurePair, z_scale: float = 1.0) -> tuple[float, float]:
    """The interval of b - a from each side's own 95 % interval, as if they were independent samples.

    Its arms are the root of the sum of squares of the two relevant arms (Zou and Donner 2008); on the same instances it
    is wider than a paired interval. `z_scale` changes the confidence: its normal quantile divided by 1.96.
    """
    a, b = row.a.value, row.b.value
    seen = b.mean - a.mean
    below = math.hypot(b.mean - b.ci95[0], a.ci95[1] - a.mean)
    above = math.hypot(b.ci95[1] - b.mean, a.mean - a.ci95[0])
    return seen - z_scale * below, seen + z_scale * above


def _difference(row: MeasurePair, seed: int) -> MeasureDifference:
    if row.paired_values is None:
        a, b = row.a.value, row.b.value
        return MeasureDifference(row, a.mean, b.mean, Interval(b.mean - a.mean, unpaired_bounds(row), min(a.n, b.n)))
    a_values, b_values = np.array(row.paired_values[0]), np.array(row.paired_values[1])
    gains, n = b_values - a_values, len(a_values)
    difference = Interval(float(gains.mean()), paired_bounds(row.paired_values, seed=seed), n)
    means = float(a_values.mean()), float(b_values.mean())
    if are_binary(row.paired_values):
        found = mcnemar(a_values, b_values)
        mde = mcnemar_detectable_effect(found.only_a + found.only_b, n)
        return MeasureDifference(row, *means, difference, "mcnemar", found.p, found.mid_p, mde=_none_if_not_finite(mde))
    p = permutation_test(gains, seed)
    return MeasureDifference(
        row, *means, difference, "permutation", p, mde=_none_if_not_finite(minimum_detectable_effect(gains))
    )


def _none_if_not_finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
