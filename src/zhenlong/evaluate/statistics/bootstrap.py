"""Intervals for numbers that no mean gives: the bootstrap of any statistic of the instances."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from zhenlong.evaluate.statistics.intervals import Interval

RESAMPLES: Final = 1000

SampleIndices = NDArray[np.intp]


def bootstrap_interval(
    statistic: Callable[[SampleIndices], float],
    n: int,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
    pivotal: bool = False,
    bounds: tuple[float, float] = (-math.inf, math.inf),
) -> Interval:
    """The statistic of all n rows and its 95 % interval, from rows drawn with replacement (Efron 1979).

    `statistic` maps row numbers to a value, NaN where they have none. The interval is the percentile one, or with
    `pivotal` its reflection at the estimate: for a statistic that noise can only raise, such as a distance, drawing
    again adds noise, and the percentiles would lie above the estimate. It is cut to `bounds` and holds the estimate.
    """
    rows = np.arange(n)
    estimate = statistic(rows) if n else math.nan
    if n < 2 or math.isnan(estimate):
        return Interval(estimate, (math.nan, math.nan), n)
    rng = np.random.default_rng(seed)
    resampled_values = np.array([statistic(rng.integers(0, n, n)) for _ in range(resamples)])
    low, high = np.nanpercentile(resampled_values, (2.5, 97.5))
    if pivotal:
        low, high = 2 * estimate - high, 2 * estimate - low
    low, high = max(bounds[0], min(low, estimate)), min(bounds[1], max(high, estimate))
    return Interval(float(estimate), (float(low), float(high)), n)
