"""Cohen's kappa of two raters, with a bootstrap over groups of their items."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

from zhenlong.evaluate.statistics.intervals import RESAMPLES, Interval


def kappa_interval(
    first: Sequence[Hashable], second: Sequence[Hashable], groups: Sequence[Hashable] = (), seed: int = 0
) -> Interval:
    """Cohen's (1960) kappa, (p_o - p_e) / (1 - p_e), and its 95 % interval; `n` is the number of items.

    Groups are resampled as a whole: the two orders of one pair, or several raters of one item, are not independent.
    NaN where both raters use one and the same label only, because then chance explains all agreement.
    """
    labels = {label: place for place, label in enumerate(dict.fromkeys([*first, *second]))}
    if not first:
        return Interval(math.nan, (math.nan, math.nan), 0)
    size = len(labels)
    group_of = {group: place for place, group in enumerate(dict.fromkeys(groups or range(len(first))))}
    counts = np.zeros((len(group_of), size * size))
    for place, (a, b) in enumerate(zip(first, second, strict=True)):
        group = group_of[groups[place]] if groups else place
        counts[group, labels[a] * size + labels[b]] += 1
    kappa = float(_kappas(counts.sum(0, keepdims=True), size)[0])
    if len(group_of) < 2 or math.isnan(kappa):
        return Interval(kappa, (math.nan, math.nan), len(first))
    rng = np.random.default_rng(seed)
    weights = rng.multinomial(len(group_of), [1 / len(group_of)] * len(group_of), RESAMPLES)
    values = _kappas(weights @ counts, size)
    low, high = np.nanpercentile(values, (2.5, 97.5))
    return Interval(kappa, (float(low), float(high)), len(first))


def _kappas(counts: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """Kappa of each table of counts, one a row."""
    tables = counts.reshape(-1, size, size)
    shares = tables / tables.sum((1, 2), keepdims=True)
    observed = np.trace(shares, axis1=1, axis2=2)
    expected = (shares.sum(2) * shares.sum(1)).sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(expected < 1, (observed - expected) / (1 - expected), math.nan))
