"""Quality of a reward model on held-out rankings: accuracy, calibration and length bias."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.special import expit
from scipy.stats import pearsonr, spearmanr

from zhenlong.data.pair_template import reward_model_template
from zhenlong.evaluate.heldout.text_metrics import fitting_ranking_trees, ranking_accuracy
from zhenlong.evaluate.metrics.calibration import calibration_error, reliability_points
from zhenlong.evaluate.statistics.bootstrap import FloatArray
from zhenlong.forest.scoring import DEFAULT_TOKENS_PER_MICROBATCH, model_context_length, reward_scores
from zhenlong.models.model_argument import ModelLike, load_if_named
from zhenlong.records import Ranking


def reward_report(
    model: ModelLike,
    rankings: Sequence[Ranking],
    *,
    chat_template: str = "auto",
    tokens_per_microbatch: int = DEFAULT_TOKENS_PER_MICROBATCH,
    seed: int = 0,
) -> dict[str, Any]:
    """The result of `reward_accuracy` with `calibration` (`preference_calibration`) and `length` (`length_bias`).

    Lengths are in tokens of the reward model, end-of-turn token included.
    """
    network, tokenizer = load_if_named(model, "reward")
    fitting, trees = fitting_ranking_trees(
        rankings, reward_model_template(tokenizer, chat_template), model_context_length(network)
    )
    scores = reward_scores(network, trees, tokens_per_microbatch)
    lengths = [np.asarray([len(child.tokens) for child in node.children], dtype=np.float64) for node in trees]
    return {
        **ranking_accuracy(fitting, scores, len(rankings), seed),
        "calibration": preference_calibration(fitting, scores),
        "length": length_bias(fitting, scores, lengths),
    }


def preference_calibration(rankings: Sequence[Ranking], scores: Sequence[FloatArray]) -> dict[str, Any]:
    """Calibration of σ(r_i - r_j) as the probability that i is preferred; `scores` has one row per ranking.

    Returns `ece`, the expected calibration error of σ(|r_i - r_j|) as the confidence in the higher-scored response, in
    ten bins of equally many pairs; `reliability`, the bins; and `by_strength`: per strength `pairs`, `probability` (the
    mean σ of chosen minus rejected) and `accuracy` (ties one half). None without pairs. A model trained with a margin
    is overconfident. Bai et al. 2022, Fig. 9.
    """
    owners = [ranking for ranking in rankings for _ in ranking.pairs()]
    margins = np.asarray([row[i] - row[j] for one, row in zip(rankings, scores, strict=True) for i, j in one.pairs()])
    right = 0.5 * (1 + np.sign(margins))
    if not len(margins):
        return {"ece": None, "reliability": [], "by_strength": {}}
    confidence = expit(np.abs(margins))
    by_strength = {}
    for strength in sorted({one.strength for one in owners if one.strength is not None}):
        own = np.asarray([one.strength == strength for one in owners])
        by_strength[str(strength)] = {
            "pairs": int(own.sum()),
            "probability": float(expit(margins[own]).mean()),
            "accuracy": float(right[own].mean()),
        }
    points = [point.as_json() for point in reliability_points(confidence, right)]
    return {"ece": calibration_error(confidence, right), "reliability": points, "by_strength": by_strength}


def length_bias(
    rankings: Sequence[Ranking], scores: Sequence[FloatArray], lengths: Sequence[FloatArray]
) -> dict[str, float | None]:
    """Correlation of score and response length; `scores` and `lengths` have one row per ranking.

    `pearson` and `spearman` are over all responses, `within_prompt` (Pearson) after subtracting each ranking's means,
    which removes differences between prompts. `longer_wins` is the fraction of pairs of different length in which the
    longer response has the higher score (ties one half); `longer_chosen` the fraction in which it was preferred: the
    value for a model without a bias of its own. None if nothing varies.
    """
    pairs = [
        (float(row[i] - row[j]), float(size[i] - size[j]))
        for one, row, size in zip(rankings, scores, lengths, strict=True)
        for i, j in one.pairs()
        if size[i] != size[j]
    ]
    by_score = [0.5 * (1 + float(np.sign(score * length))) for score, length in pairs]
    flat, sizes = _concatenate(scores), _concatenate(lengths)
    inner = [_concatenate([row - row.mean() for row in rows]) for rows in (scores, lengths)]
    return {
        "pearson": _correlation(pearsonr, flat, sizes),
        "spearman": _correlation(spearmanr, flat, sizes),
        "within_prompt": _correlation(pearsonr, *inner),
        "longer_wins": float(np.mean(by_score)) if pairs else None,
        "longer_chosen": float(np.mean([length > 0 for _, length in pairs])) if pairs else None,
    }


def _concatenate(rows: Sequence[FloatArray]) -> FloatArray:
    return np.concatenate(rows) if rows else np.zeros(0)


def _correlation(kind: Any, a: FloatArray, b: FloatArray) -> float | None:
    """The correlation; None for fewer than two values or a constant side."""
    if len(a) < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    return float(kind(a, b).statistic)
