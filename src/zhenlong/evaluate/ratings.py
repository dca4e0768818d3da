"""How well does a policy tell good responses from bad ones, where each was rated by itself?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import rankdata

from zhenlong.data import Template
from zhenlong.evaluate.scoring import TOKENS, context_of, log_prob_sums, longest_path
from zhenlong.evaluate.statistics import Z95, Interval, interval
from zhenlong.evaluate.subject import Subject, opened, require_same_tokens
from zhenlong.forest import tree
from zhenlong.records import Rating

EDGE: Final = 1e-9  # where a search begins whose other end is a root itself


def rating_separation(
    model: Subject,
    ratings: Sequence[Rating],
    *,
    reference: Subject | None = None,
    chat_template: str = "auto",
    tokens_per_microbatch: int = TOKENS,
    seed: int = 0,
) -> dict[str, Any]:
    """How often a response with a thumb up has more implicit reward than one with a thumb down.

    The implicit reward is the log-ratio to the `reference` in nats, summed over tokens; without one, the
    log-probability. Returns `{"auc", "desirable", "undesirable": {"mean", "ci95", "n"}, "too_long"}`: the area under
    the ROC curve, where 0.5 is chance and equal rewards count one half, and the mean reward of either kind. Ratings
    longer than the model's context are not measured.
    """
    network, tokenizer = opened(model)
    template, context = Template.of(tokenizer, chat_template), context_of(network)
    every = [tree(template.prompt(one.prompt), [template.response(one.prompt, one.response)]) for one in ratings]
    fitting = [(one, node) for one, node in zip(ratings, every, strict=True) if _fits(longest_path(node), context)]
    trees = [node for _, node in fitting]
    rewards = _sums(log_prob_sums(network, trees, tokens_per_microbatch))
    if reference is not None:
        other, other_tokenizer = opened(reference)
        require_same_tokens(tokenizer, other_tokenizer, "reference")
        rewards = rewards - _sums(log_prob_sums(other, trees, tokens_per_microbatch))
    up = np.array([one.desirable for one, _ in fitting], dtype=bool)
    return {
        "auc": separation(rewards[up], rewards[~up]).as_json(),
        "desirable": interval(rewards[up], seed).as_json(),
        "undesirable": interval(rewards[~up], seed).as_json(),
        "too_long": len(ratings) - len(fitting),
    }


def separation(positive: NDArray[np.float64], negative: NDArray[np.float64]) -> Interval:
    """P(a positive value exceeds a negative one), ties one half: the Mann-Whitney U statistic over its pairs.

    The 95 % interval is Newcombe's (2006, part 2, method 5): the probabilities that lie within Z95 of their own
    standard errors of the one observed. It does not claim certainty where the two sides do not overlap. NaN where a
    side is empty; `n` counts both.
    """
    n = len(positive) + len(negative)
    if not len(positive) or not len(negative):
        return Interval(math.nan, (math.nan, math.nan), n)
    found, pairs, others = _auc(positive, negative), len(positive) * len(negative), n / 2 - 1

    def beyond(p: float) -> float:
        spread = p * (1 - p) * (1 + others * ((1 - p) / (2 - p) + p / (1 + p))) / pairs
        return (p - found) ** 2 - Z95**2 * spread

    low = 0.0 if found == 0 else brentq(beyond, 0.0, min(found, 1 - EDGE))
    high = 1.0 if found == 1 else brentq(beyond, max(found, EDGE), 1.0)
    return Interval(found, (float(low), float(high)), n)


def _auc(positive: NDArray[np.float64], negative: NDArray[np.float64]) -> float:
    ranks = rankdata(np.concatenate([positive, negative]))[: len(positive)]
    below = ranks.sum() - len(positive) * (len(positive) + 1) / 2
    return float(below / (len(positive) * len(negative)))


def _fits(tokens: int, context: int | None) -> bool:
    return context is None or tokens <= context


def _sums(found: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    return np.array([float(one[0]) for one in found])
