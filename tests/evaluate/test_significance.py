"""Tests keep their level, agree with scipy's, and detectable effects are detected with the stated power."""

import math

import numpy as np
import pytest
from scipy import stats

from zhenlong.evaluate.statistics.significance import (
    MAX_EXACT_PAIRS,
    holm_correction,
    mcnemar,
    mcnemar_detectable_effect,
    minimum_detectable_effect,
    paired_t_test_power,
    permutation_test,
    tango_interval,
)


@pytest.mark.parametrize("side", ["two-sided", "less", "greater"])
def test_few_differences_are_permuted_exactly_as_scipy_does(side):
    differences = np.random.default_rng(2).normal(0.4, 1, 9)
    theirs = stats.permutation_test(
        (differences,), np.mean, permutation_type="samples", n_resamples=np.inf, alternative=side
    )
    assert permutation_test(differences, alternative=side) == pytest.approx(theirs.pvalue)


def test_many_differences_agree_with_scipy_within_the_noise_of_sampling():
    differences = np.random.default_rng(3).normal(0.25, 1, 60)
    theirs = stats.permutation_test((differences,), np.mean, permutation_type="samples", n_resamples=9999, rng=1)
    assert permutation_test(differences) == pytest.approx(theirs.pvalue, abs=0.012)
    assert permutation_test(differences, seed=5) == permutation_test(differences, seed=5)


def test_the_random_and_the_exact_permutation_meet_where_one_takes_over_from_the_other():
    differences = np.random.default_rng(4).normal(0.4, 1, MAX_EXACT_PAIRS)
    padded = np.concatenate([differences, [1e-13]])  # one more, too small to matter
    assert permutation_test(padded) == pytest.approx(permutation_test(differences), abs=0.015)


def test_a_random_permutation_is_never_certain_and_zeros_do_not_matter():
    assert permutation_test([1.0] * 40, num_permutations=99) == pytest.approx(1 / 100)
    assert permutation_test([0.3, -0.1, 0.2] + [0.0] * 50) == permutation_test([0.3, -0.1, 0.2])
    assert permutation_test([0.0, 0.0]) == 1.0
    assert permutation_test([0.1, 0.2, 0.3]) == pytest.approx(2 / 8)  # tied sums count in spite of rounding


@pytest.mark.parametrize("draw", [lambda rng: rng.normal(size=30), lambda rng: rng.laplace(size=30)])
def test_the_false_positive_rate_is_about_one_in_twenty(draw):
    found = [permutation_test(draw(np.random.default_rng(seed)), num_permutations=199) <= 0.05 for seed in range(600)]
    assert 0.03 <= np.mean(found) <= 0.07


@pytest.mark.parametrize(("only_a", "only_b"), [(3, 11), (0, 6), (40, 22), (5, 5), (1, 0)])
def test_mcnemar_is_the_binomial_test_of_the_discordant_pairs(only_a, only_b):
    a, b = [1] * only_a + [0] * only_b + [1, 0, 1], [0] * only_a + [1] * only_b + [1, 0, 1]
    found = mcnemar(a, b)
    assert (found.only_a, found.only_b) == (only_a, only_b)
    assert found.p == pytest.approx(stats.binomtest(only_a, only_a + only_b).pvalue)
    ways = stats.binom.pmf(np.arange(only_a + only_b + 1), only_a + only_b, 0.5)
    distance = np.abs(np.arange(only_a + only_b + 1) - (only_a + only_b) / 2)
    seen = abs(only_a - only_b) / 2
    assert found.mid_p == pytest.approx(ways[distance > seen].sum() + ways[distance == seen].sum() / 2)


def test_mcnemars_exact_p_keeps_its_level_and_mid_p_is_closer_to_it():
    rng = np.random.default_rng(5)
    found = [mcnemar(rng.random(120) < 0.6, rng.random(120) < 0.6) for _ in range(1500)]
    exact, mid = (np.mean([getattr(one, name) <= 0.05 for one in found]) for name in ("p", "mid_p"))
    assert exact <= 0.05
    assert exact < mid <= 0.065


def test_mcnemar_of_equal_outcomes_has_p_one():
    assert mcnemar([1, 0, 1], [1, 0, 1]).p == 1.0


def test_holm_by_hand_and_in_any_order():
    assert holm_correction([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm_correction([0.6, 0.9]) == pytest.approx([1.0, 1.0])
    assert holm_correction([]) == []


def test_holm_keeps_the_family_wise_error_rate_of_twenty_tests():
    rng = np.random.default_rng(6)
    assert np.mean([min(holm_correction(list(rng.random(20)))) <= 0.05 for _ in range(2000)]) <= 0.062


def test_the_score_interval_excludes_0_exactly_if_mcnemars_statistic_is_significant():
    edge = 1.959963984540054
    for only_a in range(20):
        for only_b in range(20):
            if only_a + only_b:
                low, high = tango_interval(only_a, only_b, 60)
                statistic = (only_a - only_b) / math.sqrt(only_a + only_b)
                assert (low > 0 or high < 0) == (abs(statistic) > edge)
                assert low <= (only_a - only_b) / 60 <= high


def test_the_score_interval_covers_the_truth_with_few_discordant_pairs():
    rng = np.random.default_rng(7)
    for both in ((0.03, 0.01), (0.2, 0.1)):
        drawn = [rng.multinomial(50, [*both, 1 - sum(both)])[:2] for _ in range(600)]
        covered = [low <= both[0] - both[1] <= high for low, high in (tango_interval(*one, 50) for one in drawn)]
        assert 0.93 <= np.mean(covered) <= 0.995


def test_the_score_interval_has_positive_width_without_discordant_pairs_and_is_antisymmetric():
    low, high = tango_interval(0, 0, 20)
    assert -0.2 < low < -0.1
    assert high == pytest.approx(-low)
    assert tango_interval(9, 2, 40) == pytest.approx(tuple(-end for end in reversed(tango_interval(2, 9, 40))))
    assert tango_interval(5, 0, 5)[1] == pytest.approx(1.0)
    narrow, wide = tango_interval(9, 2, 40, 0.8), tango_interval(9, 2, 40, 0.99)
    assert wide[0] < narrow[0] < narrow[1] < wide[1]


@pytest.mark.parametrize("n", [12, 80])
def test_a_detectable_difference_is_detected_in_four_samples_of_five(n):
    rng = np.random.default_rng(n)
    size = minimum_detectable_effect(stats.norm.ppf((np.arange(n) + 0.5) / n) * 2.0)
    spread = (stats.norm.ppf((np.arange(n) + 0.5) / n) * 2.0).std(ddof=1)
    found = [stats.ttest_1samp(rng.normal(size, spread, n), 0).pvalue < 0.05 for _ in range(1500)]
    assert np.mean(found) == pytest.approx(0.8, abs=0.035)


def test_power_is_the_level_at_no_difference_and_matches_the_normal_approximation_in_large_samples():
    assert paired_t_test_power(0.0, 1.0, 30) == pytest.approx(0.05)
    assert paired_t_test_power(0.0, 1.0, 5000) == pytest.approx(0.05)
    assert paired_t_test_power(0.1, 1.0, 999) == pytest.approx(paired_t_test_power(0.1, 1.0, 1000), abs=2e-3)
    assert minimum_detectable_effect(np.random.default_rng(0).normal(size=4000)) == pytest.approx(
        2.8016 / math.sqrt(4000), rel=0.03
    )


def test_a_detectable_difference_of_proportions_is_detected_in_about_four_samples_of_five():
    n, discordant = 400, 80
    size = mcnemar_detectable_effect(discordant, n)
    share = discordant / n
    rng = np.random.default_rng(8)
    found = []
    for _ in range(1500):
        a, b, _ = rng.multinomial(n, [(share + size) / 2, (share - size) / 2, 1 - share])
        found.append(abs(a - b) / math.sqrt(a + b) > 1.96)
    assert np.mean(found) == pytest.approx(0.8, abs=0.04)


def test_undetectable_effects_are_nan():
    assert math.isnan(minimum_detectable_effect([0.2]))
    assert math.isnan(minimum_detectable_effect([0.0, 0.0, 0.0]))
    assert math.isnan(mcnemar_detectable_effect(0, 0))
    assert math.isnan(mcnemar_detectable_effect(0, 3))  # three pairs in one direction are not significant


def test_the_detectable_effect_with_few_discordant_pairs_is_still_significant():
    """If all discordant pairs go the same way, McNemar's exact test finds the effect in four samples of five."""
    size = mcnemar_detectable_effect(0, 500)
    assert mcnemar_detectable_effect(2, 500) == pytest.approx(size)
    assert mcnemar_detectable_effect(40, 500) > size
    drawn = np.random.default_rng(9).binomial(500, size, 2000)
    assert np.mean([count and stats.binomtest(int(count), int(count)).pvalue < 0.05 for count in drawn]) > 0.72
