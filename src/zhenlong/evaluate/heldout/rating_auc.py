"""AUC of a policy's implicit reward on KTO ratings: does it separate desirable from undesirable responses?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import rankdata

from zhenlong.data import ChatTemplate
from zhenlong.evaluate.statistics.intervals import Z95, Interval, mean_interval
from zhenlong.forest import make_tree
from zhenlong.forest.scoring import (
    DEFAULT_TOKENS_PER_MICROBATCH,
    log_prob_sums,
    longest_path_tokens,
    model_context_length,
)
from zhenlong.models.model_argument import ModelLike, load_if_named, require_same_vocabulary
from zhenlong.records import Rating

ROOT_SEARCH_MARGIN: Final = 1e-9  # starts the root search beside the trivial root at the estimate


def rating_auc(
    model: ModelLike,
    ratings: Sequence[Rating],
    *,
    reference: ModelLike | None = None,
    chat_template: str = "auto",
    tokens_per_microbatch: int = DEFAULT_TOKENS_PER_MICROBATCH,
    seed: int = 0,
) -> dict[str, Any]:
    """The probability that a desirable response has a higher implicit reward than an undesirable one (ROC AUC).

    The implicit reward is the log-ratio to the `reference` in nats, summed over tokens; without a reference, the
    log-probability. Returns `{"auc", "desirable", "undesirable": {"mean", "ci95", "n"}, "overlong"}`: the area under
    the ROC curve (0.5 is chance, ties count one half) and the mean reward of each label. Ratings longer than the
    model's context are skipped; `overlong` counts them.
    """
    network, tokenizer = load_if_named(model)
    template, context = ChatTemplate.from_tokenizer(tokenizer, chat_template), model_context_length(network)
    every = [
        make_tree(template.encode_prompt(one.prompt), [template.encode_response(one.prompt, one.response)])
        for one in ratings
    ]
    fitting = [
        (one, node) for one, node in zip(ratings, every, strict=True) if _fits(longest_path_tokens(node), context)
    ]
    trees = [node for _, node in fitting]
    rewards = _single_response_sums(log_prob_sums(network, trees, tokens_per_microbatch))
    if reference is not None:
        other, other_tokenizer = load_if_named(reference)
        require_same_vocabulary(tokenizer, other_tokenizer, "reference")
        rewards = rewards - _single_response_sums(log_prob_sums(other, trees, tokens_per_microbatch))
    desirable = np.array([one.desirable for one, _ in fitting], dtype=bool)
    return {
        "auc": auc_interval(rewards[desirable], rewards[~desirable]).as_json(),
        "desirable": mean_interval(rewards[desirable], seed).as_json(),
        "undesirable": mean_interval(rewards[~desirable], seed).as_json(),
        "overlong": len(ratings) - len(fitting),
    }


def auc_interval(positive: NDArray[np.float64], negative: NDArray[np.float64]) -> Interval:
    """P(a positive value exceeds a negative one), ties one half: the Mann-Whitney U statistic over its pairs.

    The 95 % interval is Newcombe's (2006, part 2, method 5): the probabilities within Z95 of their own standard errors
    of the observed one. It keeps a positive width if the two sides do not overlap. NaN if a side is empty; `n` counts
    both sides.
    """
    n = len(positive) + len(negative)
    if not len(positive) or not len(negative):
        return Interval(math.nan, (math.nan, math.nan), n)
    found, pairs, others = _auc(positive, negative), len(positive) * len(negative), n / 2 - 1

    def beyond(p: float) -> float:
        spread = p * (1 - p) * (1 + others * ((1 - p) / (2 - p) + p / (1 + p))) / pairs
        return (p - found) ** 2 - Z95**2 * spread

    low = 0.0 if found == 0 else brentq(beyond, 0.0, min(found, 1 - ROOT_SEARCH_MARGIN))
    high = 1.0 if found == 1 else brentq(beyond, max(found, ROOT_SEARCH_MARGIN), 1.0)
    return Interval(found, (float(low), float(high)), n)


def _auc(positive: NDArray[np.float64], negative: NDArray[np.float64]) -> float:
    ranks = rankdata(np.concatenate([positive, negative]))[: len(positive)]
    below = ranks.sum() - len(positive) * (len(positive) + 1) / 2
    return float(below / (len(positive) * len(negative)))


def _fits(tokens: int, context: int | None) -> bool:
    return context is None or tokens <= context


def _single_response_sums(found: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    return np.array([float(one[0]) for one in found])
