"""Intervals have nominal coverage, agree with scipy's, and are NaN if undefined."""

import math

import numpy as np
import pytest
from scipy import stats

from zhenlong.evaluate.statistics.bootstrap import MIN_OBSERVATIONS, expanded_percentiles
from zhenlong.evaluate.statistics.intervals import (
    bootstrap_interval,
    cluster_standard_error,
    mean_interval,
    paired_difference,
    ratio_interval,
)


def test_bootstrap_equals_scipys_percentiles():
    values = np.random.default_rng(1).gamma(2.0, size=57)
    low, high = expanded_percentiles(57)
    theirs = stats.bootstrap(
        (values,),
        np.mean,
        n_resamples=2000,
        method="percentile",
        confidence_level=(high - low) / 100,
        rng=np.random.default_rng(5),
    ).confidence_interval
    ours = mean_interval(values, seed=5)
    assert ours.ci95 == pytest.approx((theirs.low, theirs.high), rel=1e-12)
    assert ours.mean == pytest.approx(values.mean())
    assert ours.n == 57


def test_wilson_equals_scipys():
    values = [1] * 13 + [0] * 29
    theirs = stats.binomtest(13, 42).proportion_ci(method="wilson")
    assert mean_interval(values).ci95 == pytest.approx((theirs.low, theirs.high), rel=1e-9)


@pytest.mark.parametrize("draw", [lambda rng: rng.normal(2.0, 3.0, 60), lambda rng: rng.random(60) < 0.15])
def test_an_interval_covers_the_truth_about_95_times_in_100(draw):
    truth = 2.0 if draw(np.random.default_rng(0)).dtype == float else 0.15
    found = [mean_interval(draw(np.random.default_rng(seed)), resamples=400).ci95 for seed in range(400)]
    covered = np.mean([low <= truth <= high for low, high in found])
    assert 0.91 <= covered <= 0.98


def test_pairing_is_narrower_when_prompts_differ_more_than_models():
    rng = np.random.default_rng(3)
    difficulty = rng.normal(size=200)
    a, b = difficulty + 0.1 + 0.1 * rng.normal(size=200), difficulty + 0.1 * rng.normal(size=200)
    paired = paired_difference(a, b)
    unpaired = stats.bootstrap((a, b), lambda x, y: x.mean() - y.mean(), n_resamples=500, vectorized=False, rng=rng)
    width = unpaired.confidence_interval.high - unpaired.confidence_interval.low
    assert paired.ci95[1] - paired.ci95[0] < width / 3
    assert paired.above_zero
    assert paired.mean == pytest.approx(a.mean() - b.mean())


def test_a_difference_is_antisymmetric_and_zero_with_itself():
    rng = np.random.default_rng(4)
    a, b = rng.normal(size=(2, 50))
    forth, back = paired_difference(a, b), paired_difference(b, a)
    assert forth.mean == pytest.approx(-back.mean)
    assert forth.ci95 == pytest.approx((-back.ci95[1], -back.ci95[0]))
    assert not paired_difference(a, a).is_known  # all differences are 0: how much they vary was not seen
    assert not paired_difference(a, a).above_zero


def test_paired_differences_that_are_binary_get_no_wilson_interval():
    """Differences that happen to be 0 or 1 are still differences: one gain in fifty is not a significant one."""
    assert not paired_difference([1.0] + [0.0] * 49, [0.0] * 50).above_zero


def test_an_interval_never_has_width_0():
    assert not mean_interval([0.7] * 20).is_known
    assert not ratio_interval([3.0] * 20, [2] * 20).is_known
    assert not paired_difference(np.arange(20) + 0.5, np.arange(20)).is_known
    assert not bootstrap_interval(lambda rows: 0.4, 20).is_known
    low, high = mean_interval([1] * 20).ci95
    assert 0.8 < low < 0.9
    assert high == pytest.approx(1.0)


def test_no_interval_without_a_second_value():
    assert math.isnan(mean_interval([0.4]).ci95[0])
    assert mean_interval([0.4]).as_json() == {"mean": 0.4, "ci95": [None, None], "n": 1}
    assert mean_interval([]).as_json() == {"mean": None, "ci95": [None, None], "n": 0}
    assert not paired_difference([0.4], [0.1]).above_zero


def test_a_ratio_weighs_records_by_their_count():
    sums, counts = [1.0, 9.0, 4.0], [1, 3, 2]
    assert ratio_interval(sums, counts).mean == pytest.approx(14 / 6)
    values = np.random.default_rng(2).normal(size=30)
    assert ratio_interval(values, np.ones(30), seed=1) == mean_interval(values, seed=1)


def test_the_interval_does_not_depend_on_the_chunk(monkeypatch):
    values = np.random.default_rng(2).normal(size=40)
    whole = mean_interval(values)
    monkeypatch.setattr("zhenlong.evaluate.statistics.bootstrap.RESAMPLE_CHUNK", 130)
    assert mean_interval(values) == whole


def test_invalid_input_raises():
    with pytest.raises(ValueError, match="2 and 1"):
        paired_difference([1.0, 2.0], [1.0])
    with pytest.raises(ValueError, match="finite"):
        mean_interval([1.0, math.nan])
    with pytest.raises(ValueError, match="above 0"):
        ratio_interval([1.0], [0])


@pytest.mark.parametrize("n", [10, 15])
def test_an_interval_of_few_values_covers_too(n):
    found = [mean_interval(np.random.default_rng(seed).normal(size=n), resamples=400).ci95 for seed in range(400)]
    assert np.mean([low <= 0 <= high for low, high in found]) >= 0.92


def test_too_few_values_have_no_interval_and_no_rank():
    values = np.random.default_rng(0).random(MIN_OBSERVATIONS)
    assert mean_interval(values).is_known
    assert mean_interval(values).is_sufficient
    assert not mean_interval(values[1:]).is_known
    assert not mean_interval(values[1:]).is_sufficient


def test_parts_that_are_all_right_get_wilsons_interval_for_one_part_a_record():
    assert ratio_interval([3] * 20, [3] * 20, proportion=True).ci95 == mean_interval([1] * 20).ci95


def test_binary_pairs_without_a_difference_have_an_interval():
    low, high = paired_difference([1.0] * 30, [1.0] * 30).ci95
    assert -0.2 < low < 0 < high < 0.2


def test_the_clustered_standard_error_is_millers():
    rng = np.random.default_rng(7)
    values, clusters = rng.normal(size=12), [0, 0, 0, 1, 1, 2, 3, 3, 4, 4, 4, 4]
    centred = values - values.mean()
    same = np.equal.outer(clusters, clusters)
    millers = math.sqrt((np.outer(centred, centred) * same).sum()) / 12  # Eq. 4: variances and covariances of a cluster
    assert cluster_standard_error(values, clusters) == pytest.approx(millers * math.sqrt(5 / 4))
    assert cluster_standard_error(values, range(12)) == pytest.approx(values.std(ddof=1) / math.sqrt(12))


@pytest.mark.parametrize("binary", [True, False])
def test_copies_of_an_observation_in_its_cluster_add_nothing(binary):
    draw = np.random.default_rng(3)
    values = draw.random(40) < 0.7 if binary else draw.random(40)
    once = mean_interval(values)
    copied = mean_interval(np.repeat(values, 5), clusters=list(np.repeat(np.arange(40), 5)))
    assert (copied.n, copied.clusters) == (200, 40)
    width = [one.ci95[1] - one.ci95[0] for one in (once, copied)]
    assert width[1] == pytest.approx(width[0], rel=0.06)
    assert mean_interval(np.repeat(values, 5)).ci95[0] > copied.ci95[0]


def test_clustered_intervals_cover_the_truth():
    covered = 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        difficulty = rng.beta(2, 2, 30)
        values = rng.random((30, 8)) < difficulty[:, None]
        low, high = mean_interval(values.ravel(), clusters=list(np.repeat(np.arange(30), 8))).ci95
        covered += low <= 0.5 <= high
    assert 0.92 <= covered / 300 <= 0.985


def test_clusters_of_one_value_change_nothing():
    values = np.random.default_rng(2).random(30)
    assert mean_interval(values, clusters=range(30)) == mean_interval(values)


def test_a_statistic_resamples_whole_clusters():
    values = np.repeat(np.random.default_rng(2).random(30), 4)
    clusters = list(np.repeat(np.arange(30), 4))
    found = bootstrap_interval(lambda rows: float(values[rows].mean()), 120, clusters=clusters)
    assert found.clusters == 30
    error = cluster_standard_error(values, clusters)
    assert (found.ci95[1] - found.ci95[0]) / 2 == pytest.approx(2.05 * error, rel=0.1)
