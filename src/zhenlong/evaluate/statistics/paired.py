"""Two models on the same instances: the values in pairs, their test, and the number of instances it needs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from zhenlong.evaluate.statistics.bootstrap import FloatArray, SampleIndices, cluster_codes
from zhenlong.evaluate.statistics.intervals import Interval, paired_difference
from zhenlong.evaluate.statistics.significance import (
    mcnemar,
    mcnemar_detectable_effect,
    mcnemar_required_pairs,
    minimum_detectable_effect,
    permutation_test,
    required_pairs,
)


@dataclass(frozen=True)
class PairedTest:
    """The test of the hypothesis that the mean difference is 0, and what its sample size can show.

    `mde` is the minimum detectable effect of these instances, `needed` the number of instances that detects the
    difference seen; both with power 0.8 at level 0.05, None where they cannot be estimated.
    """

    name: str  # mcnemar or permutation
    p: float
    mid_p: float | None = None  # McNemar's mid-p, less conservative
    mde: float | None = None
    needed: int | None = None


@dataclass(frozen=True)
class PairedValues:
    """A measure of A and of B, instance by instance; `clusters` names the instances that are not independent."""

    a: Sequence[float]
    b: Sequence[float]
    clusters: Sequence[str] | None = None

    @cached_property
    def gains(self) -> FloatArray:
        """B - A of each instance."""
        return np.subtract(self.b, self.a, dtype=np.float64)

    @property
    def is_binary(self) -> bool:
        """Whether all values are 0 or 1."""
        return all(value in (0.0, 1.0) for values in (self.a, self.b) for value in values)

    @cached_property
    def codes(self) -> SampleIndices | None:
        """The number of each instance's cluster; None if no two instances share one."""
        return cluster_codes(self.clusters)

    @cached_property
    def independent_gains(self) -> FloatArray:
        """One value for each independent unit, an instance or a cluster, with the mean of `gains`.

        The ordinary standard error of their mean is the cluster-robust one of the mean of `gains`.
        """
        if self.codes is None:
            return self.gains
        mean = self.gains.mean()
        residuals = np.bincount(self.codes, self.gains - mean)
        return np.asarray(mean + residuals * len(residuals) / len(self.gains), dtype=np.float64)

    def difference(self, confidence: float = 0.95, seed: int = 0) -> Interval:
        """The mean of B - A with its interval."""
        return paired_difference(self.b, self.a, seed, clusters=self.clusters, confidence=confidence)

    def p_value(self, shift: float = 0.0, seed: int = 0, alternative: str = "two-sided") -> float:
        """The sign-flip permutation test that the mean of B - A is `shift`; the signs of a cluster flip together."""
        gains = self.gains - shift
        if self.codes is not None:
            gains = np.bincount(self.codes, gains).astype(np.float64)
        return permutation_test(gains, seed, alternative=alternative)

    def test(self, seed: int = 0) -> PairedTest:
        """McNemar's exact test of independent binary outcomes, else the permutation test."""
        n = len(self.gains)
        if self.is_binary and self.codes is None:
            found = mcnemar(self.a, self.b)
            mde = mcnemar_detectable_effect(found.only_a + found.only_b, n)
            needed = mcnemar_required_pairs(found.only_a, found.only_b, n)
            return PairedTest("mcnemar", found.p, found.mid_p, _none_if_not_finite(mde), needed)
        units = self.independent_gains
        needed = required_pairs(units)
        return PairedTest(
            "permutation",
            self.p_value(seed=seed),
            mde=_none_if_not_finite(minimum_detectable_effect(units)),
            needed=None if needed is None else math.ceil(needed * n / len(units)),
        )


def _none_if_not_finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
