"""Bootstrap intervals of statistics that are not means."""

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
    """The statistic of all n rows and its 95 % interval, from rows resampled with replacement (Efron 1979).

    `statistic` maps row indices to a value, NaN if undefined. The interval is the percentile interval, or with
    `pivotal` its reflection at the estimate: noise can only raise a statistic such as a distance, resampling adds
    noise, and the percentiles would lie above the estimate. It is clipped to `bounds` and contains the estimate.
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
