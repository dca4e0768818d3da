"""Means and ratios with 95 % confidence intervals, and paired differences of two models on the same prompts.

Pure functions of numbers; a seed fixes the resampling.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Z95: Final = 1.959963984540054  # the normal distribution's 97.5 % point
RESAMPLES: Final = 2000
RESAMPLE_CHUNK: Final = 1 << 22  # resampled values held at a time: 32 MB

Values = Sequence[float] | NDArray[np.floating]


@dataclass(frozen=True)
class Interval:
    """A mean, its 95 % confidence interval, and the number of values.

    Undefined numbers are NaN: the mean of no values, the interval of a single one.
    """

    mean: float
    ci95: tuple[float, float]
    n: int

    @property
    def above_zero(self) -> bool:
        """Whether the whole interval lies above 0."""
        return self.ci95[0] > 0

    def as_json(self) -> dict[str, Any]:
        """`{"mean", "ci95", "n"}`, with null for what is NaN."""
        return {"mean": _none_if_nan(self.mean), "ci95": [_none_if_nan(end) for end in self.ci95], "n": self.n}


def mean_interval(values: Values, seed: int = 0, resamples: int = RESAMPLES) -> Interval:
    """The mean of independent values and its 95 % interval.

    Binary values get Wilson's (1927) score interval, because resampling equal outcomes gives an interval of width 0;
    all others the percentile bootstrap (Efron 1979).
    """
    data = _array(values)
    if len(data) and bool(np.isin(data, (0.0, 1.0)).all()):
        return _wilson_interval(float(data.mean()), len(data))
    return _bootstrap_interval(data, np.ones_like(data), seed, resamples)


def paired_difference(a: Values, b: Values, seed: int = 0, resamples: int = RESAMPLES) -> Interval:
    """The mean of a - b, where a[i] and b[i] belong to the same prompt, by bootstrap of the differences."""
    first, second = _array(a), _array(b)
    if first.shape != second.shape:
        raise ValueError(f"expected values in pairs, got {len(first)} and {len(second)} values")
    difference = first - second
    return _bootstrap_interval(difference, np.ones_like(difference), seed, resamples)


def ratio_interval(sums: Values, counts: Values, seed: int = 0, resamples: int = RESAMPLES) -> Interval:
    """sum(sums) / sum(counts) with its interval, where entry i belongs to record i.

    Records are resampled, not their parts: the tokens of one text, or the pairs of one ranking, are not independent.
    `n` is the number of records.
    """
    numerator, denominator = _array(sums), _array(counts)
    if numerator.shape != denominator.shape:
        raise ValueError(f"expected one count per sum, got {len(numerator)} and {len(denominator)} values")
    if not (denominator > 0).all():
        raise ValueError("expected counts above 0 for a ratio")
    return _bootstrap_interval(numerator, denominator, seed, resamples)


def bootstrap_bounds(
    values: Values, confidence: float, seed: int = 0, resamples: int = RESAMPLES
) -> tuple[float, float]:
    """The ends of the percentile bootstrap's interval of a mean at any confidence; NaN for fewer than two values."""
    data = _array(values)
    if len(data) < 2:
        return (math.nan, math.nan)
    outside = 50 * (1 - confidence)
    low, high = np.percentile(_resampled_ratios(data, np.ones_like(data), seed, resamples), (outside, 100 - outside))
    return float(low), float(high)


def _array(values: Values) -> NDArray[np.float64]:
    data = np.asarray(values, dtype=np.float64).reshape(-1)
    if not np.isfinite(data).all():
        raise ValueError(f"expected finite values, got {int((~np.isfinite(data)).sum())} that are not")
    return data


def _bootstrap_interval(sums: NDArray[np.float64], counts: NDArray[np.float64], seed: int, resamples: int) -> Interval:
    """Percentile bootstrap of sum(sums) / sum(counts) over records resampled with replacement."""
    n = len(sums)
    if n == 0:
        return Interval(math.nan, (math.nan, math.nan), 0)
    mean = float(sums.sum() / counts.sum())
    if n == 1:
        return Interval(mean, (math.nan, math.nan), 1)
    low, high = np.percentile(_resampled_ratios(sums, counts, seed, resamples), (2.5, 97.5))
    return Interval(mean, (float(low), float(high)), n)


def _resampled_ratios(
    sums: NDArray[np.float64], counts: NDArray[np.float64], seed: int, resamples: int
) -> NDArray[np.float64]:
    """sum(sums) / sum(counts) of records resampled with replacement, once per resample."""
    rng, n = np.random.default_rng(seed), len(sums)
    rows = max(1, RESAMPLE_CHUNK // n)
    means = np.empty(resamples)
    for start in range(0, resamples, rows):
        drawn = rng.integers(0, n, (min(rows, resamples - start), n))
        means[start : start + rows] = sums[drawn].sum(1) / counts[drawn].sum(1)
    return means


def _wilson_interval(proportion: float, n: int) -> Interval:
    """Wilson (1927), Eq. 4: the proportions p that lie within Z95 of their standard errors of the observed one."""
    shrink = 1 + Z95**2 / n
    centre = (proportion + Z95**2 / (2 * n)) / shrink
    half = Z95 * math.sqrt(proportion * (1 - proportion) / n + Z95**2 / (4 * n**2)) / shrink
    return Interval(proportion, (max(0.0, centre - half), min(1.0, centre + half)), n)


def _none_if_nan(value: float) -> float | None:
    return value if math.isfinite(value) else None
