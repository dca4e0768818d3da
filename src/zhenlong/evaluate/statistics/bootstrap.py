"""Resampling with replacement (Efron 1979): the rows of a resample, and the interval that resampled values give.

Instances that share a passage, a conversation or a template are resampled together, as whole clusters.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, stdtrit

MIN_OBSERVATIONS: Final = 10
"""Fewer independent observations get no bootstrap interval, and no colour and no rank in a report."""

RESAMPLES: Final = 2000
RESAMPLE_CHUNK: Final = 1 << 22  # resampled values held at a time: 32 MB

SampleIndices = NDArray[np.intp]
FloatArray = NDArray[np.float64]
Values = Sequence[float] | NDArray[np.floating]
ClusterIds = Sequence[Hashable]  # one for each value; equal ids: not independent
Bounds = tuple[float, float]

UNKNOWN: Final[Bounds] = (math.nan, math.nan)


def cluster_codes(clusters: ClusterIds | None) -> SampleIndices | None:
    """The cluster of each value as a number from 0; None if each value is a cluster of its own."""
    if clusters is None:
        return None
    numbers: dict[Hashable, int] = {}
    codes = np.array([numbers.setdefault(one, len(numbers)) for one in clusters], dtype=np.intp)
    return codes if len(numbers) < len(codes) else None


def percentile_bounds(
    resampled: Values, num_units: int, confidence: float = 0.95, *, ends: tuple[float, float] | None = None
) -> Bounds:
    """The ends of the percentile bootstrap's interval from the resampled values of a statistic.

    `num_units` is the number of independent units that were resampled. With few, the percentiles are too narrow; they
    are taken further out, at Phi(-sqrt(n / (n - 1)) t) with Student's t of n - 1 degrees of freedom (Hesterberg 2015,
    The American Statistician 69:371, "expanded percentile interval"). `ends` are other percentiles, as a benchmark's
    official rule names them. NaN below `MIN_OBSERVATIONS` units, and where no resample differs from another: the spread
    was not seen then.
    """
    data = np.asarray(resampled, dtype=np.float64)
    data = data[~np.isnan(data)]
    if num_units < MIN_OBSERVATIONS or not len(data) or _is_constant(data):
        return UNKNOWN
    low, high = np.percentile(data, ends or expanded_percentiles(num_units, confidence))
    return float(low), float(high)


def expanded_percentiles(num_units: int, confidence: float = 0.95) -> Bounds:
    """The two percentiles of Hesterberg's expanded interval, in per cent."""
    t = float(stdtrit(num_units - 1, 0.5 + confidence / 2))
    outside = 100 * float(ndtr(-math.sqrt(num_units / (num_units - 1)) * t))
    return outside, 100 - outside


def resampled_statistic(
    statistic: Callable[[SampleIndices], float],
    n: int,
    *,
    seed: int,
    resamples: int,
    codes: SampleIndices | None = None,
) -> FloatArray:
    """The statistic of rows drawn with replacement, or of whole clusters of rows, once per resample."""
    rng = np.random.default_rng(seed)
    if codes is None:
        return np.array([statistic(rng.integers(0, n, n)) for _ in range(resamples)])
    members = np.split(np.argsort(codes, kind="stable"), np.cumsum(np.bincount(codes))[:-1])
    drawn = (rng.integers(0, len(members), len(members)) for _ in range(resamples))
    return np.array([statistic(np.concatenate([members[one] for one in chosen])) for chosen in drawn])


def resampled_ratios(sums: FloatArray, counts: FloatArray, seed: int, resamples: int) -> FloatArray:
    """sum(sums) / sum(counts) of rows drawn with replacement, once per resample."""
    rng, n = np.random.default_rng(seed), len(sums)
    rows = max(1, RESAMPLE_CHUNK // n)
    means = np.empty(resamples)
    for start in range(0, resamples, rows):
        drawn = rng.integers(0, n, (min(rows, resamples - start), n))
        means[start : start + rows] = sums[drawn].sum(1) / counts[drawn].sum(1)
    return means


def _is_constant(data: FloatArray) -> bool:
    """Whether all values are equal, but for rounding."""
    return float(np.ptp(data)) <= 1e-12 * max(1.0, float(np.abs(data).max()))
