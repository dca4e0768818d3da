"""Means, ratios and other statistics with 95 % confidence intervals, and paired differences of two models.

Pure functions of numbers; a seed fixes the resampling. An interval never has width 0: where the spread was not seen, it
is unknown (NaN). Values of one cluster (a shared passage, conversation or template) are not independent: intervals then
rest on the cluster-robust standard error (Liang and Zeger 1986; Miller 2024, "Adding Error Bars to Evals",
arXiv:2411.00640, Eq. 4), or on a bootstrap of whole clusters.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from scipy.special import stdtrit

from zhenlong.evaluate.statistics.bootstrap import (
    MIN_OBSERVATIONS,
    RESAMPLES,
    UNKNOWN,
    Bounds,
    ClusterIds,
    FloatArray,
    SampleIndices,
    Values,
    cluster_codes,
    percentile_bounds,
    resampled_ratios,
    resampled_statistic,
)
from zhenlong.evaluate.statistics.significance import tango_interval

Z95: Final = 1.959963984540054  # the normal distribution's 97.5 % point
MIN_DISCORDANT_PAIRS: Final = 10  # with fewer discordant pairs the bootstrap interval is too narrow


@dataclass(frozen=True)
class Interval:
    """A mean, its 95 % confidence interval, and the number of observations of what is measured.

    Undefined numbers are NaN: the mean of no values, an interval whose width was not seen. `clusters` is the number of
    groups of observations that are not independent within; 0: each observation is on its own.
    """

    mean: float
    ci95: Bounds
    n: int
    clusters: int = 0

    @property
    def above_zero(self) -> bool:
        """Whether the whole interval lies above 0."""
        return self.ci95[0] > 0

    @property
    def is_known(self) -> bool:
        """Whether the interval has ends."""
        return math.isfinite(self.ci95[0]) and math.isfinite(self.ci95[1])

    @property
    def is_sufficient(self) -> bool:
        """Whether there are enough independent observations for a colour or a rank."""
        return (self.clusters or self.n) >= MIN_OBSERVATIONS

    def scaled(self, factor: float) -> Interval:
        """The same in another unit."""
        low, high = self.ci95
        return replace(self, mean=self.mean * factor, ci95=(low * factor, high * factor))

    def as_json(self) -> dict[str, Any]:
        """`{"mean", "ci95", "n"}`, with null for what is NaN; `clusters` where there are any."""
        found = {"mean": _none_if_nan(self.mean), "ci95": [_none_if_nan(end) for end in self.ci95], "n": self.n}
        return found | ({"clusters": self.clusters} if self.clusters else {})


@dataclass(frozen=True)
class StatisticShape:
    """The bounds of a statistic, and whether it is a distance.

    Noise can only raise a distance and resampling adds noise, so that percentiles would lie above the estimate.
    """

    low: float = -math.inf
    high: float = math.inf
    is_distance: bool = False


SHARE: Final = StatisticShape(0.0, 1.0)
DISTANCE: Final = StatisticShape(0.0, 1.0, is_distance=True)
NOT_OBSERVED: Final = Interval(math.nan, UNKNOWN, 0)


def mean_interval(
    values: Values, seed: int = 0, resamples: int = RESAMPLES, *, clusters: ClusterIds | None = None
) -> Interval:
    """The mean of values and its 95 % interval.

    Binary values get Wilson's (1927) score interval, which has a width even if all are equal; all others the percentile
    bootstrap. `clusters` names the cluster of each value.
    """
    data = _array(values)
    codes = cluster_codes(clusters)
    if len(data) and bool(np.isin(data, (0.0, 1.0)).all()):
        return _proportion_interval(data, codes)
    return _ratio_interval(data, np.ones_like(data), codes, seed, resamples)


def paired_difference(
    a: Values,
    b: Values,
    seed: int = 0,
    resamples: int = RESAMPLES,
    *,
    clusters: ClusterIds | None = None,
    confidence: float = 0.95,
) -> Interval:
    """The mean of a - b, where a[i] and b[i] belong to the same prompt.

    The interval is the bootstrap's of the differences. Binary values with fewer than ten discordant pairs take Tango's
    (1998) score interval: the bootstrap would be too narrow. In clusters, its counts are scaled to one pair a cluster.
    """
    first, second = _array(a), _array(b)
    if first.shape != second.shape:
        raise ValueError(f"expected values in pairs, got {len(first)} and {len(second)} values")
    difference, codes = first - second, cluster_codes(clusters)
    if len(difference) and bool(np.isin(np.concatenate([first, second]), (0.0, 1.0)).all()):
        n, groups = len(difference), _num_units(len(difference), codes)
        only_a, only_b = int((difference > 0).sum()), int((difference < 0).sum())
        if only_a + only_b < MIN_DISCORDANT_PAIRS:
            scale = groups / n
            low, high = tango_interval(only_a * scale, only_b * scale, groups, confidence)
            return Interval(float(difference.mean()), (low, high), n, groups if codes is not None else 0)
    return _ratio_interval(difference, np.ones_like(difference), codes, seed, resamples, confidence)


def ratio_interval(
    sums: Values,
    counts: Values,
    seed: int = 0,
    resamples: int = RESAMPLES,
    *,
    clusters: ClusterIds | None = None,
    proportion: bool = False,
) -> Interval:
    """sum(sums) / sum(counts) with its interval, where entry i belongs to record i.

    Records are resampled, not their parts: the tokens of one text, or the pairs of one ranking, are not independent.
    `n` is the number of records. With `proportion` the sums count parts that are right: if all are, or none is, the
    interval is Wilson's for one part a record.
    """
    numerator, denominator = _array(sums), _array(counts)
    if numerator.shape != denominator.shape:
        raise ValueError(f"expected one count per sum, got {len(numerator)} and {len(denominator)} values")
    if not (denominator > 0).all():
        raise ValueError("expected counts above 0 for a ratio")
    codes = cluster_codes(clusters)
    found = _ratio_interval(numerator, denominator, codes, seed, resamples)
    if proportion and found.n and found.mean in (0.0, 1.0):
        return Interval(found.mean, wilson_bounds(found.mean, found.clusters or found.n), found.n, found.clusters)
    return found


def bootstrap_interval(
    statistic: Callable[[SampleIndices], float],
    n: int,
    *,
    resamples: int = 1000,
    shape: StatisticShape = StatisticShape(),
    observations: int | None = None,
    clusters: ClusterIds | None = None,
) -> Interval:
    """The statistic of all n rows and its 95 % interval, from rows (or whole clusters of them) resampled.

    `statistic` maps row indices to a value, NaN if undefined. The interval is the percentile interval, or that of
    a distance its reflection at the estimate. It is clipped to the statistic's bounds and contains the estimate.
    `observations` is the number of observations where that is not the number of rows.
    """
    seen, codes = n if observations is None else observations, cluster_codes(clusters)
    units = min(_num_units(n, codes), seen)
    groups = units if codes is not None or seen > n else 0
    estimate = statistic(np.arange(n)) if n else math.nan
    if math.isnan(estimate) or units < MIN_OBSERVATIONS:
        return Interval(estimate, UNKNOWN, seen, groups)
    resampled = resampled_statistic(statistic, n, seed=0, resamples=resamples, codes=codes)
    low, high = percentile_bounds(resampled, units)
    if shape.is_distance:
        low, high = 2 * estimate - high, 2 * estimate - low
    if math.isnan(low):
        return Interval(float(estimate), UNKNOWN, seen, groups)
    low, high = max(shape.low, min(low, estimate)), min(shape.high, max(high, estimate))
    return Interval(float(estimate), (float(low), float(high)) if low < high else UNKNOWN, seen, groups)


def cluster_standard_error(values: Values, clusters: ClusterIds) -> float:
    """The cluster-robust standard error of a mean: sqrt(sum over clusters of (sum of (s_i - mean))^2) / n.

    Miller (2024), Eq. 4, times sqrt(G / (G - 1)) for G clusters (the usual correction for few of them); with clusters
    of one value it is the ordinary standard error. NaN for fewer than two clusters.
    """
    data, numbers = _array(values), {one: place for place, one in enumerate(dict.fromkeys(clusters))}
    return _cluster_standard_error(data, np.array([numbers[one] for one in clusters], dtype=np.intp))


def wilson_bounds(proportion: float, n: float, z: float = Z95) -> Bounds:
    """Wilson (1927), Eq. 4: the proportions p that lie within z of their standard errors of the observed one."""
    shrink = 1 + z**2 / n
    centre = (proportion + z**2 / (2 * n)) / shrink
    half = z * math.sqrt(proportion * (1 - proportion) / n + z**2 / (4 * n**2)) / shrink
    return max(0.0, centre - half), min(1.0, centre + half)


def _proportion_interval(data: FloatArray, codes: SampleIndices | None) -> Interval:
    """Wilson's interval; in clusters with the number of independent values that has the clustered standard error.

    That number is at most n, and the number of clusters where all values are equal; z becomes Student's t.
    """
    proportion, n = float(data.mean()), len(data)
    if codes is None:
        return Interval(proportion, wilson_bounds(proportion, n), n)
    groups = _num_units(n, codes)
    if groups < 2:
        return Interval(proportion, UNKNOWN, n, groups)
    effective = float(groups)
    if 0 < proportion < 1:
        variance = _cluster_standard_error(data, codes) ** 2
        effective = min(float(n), proportion * (1 - proportion) / variance) if variance else float(n)
    return Interval(proportion, wilson_bounds(proportion, effective, float(stdtrit(groups - 1, 0.975))), n, groups)


def _ratio_interval(
    sums: FloatArray,
    counts: FloatArray,
    codes: SampleIndices | None,
    seed: int,
    resamples: int,
    confidence: float = 0.95,
) -> Interval:
    """Percentile bootstrap of sum(sums) / sum(counts) over records, or clusters of them, resampled with replacement."""
    n = len(sums)
    if n == 0:
        return NOT_OBSERVED
    if codes is not None:
        sums, counts = (np.bincount(codes, one).astype(np.float64) for one in (sums, counts))
    mean, units = float(sums.sum() / counts.sum()), len(sums)
    ends = UNKNOWN
    if units >= MIN_OBSERVATIONS:
        ends = percentile_bounds(resampled_ratios(sums, counts, seed, resamples), units, confidence)
    return Interval(mean, ends, n, 0 if codes is None else units)


def _cluster_standard_error(data: FloatArray, codes: SampleIndices) -> float:
    totals = np.bincount(codes, data - data.mean())
    if len(totals) < 2:
        return math.nan
    return math.sqrt(len(totals) / (len(totals) - 1) * float((totals**2).sum())) / len(data)


def _num_units(n: int, codes: SampleIndices | None) -> int:
    return n if codes is None else int(codes.max()) + 1


def _array(values: Values) -> FloatArray:
    data = np.asarray(values, dtype=np.float64).reshape(-1)
    if not np.isfinite(data).all():
        raise ValueError(f"expected finite values, got {int((~np.isfinite(data)).sum())} that are not")
    return data


def _none_if_nan(value: float) -> float | None:
    return value if math.isfinite(value) else None
