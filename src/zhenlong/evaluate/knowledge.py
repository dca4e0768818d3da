"""Does a model know the facts? Multiple-choice completions, answered by which choice it finds likeliest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase

from zhenlong.evaluate.scoring import TOKENS, log_prob_sums
from zhenlong.evaluate.statistics import interval
from zhenlong.evaluate.subject import Subject, opened
from zhenlong.forest import Node, tree
from zhenlong.world import Cloze


def closed_book(
    model: Subject, items: Sequence[Cloze], *, tokens_per_microbatch: int = TOKENS, seed: int = 0
) -> dict[str, Any]:
    """How often the true choice has the largest summed log-probability after the opening words, read as plain text.

    Returns `{"accuracy": {"mean", "ci95", "n"}, "chance", "by_family": {name: {...}}}`. Lengths are not corrected for:
    a model that knows the fact gives the true choice the largest probability, however long it is. Of equally likely
    choices the first is taken.
    """
    network, tokenizer = opened(model)
    sums = log_prob_sums(network, [_tree(item, tokenizer) for item in items], tokens_per_microbatch)
    right = [float(found.argmax() == item.answer) for item, found in zip(items, sums, strict=True)]
    by_family: dict[str, list[float]] = {}
    for item, value in zip(items, right, strict=True):
        by_family.setdefault(item.family, []).append(value)
    return {
        "accuracy": interval(right, seed).as_json(),
        "chance": sum(1 / len(item.choices) for item in items) / max(len(items), 1),
        "by_family": {family: interval(values, seed).as_json() for family, values in sorted(by_family.items())},
    }


def _tree(item: Cloze, tokenizer: PreTrainedTokenizerBase) -> Node:
    """The opening with the choices as its children: what they share is computed once."""
    start = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]  # as a document begins in pretraining
    ids = tokenizer([item.prompt, *item.choices], add_special_tokens=False)["input_ids"]
    return tree([*start, *ids[0]], ids[1:])
