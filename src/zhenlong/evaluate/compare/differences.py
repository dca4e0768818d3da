"""Paired difference of each measure between two models, with its interval and p-value."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from zhenlong.evaluate.compare.pairing import MeasurePair
from zhenlong.evaluate.statistics.intervals import Interval
from zhenlong.evaluate.statistics.paired import PairedTest
from zhenlong.evaluate.statistics.significance import holm_correction
from zhenlong.loop.atomic import to_jsonable

SIGNIFICANCE_LEVEL: Final = 0.05


@dataclass(frozen=True)
class MeasureDifference:
    """B - A of one measure, over the instances that both have outcomes for.

    Without pairs (`test` is None) `a` and `b` are each side's own values and the interval is for unpaired samples.
    """

    measures: MeasurePair
    a: float
    b: float
    difference: Interval
    test: PairedTest | None = None
    p_holm: float | None = None  # p after Holm's correction for all measures tested

    @property
    def verdict(self) -> str:
        """`better`, `worse` or (a measure without direction) `differs` if the corrected p is below 0.05, else empty.

        Empty too with fewer than `MIN_OBSERVATIONS` independent pairs.
        """
        if self.p_holm is None or self.p_holm >= SIGNIFICANCE_LEVEL or not self.difference.is_sufficient:
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
        found |= {"difference": self.difference.as_json(), "paired": self.test is not None}
        test = self.test or PairedTest("", math.nan)
        found |= {"test": test.name, "p": test.p, "mid_p": test.mid_p, "holm": self.p_holm}
        found |= {"mde": test.mde, "needed": test.needed, "verdict": self.verdict}
        return dict(to_jsonable(found))


def compute_differences(rows: Sequence[MeasurePair], seed: int = 0) -> list[MeasureDifference]:
    """The difference of every row; p is corrected over all rows without a group, and separately over those with one."""
    found = [_difference(row, seed) for row in rows]
    for grouped in (False, True):
        places = [
            place for place, one in enumerate(found) if one.test is not None and bool(one.measures.a.group) == grouped
        ]
        adjusted = holm_correction([one.p for place in places if (one := found[place].test)])
        for place, value in zip(places, adjusted, strict=True):
            found[place] = replace(found[place], p_holm=value)
    return found


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
    paired = row.paired_values
    difference, test = paired.difference(seed=seed), paired.test(seed)
    return MeasureDifference(row, float(np.mean(paired.a)), float(np.mean(paired.b)), difference, test)
