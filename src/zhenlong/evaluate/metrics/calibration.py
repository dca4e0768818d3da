"""Calibration: expected calibration error, selective accuracy, Platt scaling, and reliability plots.

Rules: stanford-crfm/helm:src/helm/benchmark/metrics/basic_metrics.py, which calls
p-lambda/verified_calibration:calibration/utils.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from zhenlong.errors import UserError
from zhenlong.evaluate.metrics.registry import Measure, corpus_metric
from zhenlong.evaluate.results.outcome import ChoiceScores, Outcome, ScoredOutcome, clusters_of
from zhenlong.evaluate.statistics.bootstrap import FloatArray, SampleIndices
from zhenlong.evaluate.statistics.intervals import DISTANCE, SHARE, Interval, bootstrap_interval, mean_interval

BINS: Final = 10
CLIP: Final = 1e-12  # probabilities are clipped to [CLIP, 1 - CLIP] before taking log-odds
CALIBRATION_RESAMPLES: Final = 300


@dataclass(frozen=True)
class ReliabilityPoint:
    """One bin of a reliability plot: mean confidence, and accuracy with its interval (`accuracy.n` answers)."""

    confidence: float
    accuracy: Interval

    def as_json(self) -> dict[str, Any]:
        """`{"confidence", "accuracy": {"mean", "ci95", "n"}}`."""
        return {"confidence": self.confidence, "accuracy": self.accuracy.as_json()}


@corpus_metric(
    "calibration",
    Measure("ece_10_bin", "calibration", False),
    Measure("ece_1_bin", "calibration", False),
    Measure("platt_ece_10_bin", "calibration", False),
    Measure("selective_accuracy_area", "calibration", True),
    Measure("selective_accuracy@10", "calibration", True),
    of_groups=False,
)
def calibration(
    scored: Sequence[ScoredOutcome], *, measure: str = "exact_match", unnormalised: bool = False, per_token: bool = True
) -> dict[str, Interval]:
    """Calibration of the confidence in each answer; empty if no log-probabilities are known.

    An answer is right if the predicted choice is, or without choices if the score `measure` is 1. See `confidence_of`
    for `unnormalised` and `per_token`. Not computed per group: with fewer than 300 answers ten bins are unreliable.
    """
    known, confidences, correct = _known_confidences(scored, measure, unnormalised, per_token)
    if not len(confidences):
        return {}

    order = np.argsort(confidences, kind="stable")  # resamples of sorted data are almost sorted, and fast to sort
    confidences, correct = confidences[order], correct[order]
    clusters = clusters_of([known[place] for place in order])
    start = platt_weights(confidences, correct)

    def over(statistic: Callable[[FloatArray, FloatArray], float], distance: bool) -> Interval:
        def drawn(rows: SampleIndices) -> float:
            rows = np.sort(rows)
            return statistic(confidences[rows], correct[rows])

        return bootstrap_interval(
            drawn,
            len(confidences),
            resamples=CALIBRATION_RESAMPLES,
            shape=DISTANCE if distance else SHARE,
            clusters=clusters,
        )

    return {
        "ece_10_bin": over(calibration_error, True),
        "ece_1_bin": over(lambda p, y: calibration_error(p, y, 1), True),
        "platt_ece_10_bin": over(lambda p, y: calibration_error(platt_scaled(p, y, start), y), True),
        "selective_accuracy_area": over(lambda p, y: float(selective_accuracies(p, y).mean()), False),
        "selective_accuracy@10": over(lambda p, y: float(selective_accuracies(p, y)[int(0.1 * len(p))]), False),
    }


def confidences_of(
    scored: Sequence[ScoredOutcome], *, measure: str = "exact_match", unnormalised: bool = False, per_token: bool = True
) -> tuple[FloatArray, FloatArray]:
    """The confidence in each answer and its correctness (0 or 1), for the answers with a log-probability."""
    _, confidences, correct = _known_confidences(scored, measure, unnormalised, per_token)
    return confidences, correct


def confidence_of(outcome: Outcome, *, unnormalised: bool = False, per_token: bool = True) -> float | None:
    """The probability that the model assigns to its answer; None if unknown.

    For choices: the softmax over their scores (calibrated log-probability if there is a calibration prompt, else per
    token, or summed without `per_token`), at the predicted choice, or at the most likely if none was chosen.
    `unnormalised`: the probability of the answer's text itself, HELM's rule for answers by letter. Generated text
    always uses the latter.
    """
    if outcome.choices is not None and not unnormalised:
        shares = _softmax(_scores(outcome.choices, per_token))
        return float(shares.max() if outcome.predicted is None else shares[outcome.predicted])
    if outcome.outputs and outcome.outputs[0].log_prob is not None:
        return math.exp(min(0.0, outcome.outputs[0].log_prob))
    if outcome.choices is not None:
        log_probs = outcome.choices.log_probs
        return math.exp(min(0.0, max(log_probs) if outcome.predicted is None else log_probs[outcome.predicted]))
    return None


def calibration_error(confidences: FloatArray, correct: FloatArray, bins: int = BINS) -> float:
    """Expected calibration error: mean over answers of |mean confidence - accuracy| of the answer's bin (Guo 2017).

    Bins have equal mass, except that equal confidences share a bin.
    """
    place = equal_mass_bins(confidences, bins)
    gaps = np.bincount(place, confidences - correct)
    return float(np.abs(gaps).sum() / len(confidences))


def equal_mass_bins(confidences: FloatArray, bins: int = BINS) -> NDArray[np.intp]:
    """The bin index of each answer; edges are midway between adjacent equal-sized parts of the sorted confidences."""
    ordered = np.sort(confidences)
    parts = np.array_split(ordered, min(bins, len(ordered)))
    edges = np.unique([(left[-1] + right[0]) / 2 for left, right in pairwise(parts)])
    found: NDArray[np.intp] = np.searchsorted(edges, confidences)
    return found


def reliability_points(
    confidences: Sequence[float] | FloatArray, correct: Sequence[float] | FloatArray, bins: int = BINS
) -> list[ReliabilityPoint]:
    """The points of a reliability plot, by increasing confidence; empty without answers."""
    p, y = np.asarray(confidences, dtype=np.float64), np.asarray(correct, dtype=np.float64)
    if not len(p):
        return []
    place = equal_mass_bins(p, bins)
    return [ReliabilityPoint(float(p[place == one].mean()), mean_interval(y[place == one])) for one in np.unique(place)]


def selective_accuracies(confidences: FloatArray, correct: FloatArray) -> FloatArray:
    """Entry i: the accuracy over the i + 1 most confident answers; their mean is HELM's area under the
    coverage-accuracy curve.
    """
    ordered = correct[np.argsort(-confidences, kind="stable")]
    found: FloatArray = np.cumsum(ordered) / np.arange(1, len(ordered) + 1)
    return found


def platt_scaled(confidences: FloatArray, correct: FloatArray, initial_weights: FloatArray | None = None) -> FloatArray:
    """The confidences after Platt scaling (1999), sigmoid(a * log-odds + b), fitted on the same answers.

    If all answers are right, or all wrong, there is nothing to fit and the result is `correct`: an error of 0, as in
    HELM. `initial_weights` starts the optimisation.
    """
    weights = platt_weights(confidences, correct, initial_weights)
    return correct if weights is None else _sigmoid(_log_odds(confidences) * weights[0] + weights[1])


def platt_weights(
    confidences: FloatArray, correct: FloatArray, initial_weights: FloatArray | None = None, max_steps: int = 50
) -> FloatArray | None:
    """The maximum-likelihood (a, b) of Platt scaling; None if all answers are right, or all wrong.

    Newton's method with step halving. If confidence separates right from wrong perfectly, the maximum does not exist;
    the iteration then stops with probabilities near 0 and 1.
    """
    if correct.min() == correct.max():
        return None
    design = np.stack([_log_odds(confidences), np.ones_like(confidences)], 1)  # [answers, 2]
    weights = np.zeros(2) if initial_weights is None else initial_weights
    likelihood = _log_likelihood(design @ weights, correct)
    for _ in range(max_steps):
        fitted = _sigmoid(design @ weights)
        hessian = (design * (fitted * (1 - fitted))[:, None]).T @ design + 1e-10 * np.eye(2)
        step = np.linalg.solve(hessian, design.T @ (correct - fitted))
        while np.abs(step).max() > 1e-6:
            new_likelihood = _log_likelihood(design @ (weights + step), correct)
            if new_likelihood >= likelihood:
                break
            step = step / 2
        else:
            break
        weights, likelihood = weights + step, new_likelihood
    return weights


def _known_confidences(
    scored: Sequence[ScoredOutcome], measure: str, unnormalised: bool, per_token: bool
) -> tuple[list[ScoredOutcome], FloatArray, FloatArray]:
    """The answers with a log-probability, the confidence in each, and whether it is right."""
    known, pairs = [], []
    for one in scored:
        confidence = confidence_of(one.outcome, unnormalised=unnormalised, per_token=per_token)
        if confidence is not None and not one.outcome.failed:
            known.append(one)
            pairs.append((confidence, _is_correct(one, measure)))
    table = np.array(pairs, dtype=np.float64).reshape(len(pairs), 2)
    return known, table[:, 0], table[:, 1]


def _is_correct(one: ScoredOutcome, measure: str) -> float:
    if one.outcome.choices is not None and one.outcome.predicted is not None:
        return float(one.outcome.predicted in one.outcome.instance.correct_indices)
    if measure in one.scores:
        return float(one.scores[measure] >= 1)
    if one.outcome.choices is not None:
        return 0.0  # none was chosen
    have = ", ".join(one.scores) or "none"
    raise UserError(
        f"metric calibration: no score {measure} for instance {one.outcome.instance.id}; it has {have}; set measure"
    )


def _scores(choices: ChoiceScores, per_token: bool) -> FloatArray:
    log_probs = np.array(choices.log_probs, dtype=np.float64)
    if choices.calibration_log_probs:
        return log_probs - np.array(choices.calibration_log_probs, dtype=np.float64)
    return log_probs / np.maximum(choices.num_tokens, 1) if per_token and choices.num_tokens else log_probs


def _softmax(scores: FloatArray) -> FloatArray:
    exponentials = np.exp(scores - scores.max())
    found: FloatArray = exponentials / exponentials.sum()
    return found


def _log_odds(confidences: FloatArray) -> FloatArray:
    inside = np.clip(confidences, CLIP, 1 - CLIP)
    found: FloatArray = np.log(inside / (1 - inside))
    return found


def _sigmoid(x: FloatArray) -> FloatArray:
    found: FloatArray = 0.5 * (1 + np.tanh(x / 2))
    return found


def _log_likelihood(x: FloatArray, correct: FloatArray) -> float:
    return float((correct * x - np.logaddexp(0, x)).sum())
