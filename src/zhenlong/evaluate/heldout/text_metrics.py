"""Metrics of a policy or a reward model on held-out records: perplexity and preference accuracy.

Records longer than the model's context are skipped; `overlong` counts them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zhenlong.data import ChatTemplate
from zhenlong.data.pair_template import reward_model_template
from zhenlong.evaluate.statistics.intervals import Interval, mean_interval, ratio_interval
from zhenlong.forest import TreeNode, make_tree
from zhenlong.forest.scoring import (
    DEFAULT_TOKENS_PER_MICROBATCH,
    log_prob_sums,
    longest_path_tokens,
    model_context_length,
    reward_scores,
)
from zhenlong.models.model_argument import ModelLike, load_if_named, require_same_vocabulary
from zhenlong.records import Demonstration, Ranking


def perplexity(
    model: ModelLike,
    demonstrations: Sequence[Demonstration],
    *,
    chat_template: str = "auto",
    tokens_per_microbatch: int = DEFAULT_TOKENS_PER_MICROBATCH,
    seed: int = 0,
) -> dict[str, Any]:
    """exp of the mean negative log-probability of an assistant token, over all assistant tokens.

    Returns `{"perplexity": {"mean", "ci95", "n"}, "tokens", "overlong"}`; the interval resamples conversations.
    """
    network, tokenizer = load_if_named(model)
    template = ChatTemplate.from_tokenizer(tokenizer, chat_template)
    every = [[TreeNode(*sample) for sample in template.training_examples(one.messages)] for one in demonstrations]
    context = model_context_length(network)
    fitting = [nodes for nodes in every if context is None or max(map(longest_path_tokens, nodes)) <= context]
    found = iter(log_prob_sums(network, [node for nodes in fitting for node in nodes], tokens_per_microbatch))
    losses = [-sum(float(next(found).sum()) for _ in nodes) for nodes in fitting]
    counts = [sum(node.num_scored for node in nodes) for nodes in fitting]
    loss = ratio_interval(losses, counts, seed)
    mean, low, high = (float(np.exp(value)) for value in (loss.mean, *loss.ci95))
    measured = Interval(mean, (low, high), loss.n)
    return {"perplexity": measured.as_json(), "tokens": sum(counts), "overlong": len(every) - len(fitting)}


def preference_accuracy(
    model: ModelLike,
    rankings: Sequence[Ranking],
    *,
    reference: ModelLike | None = None,
    chat_template: str = "auto",
    tokens_per_microbatch: int = DEFAULT_TOKENS_PER_MICROBATCH,
    seed: int = 0,
) -> dict[str, Any]:
    """How often a policy finds the preferred response more probable than the other.

    With a `reference`, how often its log-ratio to the reference is larger: the accuracy of DPO's implicit reward
    (Rafailov et al. 2023, §4). Returns what `reward_accuracy` returns.
    """
    network, tokenizer = load_if_named(model)
    fitting, trees = fitting_ranking_trees(
        rankings, ChatTemplate.from_tokenizer(tokenizer, chat_template), model_context_length(network)
    )
    sums = log_prob_sums(network, trees, tokens_per_microbatch)
    if reference is not None:
        other, other_tokenizer = load_if_named(reference)
        require_same_vocabulary(tokenizer, other_tokenizer, "reference")
        sums = [a - b for a, b in zip(sums, log_prob_sums(other, trees, tokens_per_microbatch), strict=True)]
    return ranking_accuracy(fitting, sums, len(rankings), seed)


def reward_accuracy(
    model: ModelLike,
    rankings: Sequence[Ranking],
    *,
    chat_template: str = "auto",
    tokens_per_microbatch: int = DEFAULT_TOKENS_PER_MICROBATCH,
    seed: int = 0,
) -> dict[str, Any]:
    """How often a reward model scores the preferred response above the other; equal scores count one half.

    Returns `{"accuracy": {"mean", "ci95", "n"}, "by_strength": {"1": {...}, ...}, "pairs", "overlong"}`. A ranking of K
    responses counts with all its pairs; `n` and the interval are over rankings, because the pairs of one ranking are
    not independent.
    """
    network, tokenizer = load_if_named(model, "reward")
    fitting, trees = fitting_ranking_trees(
        rankings, reward_model_template(tokenizer, chat_template), model_context_length(network)
    )
    return ranking_accuracy(fitting, reward_scores(network, trees, tokens_per_microbatch), len(rankings), seed)


@dataclass(frozen=True)
class _PairCounts:
    """For one ranking: pairs in the right order (ties one half), and all pairs."""

    num_correct: float
    num_pairs: int


def ranking_accuracy(
    rankings: Sequence[Ranking], scores: Sequence[NDArray[np.float64]], num_rankings: int, seed: int
) -> dict[str, Any]:
    """The result of `reward_accuracy` from each ranking's scores; `requested` counts all rankings."""
    counts = [_count_pairs(ranking, value) for ranking, value in zip(rankings, scores, strict=True)]
    strengths = sorted({ranking.strength for ranking in rankings if ranking.strength is not None})
    by_strength = {
        str(strength): _accuracy([t for r, t in zip(rankings, counts, strict=True) if r.strength == strength], seed)
        for strength in strengths
    }
    return {
        "accuracy": _accuracy(counts, seed),
        "by_strength": by_strength,
        "pairs": sum(tally.num_pairs for tally in counts),
        "overlong": num_rankings - len(rankings),
    }


def _count_pairs(ranking: Ranking, scores: NDArray[np.float64]) -> _PairCounts:
    margins = [float(scores[better] - scores[worse]) for better, worse in ranking.pairs()]
    return _PairCounts(sum(0.5 * (1 + np.sign(margin)) for margin in margins), len(margins))


def _accuracy(counts: Sequence[_PairCounts], seed: int) -> dict[str, Any]:
    """Accuracy with its interval; with one pair per ranking the pairs are independent and get Wilson's interval."""
    right, pairs = [t.num_correct for t in counts], [t.num_pairs for t in counts]
    if all(count == 1 for count in pairs):
        return mean_interval(right, seed).as_json()
    found = ratio_interval(right, pairs, seed, proportion=True)
    return found.as_json()


def fitting_ranking_trees(
    rankings: Sequence[Ranking], template: ChatTemplate, context: int | None
) -> tuple[list[Ranking], list[TreeNode]]:
    """The rankings that fit the context, each with the tree of its prompt and responses."""
    trees = [
        make_tree(
            template.encode_prompt(one.prompt), [template.encode_response(one.prompt, text) for text in one.responses]
        )
        for one in rankings
    ]
    fitting = [
        (r, t) for r, t in zip(rankings, trees, strict=True) if context is None or longest_path_tokens(t) <= context
    ]
    return [ranking for ranking, _ in fitting], [node for _, node in fitting]
