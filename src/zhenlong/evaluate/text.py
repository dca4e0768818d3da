"""Measures of a policy or a reward model on recorded text: perplexity and preference accuracy.

A record longer than the model's context is not measured; `too_long` counts them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zhenlong.data import Template
from zhenlong.data.pair_template import ranking_template
from zhenlong.evaluate.scoring import TOKENS, context_of, log_prob_sums, longest_path, reward_scores
from zhenlong.evaluate.statistics import Interval, interval, ratio
from zhenlong.evaluate.subject import Subject, opened, require_same_tokens
from zhenlong.forest import Node, tree
from zhenlong.records import Demonstration, Ranking


def perplexity(
    model: Subject,
    demonstrations: Sequence[Demonstration],
    *,
    chat_template: str = "auto",
    tokens_per_microbatch: int = TOKENS,
    seed: int = 0,
) -> dict[str, Any]:
    """exp of the mean negative log-probability of an assistant token, over all assistant tokens.

    Returns `{"perplexity": {"mean", "ci95", "n"}, "tokens", "too_long"}`; the interval resamples conversations.
    """
    network, tokenizer = opened(model)
    template = Template.of(tokenizer, chat_template)
    every = [[Node(*sample) for sample in template.samples(one.messages)] for one in demonstrations]
    context = context_of(network)
    kept = [nodes for nodes in every if context is None or max(map(longest_path, nodes)) <= context]
    found = iter(log_prob_sums(network, [node for nodes in kept for node in nodes], tokens_per_microbatch))
    losses = [-sum(float(next(found).sum()) for _ in nodes) for nodes in kept]
    counts = [sum(node.scored_tokens for node in nodes) for nodes in kept]
    loss = ratio(losses, counts, seed)
    mean, low, high = (float(np.exp(value)) for value in (loss.mean, *loss.ci95))
    measured = Interval(mean, (low, high), loss.n)
    return {"perplexity": measured.as_json(), "tokens": sum(counts), "too_long": len(every) - len(kept)}


def preference_accuracy(
    model: Subject,
    rankings: Sequence[Ranking],
    *,
    reference: Subject | None = None,
    chat_template: str = "auto",
    tokens_per_microbatch: int = TOKENS,
    seed: int = 0,
) -> dict[str, Any]:
    """How often a policy finds the preferred response more probable than the other.

    With a `reference`, how often its log-ratio to the reference is larger: the accuracy of DPO's implicit reward
    (Rafailov et al. 2023, §4). Returns what `reward_accuracy` returns.
    """
    network, tokenizer = opened(model)
    kept, trees = ranked_trees(rankings, Template.of(tokenizer, chat_template), context_of(network))
    sums = log_prob_sums(network, trees, tokens_per_microbatch)
    if reference is not None:
        other, other_tokenizer = opened(reference)
        require_same_tokens(tokenizer, other_tokenizer, "reference")
        sums = [a - b for a, b in zip(sums, log_prob_sums(other, trees, tokens_per_microbatch), strict=True)]
    return ranking_accuracy(kept, sums, len(rankings), seed)


def reward_accuracy(
    model: Subject,
    rankings: Sequence[Ranking],
    *,
    chat_template: str = "auto",
    tokens_per_microbatch: int = TOKENS,
    seed: int = 0,
) -> dict[str, Any]:
    """How often a reward model scores the preferred response above the other; equal scores count one half.

    Returns `{"accuracy": {"mean", "ci95", "n"}, "by_strength": {"1": {...}, ...}, "pairs", "too_long"}`. A ranking of K
    responses counts with all its pairs; `n` and the interval are of rankings, whose pairs are not independent.
    """
    network, tokenizer = opened(model, "reward")
    kept, trees = ranked_trees(rankings, ranking_template(tokenizer, chat_template), context_of(network))
    return ranking_accuracy(kept, reward_scores(network, trees, tokens_per_microbatch), len(rankings), seed)


@dataclass(frozen=True)
class _Tally:
    """Of one ranking: pairs in the right order (ties one half), and all pairs."""

    right: float
    pairs: int


def ranking_accuracy(
    rankings: Sequence[Ranking], values: Sequence[NDArray[np.float64]], asked: int, seed: int
) -> dict[str, Any]:
    """What `reward_accuracy` returns, of the values given to each ranking's responses; `asked` counts all rankings."""
    tallies = [_tally(ranking, value) for ranking, value in zip(rankings, values, strict=True)]
    strengths = sorted({ranking.strength for ranking in rankings if ranking.strength is not None})
    by_strength = {
        str(strength): _share([t for r, t in zip(rankings, tallies, strict=True) if r.strength == strength], seed)
        for strength in strengths
    }
    return {
        "accuracy": _share(tallies, seed),
        "by_strength": by_strength,
        "pairs": sum(tally.pairs for tally in tallies),
        "too_long": asked - len(rankings),
    }


def _tally(ranking: Ranking, values: NDArray[np.float64]) -> _Tally:
    margins = [float(values[better] - values[worse]) for better, worse in ranking.pairs()]
    return _Tally(sum(0.5 * (1 + np.sign(margin)) for margin in margins), len(margins))


def _share(tallies: Sequence[_Tally], seed: int) -> dict[str, Any]:
    """With one pair each the outcomes are independent, and the interval is that of outcomes."""
    right, pairs = [t.right for t in tallies], [t.pairs for t in tallies]
    found = interval(right, seed) if all(count == 1 for count in pairs) else ratio(right, pairs, seed)
    return found.as_json()


def ranked_trees(
    rankings: Sequence[Ranking], template: Template, context: int | None
) -> tuple[list[Ranking], list[Node]]:
    """The rankings that fit the context, and for each the tree of its prompt and responses."""
    trees = [
        tree(template.prompt(one.prompt), [template.response(one.prompt, text) for text in one.responses])
        for one in rankings
    ]
    fitting = [(r, t) for r, t in zip(rankings, trees, strict=True) if context is None or longest_path(t) <= context]
    return [ranking for ranking, _ in fitting], [node for _, node in fitting]
