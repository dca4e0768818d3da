"""Calibration: closed forms, agreement with scikit-learn, and the choice of confidence."""

import math

import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.linear_model import LogisticRegression

from zhenlong.errors import UserError
from zhenlong.evaluate.metrics.calibration import (
    calibration,
    calibration_error,
    confidence_of,
    equal_mass_bins,
    platt_scaled,
    reliability_points,
    selective_accuracies,
)
from zhenlong.evaluate.results.instance import Instance, Reference
from zhenlong.evaluate.results.outcome import ChoiceScores, Outcome, ScoredOutcome
from zhenlong.inference.requests import GeneratedOutput

CHOICES = (Reference("yes"), Reference("no", False))


def sample(n, seed=0):
    rng = np.random.default_rng(seed)
    p = rng.uniform(0.2, 1, n)
    return p, (rng.uniform(size=n) < p**2).astype(float)


def test_error_of_two_known_bins():
    p = np.array([0.6, 0.6, 0.9, 0.9])
    y = np.array([1.0, 0.0, 1.0, 1.0])
    assert calibration_error(p, y, 2) == pytest.approx((0.1 + 0.1) / 2)
    assert calibration_error(p, y, 1) == pytest.approx(0.0)  # 0.75 both: one bin hides it


def test_equal_mass_error_and_reliability_match_scikit_learn():
    p, y = sample(1000)
    accuracy, confidence = calibration_curve(y, p, n_bins=10, strategy="quantile")
    assert calibration_error(p, y) == pytest.approx(np.abs(accuracy - confidence).mean())
    points = reliability_points(p, y)
    assert [one.confidence for one in points] == pytest.approx(confidence)
    assert [one.accuracy.mean for one in points] == pytest.approx(accuracy)
    assert all(
        one.accuracy.n == 100 and one.accuracy.ci95[0] < one.accuracy.mean < one.accuracy.ci95[1] for one in points
    )
    assert reliability_points([], []) == []


def test_equal_confidences_share_a_bin():
    assert len(set(equal_mass_bins(np.full(50, 0.7)))) == 1
    place = equal_mass_bins(np.array([0.1] * 25 + [0.5] * 3 + [0.9] * 22))
    assert len(set(place[:25])) == len(set(place[28:])) == 1


def test_platt_scaling_is_logistic_regression_on_log_odds():
    p, y = sample(400, 1)
    odds = np.log(p / (1 - p))[:, None]
    fitted = LogisticRegression(C=1e10, tol=1e-10, max_iter=1000).fit(odds, y).predict_proba(odds)[:, 1]
    assert platt_scaled(p, y) == pytest.approx(fitted, abs=1e-6)
    assert platt_scaled(p, np.ones(400)).min() == 1.0
    separated = platt_scaled(np.array([0.1, 0.2, 0.8, 0.9]), np.array([0.0, 0.0, 1.0, 1.0]))
    assert separated == pytest.approx([0, 0, 1, 1], abs=1e-3)


def test_selective_accuracy_is_over_the_most_confident():
    found = selective_accuracies(np.array([0.2, 0.9, 0.5]), np.array([0.0, 1.0, 0.0]))
    assert found == pytest.approx([1, 1 / 2, 1 / 3])


def scored(p, right, number=0):
    outcome = Outcome(Instance(str(number), "q", (Reference("a"),)), (GeneratedOutput("a", log_prob=math.log(p)),))
    return ScoredOutcome(outcome, {"exact_match": float(right)})


def test_calibration_of_scored_outcomes():
    p, y = sample(200, 2)
    found = calibration([scored(a, b, number) for number, (a, b) in enumerate(zip(p, y, strict=True))])
    assert found["ece_10_bin"].mean == pytest.approx(calibration_error(p, y))
    assert found["ece_1_bin"].mean == pytest.approx(abs(p.mean() - y.mean()))
    order = np.argsort(-p)
    assert found["selective_accuracy@10"].mean == pytest.approx(y[order][: int(0.1 * 200) + 1].mean())
    assert found["platt_ece_10_bin"].mean < found["ece_10_bin"].mean
    for value in found.values():
        assert 0 <= value.ci95[0] <= value.mean <= value.ci95[1] <= 1
    assert calibration([]) == {}
    assert calibration([ScoredOutcome(Outcome(Instance("x", "q")), {"exact_match": 1.0})]) == {}  # no log-probability


def test_confidence_is_normalised_over_the_choices_by_default():
    logs = (math.log(0.3), math.log(0.1))
    outcome = Outcome(Instance("x", "q", CHOICES), choices=ChoiceScores(logs, (1, 1)), predicted=0)
    assert confidence_of(outcome) == pytest.approx(0.75)
    assert confidence_of(outcome, unnormalised=True) == pytest.approx(0.3)


def test_confidence_uses_the_scores_that_choose():
    instance = Instance("x", "q", CHOICES)
    per_token = Outcome(instance, choices=ChoiceScores((-4.0, -3.0), (4, 1)), predicted=0)
    assert confidence_of(per_token) == pytest.approx(1 / (1 + math.exp(-2)))
    assert confidence_of(per_token, per_token=False) == pytest.approx(1 / (1 + math.exp(1)))
    above = Outcome(instance, choices=ChoiceScores((-4.0, -3.0), (1, 1), (-6.0, -3.0)), predicted=0)
    assert confidence_of(above) == pytest.approx(1 / (1 + math.exp(-2)))


def test_a_missing_score_is_an_error():
    with pytest.raises(UserError, match="no score exact_match"):
        calibration([ScoredOutcome(scored(0.5, 1).outcome, {"f1": 1.0})])
