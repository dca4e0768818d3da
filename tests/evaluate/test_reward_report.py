"""Calibration and length bias of a reward model, on scores with known truth."""

import numpy as np
import pytest
from scipy import stats

from zhenlong.evaluate.heldout.reward_report import length_bias, preference_calibration
from zhenlong.records import Message, Ranking


def ranking(ranks=(1, 2), strength=None) -> Ranking:
    texts = tuple("abcdef"[: len(ranks)])
    return Ranking((Message("user", "?"),), texts, tuple(ranks), strength)


def annotated(margin: float, rng: np.random.Generator, scale: float = 1.0, strength=None):
    """A pair with true reward difference `margin`, ranked by Bradley-Terry; scores are the rewards times `scale`."""
    first_wins = rng.random() < 1 / (1 + np.exp(-margin))
    return ranking((1, 2) if first_wins else (2, 1), strength), np.array([margin, 0.0]) * scale


def test_true_rewards_are_calibrated_and_exaggerated_ones_are_not() -> None:
    rng = np.random.default_rng(0)
    margins = rng.normal(0, 1.5, 8000)
    errors = {}
    for scale in (0.3, 1.0, 3.0):
        again = np.random.default_rng(1)
        rankings, scores = zip(*(annotated(margin, again, scale) for margin in margins), strict=True)
        errors[scale] = preference_calibration(rankings, scores)["ece"]
    assert errors[1.0] < 0.02
    assert errors[3.0] > 0.1
    assert errors[0.3] > 0.1


def test_a_point_of_the_reliability_plot_is_a_bin_of_pairs() -> None:
    rankings = [ranking(), ranking(), ranking((2, 1)), ranking((1, 1, 2))]
    scores = [np.array([2.0, 0.0]), np.array([0.0, 0.0]), np.array([2.0, 0.0]), np.array([1.0, 4.0, 2.0])]
    found = preference_calibration(rankings, scores)  # margins 2, 0, -2, -1, 2
    assert sum(point["accuracy"]["n"] for point in found["reliability"]) == 5
    confidences = 1 / (1 + np.exp(-np.array([0.0, 1.0, 2.0])))
    assert [point["confidence"] for point in found["reliability"]] == pytest.approx(confidences)
    assert [point["accuracy"]["mean"] for point in found["reliability"]] == pytest.approx([0.5, 0, 2 / 3])


def test_probability_and_accuracy_rise_with_a_strength_that_means_something() -> None:
    rankings = [ranking(strength=4), ranking(strength=4), ranking(strength=1), ranking(strength=1), ranking()]
    scores = [np.array(row) for row in ([3.0, 0.0], [1.0, 0.0], [0.0, 1.0], [2.0, 2.0], [0.0, 9.0])]
    found = preference_calibration(rankings, scores)["by_strength"]
    assert found["4"] == {
        "pairs": 2,
        "accuracy": 1.0,
        "probability": pytest.approx(np.mean([0.9526, 0.7311]), abs=1e-4),
    }
    assert found["1"]["accuracy"] == 0.25
    assert found["1"]["probability"] == pytest.approx((0.26894 + 0.5) / 2, abs=1e-4)
    assert set(found) == {"1", "4"}


def test_length_correlations_equal_scipys_and_fractions_are_counted() -> None:
    rng = np.random.default_rng(3)
    rankings = [ranking((1, 2, 3)) for _ in range(40)]
    scores, lengths = [rng.normal(size=3) for _ in range(40)], [rng.integers(1, 9, 3).astype(float) for _ in range(40)]
    found = length_bias(rankings, scores, lengths)
    flat, sizes = np.concatenate(scores), np.concatenate(lengths)
    assert found["pearson"] == pytest.approx(stats.pearsonr(flat, sizes).statistic)
    assert found["spearman"] == pytest.approx(stats.spearmanr(flat, sizes).statistic)
    wins = chosen = pairs = 0
    for row, size in zip(scores, lengths, strict=True):
        for i, j in ((0, 1), (0, 2), (1, 2)):
            if size[i] != size[j]:
                pairs += 1
                chosen += size[i] > size[j]
                wins += (row[i] > row[j]) == (size[i] > size[j])
    assert found["longer_wins"] == pytest.approx(wins / pairs)
    assert found["longer_chosen"] == pytest.approx(chosen / pairs)


def test_differences_between_prompts_do_not_count_within_them() -> None:
    """Long answers to one prompt and short ones to another: the scores follow the prompt, not the length."""
    lengths = [np.array([10.0, 11.0, 12.0]), np.array([1.0, 2.0, 3.0])]
    scores = [np.array([5.0, 4.0, 3.0]), np.array([-3.0, -4.0, -5.0])]
    found = length_bias([ranking((1, 2, 3))] * 2, scores, lengths)
    assert found["pearson"] > 0.9
    assert found["within_prompt"] == pytest.approx(-1)
    assert found["longer_wins"] == 0.0


def test_undefined_values_are_none() -> None:
    same = length_bias([ranking()], [np.array([1.0, 0.0])], [np.array([4.0, 4.0])])
    assert set(same.values()) == {None}
    assert set(length_bias([], [], []).values()) == {None}
    assert preference_calibration([], []) == {"ece": None, "reliability": [], "by_strength": {}}
