"""Significance tests of paired values, correction for multiple tests, and minimum detectable effects.

Pure functions of numbers; a seed fixes the resampling.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats

from zhenlong.evaluate.statistics.bootstrap import RESAMPLE_CHUNK, Values

MAX_EXACT_PAIRS: Final = 14  # nonzero differences up to which all sign patterns (16,384) are enumerated
NUM_PERMUTATIONS: Final = 9999  # random sign patterns beyond that
NORMAL_APPROXIMATION_PAIRS: Final = 1000  # pairs from which Student's t is approximated by the normal distribution


@dataclass(frozen=True)
class McNemarResult:
    """The discordant pairs and their p-values under the hypothesis that neither model is better."""

    only_a: int
    only_b: int
    p: float  # exact, two-sided
    mid_p: float  # less conservative, close to the nominal level


def permutation_test(
    differences: Values, seed: int = 0, num_permutations: int = NUM_PERMUTATIONS, alternative: str = "two-sided"
) -> float:
    """p-value of the sign-flip permutation test that the mean of paired differences is 0 (Fisher 1935, §21).

    `alternative`: `two-sided`, `less` or `greater`. Exact up to 14 nonzero differences; beyond that
    (1 + count) / (1 + permutations) over random signs, a valid p-value (Phipson and Smyth 2010). 1.0 if all differences
    are 0.
    """
    data = np.asarray(differences, dtype=np.float64)
    data = data[data != 0]  # zeros do not change under a sign flip
    if not len(data):
        return 1.0
    observed = _distance(np.array([data.sum()]), alternative)[0]
    nearly = observed - 1e-9 * np.abs(data).sum()  # tolerance for rounding: summation order varies
    if len(data) <= MAX_EXACT_PAIRS:
        patterns = (np.arange(2 ** len(data))[:, None] >> np.arange(len(data))) & 1
        return float((_distance((2 * patterns - 1) @ data, alternative) >= nearly).mean())
    rng, count, rows = np.random.default_rng(seed), 0, max(1, RESAMPLE_CHUNK // len(data))
    for start in range(0, num_permutations, rows):
        signs = 2.0 * rng.integers(0, 2, (min(rows, num_permutations - start), len(data)), dtype=np.int8) - 1
        count += int((_distance(signs @ data, alternative) >= nearly).sum())
    return (1 + count) / (1 + num_permutations)


def mcnemar(a: Values, b: Values) -> McNemarResult:
    """McNemar's test of paired outcomes, each 0 or 1, by the binomial distribution of the pairs that differ.

    McNemar (1947); the mid-p value is Fagerland, Lydersen and Laake (2013), BMC Medical Research Methodology 13:91.
    """
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    only_a, only_b = int(((first == 1) & (second == 0)).sum()), int(((first == 0) & (second == 1)).sum())
    n, fewer = only_a + only_b, min(only_a, only_b)
    if n == 0:
        return McNemarResult(0, 0, 1.0, 1.0)
    tail, point = float(stats.binom.cdf(fewer, n, 0.5)), float(stats.binom.pmf(fewer, n, 0.5))
    if only_a == only_b:
        return McNemarResult(only_a, only_b, 1.0, 1 - point / 2)
    return McNemarResult(only_a, only_b, min(1.0, 2 * tail), 2 * tail - point)


def holm_correction(p_values: Sequence[float]) -> list[float]:
    """Holm's (1979) step-down correction, in the order given; controls the family-wise error rate.

    The i-th smallest of m p-values is multiplied by m - i + 1, then made at least as large as the one before it.
    """
    m, found, largest = len(p_values), [0.0] * len(p_values), 0.0
    for rank, place in enumerate(sorted(range(m), key=lambda place: p_values[place])):
        largest = max(largest, min(1.0, (m - rank) * p_values[place]))
        found[place] = largest
    return found


def tango_interval(only_a: float, only_b: float, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Score interval of the difference of two paired proportions, (only_a - only_b) / n (Tango 1998).

    It holds the differences that the score test does not reject; unlike the bootstrap it covers with few discordant
    pairs, or none.
    """
    z, seen = float(stats.norm.ppf(0.5 + confidence / 2)), (only_a - only_b) / n

    def score(delta: float) -> float:
        """Tango's Eq. 3: the standardised distance of the observed difference from `delta`."""
        linear = -only_a - only_b + (2 * n - only_a + only_b) * delta
        constant = -only_b * delta * (1 - delta)
        share = (math.sqrt(max(0.0, linear**2 - 8 * n * constant)) - linear) / (4 * n)
        variance = n * (2 * share + delta * (1 - delta))
        return (only_a - only_b - n * delta) / math.sqrt(max(variance, 1e-300))

    low = -1.0 if seen <= -1 else optimize.brentq(lambda delta: score(delta) - z, -1 + 1e-12, seen, xtol=1e-10)
    high = 1.0 if seen >= 1 else optimize.brentq(lambda delta: score(delta) + z, seen, 1 - 1e-12, xtol=1e-10)
    return low, high


def paired_t_test_power(difference: float, deviation: float, n: int, alpha: float = 0.05) -> float:
    """Power of a two-sided paired t-test with n pairs for a mean difference of this size.

    `deviation` is the standard deviation of the differences.
    """
    away = abs(difference) * math.sqrt(n) / deviation
    if n >= NORMAL_APPROXIMATION_PAIRS:
        edge = stats.norm.ppf(1 - alpha / 2)
        return float(stats.norm.sf(edge - away) + stats.norm.cdf(-edge - away))
    edge = stats.t.ppf(1 - alpha / 2, n - 1)
    wrong_side = stats.nct.cdf(-edge, n - 1, away) if away < 5 else 0.0  # scipy returns NaN in the far tail
    return float(stats.nct.sf(edge, n - 1, away) + wrong_side)


def minimum_detectable_effect(differences: Values, power: float = 0.8, alpha: float = 0.05) -> float:
    """The smallest mean difference that a two-sided paired t-test with these pairs detects with the given power.

    NaN for fewer than two pairs, and for constant differences, whose spread is unknown.
    """
    data = np.asarray(differences, dtype=np.float64)
    deviation = _deviation(data)
    if not deviation:
        return math.nan
    edge, wanted = stats.t.ppf((1 - alpha / 2, power), len(data) - 1)
    about = (edge + wanted) / math.sqrt(len(data))
    unit = optimize.brentq(lambda size: paired_t_test_power(size, 1.0, len(data), alpha) - power, 0.0, 2 * about)
    return float(unit) * deviation


def mcnemar_detectable_effect(discordant: int, n: int, power: float = 0.8, alpha: float = 0.05) -> float:
    """The smallest difference of two paired proportions that McNemar's test of n pairs detects with the given power.

    It is the d with sqrt(n) d = z_(1-alpha/2) sqrt(f) + z_power sqrt(f - d²) (Connor 1987), where f is the fraction of
    discordant pairs: as observed, discordant / n, and at least d. NaN if no difference is detectable with n pairs.
    """
    edge, wanted = float(stats.norm.ppf(1 - alpha / 2)), float(stats.norm.ppf(power))

    def surplus(size: float) -> float:
        share = max(discordant / n, size)
        return math.sqrt(n) * size - edge * math.sqrt(share) - wanted * math.sqrt(max(0.0, share - size**2))

    if n == 0 or surplus(1.0) < 0:
        return math.nan
    return float(optimize.brentq(surplus, 1e-12, 1.0))


def required_pairs(differences: Values, power: float = 0.8, alpha: float = 0.05) -> int | None:
    """The number of pairs with which a paired t-test detects the mean difference seen, at the spread seen.

    None where the difference is 0 or the spread unknown.
    """
    data = np.asarray(differences, dtype=np.float64)
    size, deviation = abs(float(data.mean())) if len(data) else 0.0, _deviation(data)
    if not size or not deviation:
        return None
    edge, wanted = float(stats.norm.ppf(1 - alpha / 2)), float(stats.norm.ppf(power))
    n = max(2, math.ceil(((edge + wanted) * deviation / size) ** 2))  # of the z-test; the t-test needs a few more
    while n < NORMAL_APPROXIMATION_PAIRS and paired_t_test_power(size, deviation, n, alpha) < power:
        n += 1
    return n


def mcnemar_required_pairs(only_a: int, only_b: int, n: int, power: float = 0.8, alpha: float = 0.05) -> int | None:
    """The number of pairs with which McNemar's test detects the difference seen, at the discordant pairs seen.

    n = (z_(1-alpha/2) sqrt(f) + z_power sqrt(f - d²))² / d² (Connor 1987). None where the difference is 0.
    """
    if only_a == only_b:
        return None
    share, size = (only_a + only_b) / n, abs(only_a - only_b) / n
    edge, wanted = float(stats.norm.ppf(1 - alpha / 2)), float(stats.norm.ppf(power))
    return math.ceil(((edge * math.sqrt(share) + wanted * math.sqrt(max(0.0, share - size**2))) / size) ** 2)


def _deviation(data: NDArray[np.float64]) -> float:
    """The standard deviation; 0 where there is none but rounding, or fewer than two values."""
    deviation = float(data.std(ddof=1)) if len(data) > 1 else 0.0
    return 0.0 if deviation <= 1e-12 * max(1.0, float(np.abs(data).max(initial=0.0))) else deviation


def _distance(sums: NDArray[np.float64], alternative: str) -> NDArray[np.float64]:
    """The distance from 0 in the direction of the alternative."""
    return {"two-sided": np.abs(sums), "less": -sums, "greater": sums}[alternative]
