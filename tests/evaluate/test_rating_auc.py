"""ROC AUC with its interval: pairs, ties, extremes, coverage."""

import numpy as np
import pytest

from zhenlong.evaluate.heldout.rating_auc import auc_interval


def test_auc_is_the_fraction_of_pairs_in_the_right_order_and_ties_count_half() -> None:
    rng = np.random.default_rng(0)
    good, bad = rng.integers(0, 5, 14).astype(float), rng.integers(0, 4, 9).astype(float)
    counted = np.mean([1.0 if a > b else 0.5 if a == b else 0.0 for a in good for b in bad])
    found = auc_interval(good, bad)
    assert found.mean == pytest.approx(counted)
    assert found.n == 23
    assert found.ci95[0] < counted < found.ci95[1]
    assert auc_interval(bad, good).mean == pytest.approx(1 - counted)


def test_the_interval_of_separated_sides_has_positive_width() -> None:
    low, high = np.array([1.0, 2.0]), np.array([3.0, 4.0, 5.0])
    apart = auc_interval(high, low)
    assert apart.mean == apart.ci95[1] == 1.0
    assert 0.3 < apart.ci95[0] < 0.6
    assert auc_interval(low, high).ci95 == pytest.approx((0.0, 1 - apart.ci95[0]))
    assert auc_interval(np.arange(100.0) + 1000, np.arange(100.0)).ci95[0] > 0.95


def test_auc_is_nan_if_a_side_is_empty() -> None:
    found = auc_interval(np.array([1.0]), np.array([]))
    assert found.as_json() == {"mean": None, "ci95": [None, None], "n": 1}


def test_the_interval_covers_the_truth_in_95_of_100_samples() -> None:
    """Normal values one standard deviation apart: the truth is Φ(1/√2) = 0.7602."""
    rng = np.random.default_rng(1)
    drawn = [auc_interval(rng.normal(1, 1, 30), rng.normal(0, 1, 20)).ci95 for _ in range(400)]
    assert 0.92 < np.mean([low <= 0.76025 <= high for low, high in drawn]) < 0.98
