"""Best-of-n sampling: the expected reward of the best of n samples, and the KL of the best-of-n policy.

N samples of one prompt are enough for every n up to N: the expectation over all ways to choose n of them is a weighted
sum of the sorted samples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def best_of_kl(n: int) -> float:
    """log n - (n - 1) / n, in nats: an upper bound of the KL of the best-of-n policy to the model it samples from.

    It is nearly tight where all rewards differ and no response is likely to be sampled twice, the setting of Stiennon
    et al. (2020), App. G.3; elsewhere the KL is less (Beirami et al. 2024). Raises ValueError for n below 1.
    """
    if n < 1:
        raise ValueError(f"n: expected 1 or more, got {n}")
    return math.log(n) - (n - 1) / n


def order_statistic_weights(num_samples: int, n: int) -> NDArray[np.float64]:
    """C(i - 1, n - 1) / C(N, n) for i = 1 .. N: the probability that the i-th smallest of N is the best of n -> [N].

    They sum to 1. Nakano et al. 2021 (WebGPT), App. I. Raises ValueError unless 1 <= n <= N.
    """
    if not 1 <= n <= num_samples:
        raise ValueError(f"n: expected a number from 1 to the {num_samples} samples, got {n}")
    total = math.comb(num_samples, n)
    return np.asarray([math.comb(i, n - 1) / total for i in range(num_samples)])


def expected_best_of_n(rewards: Sequence[float], n: int, values: Sequence[float] | None = None) -> float:
    """Unbiased estimate of the expected reward of the best of n, from N >= n samples of one prompt.

    With `values`, the expected value of the sample that has the highest reward, such as a gold reward under its proxy
    (Gao et al. 2022). Samples with equal rewards are chosen with equal probability.
    """
    order = np.argsort(np.asarray(rewards, dtype=np.float64), kind="stable")
    ordered = np.asarray(rewards, dtype=np.float64)[order]
    weights = order_statistic_weights(len(ordered), n)
    if values is None:
        return float(weights @ ordered)
    _, tied, count = np.unique(ordered, return_inverse=True, return_counts=True)
    shared = np.bincount(tied, weights)[tied] / count[tied]
    return float(shared @ np.asarray(values, dtype=np.float64)[order])


def powers_of_two_up_to(n: int) -> list[int]:
    """1, 2, 4, ... below n, and n: the numbers of samples at which a curve has points."""
    return [*(1 << power for power in range((n - 1).bit_length())), n] if n > 1 else [1]
