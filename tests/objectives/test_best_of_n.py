"""Best of n: the closed forms equal enumeration over all choices, and the KL of an exactly computed policy."""

import math
from itertools import combinations, product

import numpy as np
import pytest

from zhenlong.objectives.best_of_n import best_of_kl, expected_best_of_n, order_statistic_weights, powers_of_two_up_to


def test_the_expected_best_is_the_mean_over_all_subsets_of_n_samples() -> None:
    rewards = [0.3, -2.0, 5.0, 0.3, 1.5, 1.5, -0.1]
    for n in range(1, len(rewards) + 1):
        brute = np.mean([max(chosen) for chosen in combinations(rewards, n)])
        assert expected_best_of_n(rewards, n) == pytest.approx(brute)
    assert expected_best_of_n(rewards, 1) == pytest.approx(np.mean(rewards))
    assert expected_best_of_n(rewards, len(rewards)) == 5.0


def test_values_follow_the_chosen_sample_and_ties_are_averaged() -> None:
    rewards, gold = [1.0, 2.0, 2.0, 0.0, 2.0], [9.0, 1.0, 4.0, -3.0, 2.5]

    def chosen(places) -> float:
        best = max(rewards[place] for place in places)
        return float(np.mean([gold[place] for place in places if rewards[place] == best]))

    for n in range(1, 6):
        brute = np.mean([chosen(places) for places in combinations(range(5), n)])
        assert expected_best_of_n(rewards, n, gold) == pytest.approx(brute)


def test_the_estimate_is_unbiased() -> None:
    """Over all rolls of four three-sided dice, the estimate for n = 2 has the mean of the larger of two."""
    sides = [0.0, 1.0, 5.0]
    estimates = [expected_best_of_n(drawn, 2) for drawn in product(sides, repeat=4)]
    assert np.mean(estimates) == pytest.approx(np.mean([max(pair) for pair in product(sides, repeat=2)]))


@pytest.mark.parametrize(("samples", "n"), [(5, 2), (64, 16), (4096, 2048)])
def test_weights_sum_to_one_and_rise(samples: int, n: int) -> None:
    weights = order_statistic_weights(samples, n)
    assert weights.sum() == pytest.approx(1)
    assert (np.diff(weights) >= 0).all()
    assert not weights[: n - 1].any()


def test_the_kl_bound_is_tight_for_many_equally_likely_responses_and_loose_for_few() -> None:
    """Of K equally likely responses with different rewards, the i-th is best of n with p = (i^n - (i-1)^n) / K^n."""

    def kl(answers: int, n: int) -> float:
        i = np.arange(1, answers + 1)
        p = (i / answers) ** n - ((i - 1) / answers) ** n
        return float((p[p > 0] * np.log(p[p > 0] * answers)).sum())

    for n in (2, 4, 16):
        assert kl(200_000, n) == pytest.approx(best_of_kl(n), abs=1e-3)
        assert kl(3, n) < best_of_kl(n)
    assert best_of_kl(1) == 0.0
    assert best_of_kl(16) == pytest.approx(math.log(16) - 15 / 16)


def test_a_curve_has_points_at_the_powers_of_two_and_at_its_end() -> None:
    assert [powers_of_two_up_to(n) for n in (1, 2, 5, 16)] == [[1], [1, 2], [1, 2, 4, 5], [1, 2, 4, 8, 16]]


def test_invalid_n_is_refused() -> None:
    for samples, n in ((3, 0), (3, 4)):
        with pytest.raises(ValueError, match="expected a number from 1 to the 3 samples"):
            order_statistic_weights(samples, n)
    with pytest.raises(ValueError, match="expected 1 or more"):
        best_of_kl(0)
