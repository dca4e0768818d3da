"""What is a reward model worth? Held-out accuracy, whether its probabilities hold, and its tie to length."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit
from scipy.stats import pearsonr, spearmanr

from zhenlong.data.pair_template import reward_model_template
from zhenlong.evaluate.heldout.text_metrics import fitting_ranking_trees, ranking_accuracy
from zhenlong.evaluate.metrics.calibration import calibration_error, reliability_points
from zhenlong.forest.scoring import DEFAULT_TOKENS_PER_MICROBATCH, model_context_length, reward_scores
from zhenlong.models.model_argument import ModelLike, load_if_named
from zhenlong.records import Ranking

Values = NDArray[np.float64]


def reward_report(
    model: ModelLike,
    rankings: Sequence[Ranking],
    *,
    chat_template: str = "auto",
    tokens_per_microbatch: int = DEFAULT_TOKENS_PER_MICROBATCH,
    seed: int = 0,
) -> dict[str, Any]:
    """What `reward_accuracy` returns, with `calibration` (see `preference_calibration`) and `length` (`length_bias`).

    Lengths are in tokens of the reward model, the end of the turn included.
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


def preference_calibration(rankings: Sequence[Ranking], scores: Sequence[Values]) -> dict[str, Any]:
    """Whether a response is preferred as often as σ(r_i - r_j) says, over all pairs; `scores` has a row a ranking.

    Returns `ece`, the expected calibration error of σ(|r_i - r_j|) as the confidence in the response that it scores
    higher, in ten bins of equally many pairs; `reliability`, the bins; and `by_strength`, for each strength `pairs`,
    `probability` (the mean σ of chosen less rejected) and `accuracy` (equal scores one half). None without pairs. A
    model trained with a margin is surer than it should be. Bai et al. 2022, Fig. 9.
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
    rankings: Sequence[Ranking], scores: Sequence[Values], lengths: Sequence[Values]
) -> dict[str, float | None]:
    """How far the score follows the length of a response; `scores` and `lengths` have a row for each ranking.

    `pearson` and `spearman` correlate them over all responses, `within_prompt` (Pearson) after the mean of each ranking
    is taken off both, so that no difference between prompts counts. `longer_wins` is the share of pairs, among those of
    different length, in which the longer has the higher score (equal ones one half); `longer_chosen` the share in which
    it was preferred, which is what a model without a bias of its own would come to. None where nothing varies.
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


def _concatenate(rows: Sequence[Values]) -> Values:
    return np.concatenate(rows) if rows else np.zeros(0)


def _correlation(kind: Any, a: Values, b: Values) -> float | None:
    """None for fewer than two values, and where one of the two does not vary."""
    if len(a) < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    return float(kind(a, b).statistic)
