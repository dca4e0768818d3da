"""Closed-book facts: multiple-choice completions, answered by the choice with the highest log-probability."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase

from zhenlong.evaluate.statistics.intervals import mean_interval
from zhenlong.forest import TreeNode, make_tree
from zhenlong.forest.scoring import DEFAULT_TOKENS_PER_MICROBATCH, log_prob_sums
from zhenlong.models.model_argument import ModelLike, load_if_named
from zhenlong.world import Cloze


def closed_book_accuracy(
    model: ModelLike,
    items: Sequence[Cloze],
    *,
    tokens_per_microbatch: int = DEFAULT_TOKENS_PER_MICROBATCH,
    seed: int = 0,
) -> dict[str, Any]:
    """How often the true choice has the highest summed log-probability as a plain-text continuation of the prompt.

    Returns `{"accuracy": {"mean", "ci95", "n"}, "chance", "by_family": {name: {...}}}`. There is no length
    normalisation: a model that knows the fact gives the true choice the highest probability, whatever its length. Ties
    go to the first choice.
    """
    network, tokenizer = load_if_named(model)
    sums = log_prob_sums(network, [_tree(item, tokenizer) for item in items], tokens_per_microbatch)
    correct = [float(found.argmax() == item.answer) for item, found in zip(items, sums, strict=True)]
    by_family: dict[str, list[float]] = {}
    for item, value in zip(items, correct, strict=True):
        by_family.setdefault(item.family, []).append(value)
    return {
        "accuracy": mean_interval(correct, seed).as_json(),
        "chance": sum(1 / len(item.choices) for item in items) / max(len(items), 1),
        "by_family": {family: mean_interval(values, seed).as_json() for family, values in sorted(by_family.items())},
    }


def _tree(item: Cloze, tokenizer: PreTrainedTokenizerBase) -> TreeNode:
    """A tree of the prompt with the choices as its children, so that the prompt is computed once."""
    start = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]  # pretraining documents start with BOS
    ids = tokenizer([item.prompt, *item.choices], add_special_tokens=False)["input_ids"]
    return make_tree([*start, *ids[0]], ids[1:])
