"""Harmful questions with a safe and a harmful response, as the trees that DeRTa learns from (Yuan et al. 2024)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Final

from transformers import PreTrainedTokenizerBase

from zhenlong.data import ChatTemplate, LengthLimit, Mixture
from zhenlong.errors import UserError
from zhenlong.forest import TreeNode
from zhenlong.loop import Run
from zhenlong.records import Messages, Ranking
from zhenlong.stages.prepare_data import resize_order, split_by_source, write_overlong_counts

UNPREFIXED_EVERY: Final = 3  # every third safe response comes without a prefix, as at inference


@dataclass(frozen=True)
class SafetyPair:
    """A harmful question with its two responses as a tree, and the token that RTO teaches at every position.

    The tree is the prompt with two children: the harmful response, all of it scored, and the safe response behind
    `num_prefix_words` words of the harmful one, of which the safe response is scored.
    """

    tree: TreeNode
    refusal: int
    num_prefix_words: int


@dataclass(frozen=True)
class SafetyPairSettings:
    """The word that RTO teaches ("" for the first of each safe response), and whether a harmful prefix precedes it."""

    refusal: str = "Sorry"
    harmful_prefix: bool = True


def pair_trees(
    run: Run,
    rankings: Sequence[Ranking],
    order: Mixture,
    template: ChatTemplate,
    settings: SafetyPairSettings,
    limit: LengthLimit,
) -> tuple[list[SafetyPair], Mixture]:
    """Each pair of responses of each ranking; what is too long stops the run, is cut, or is left out and counted.

    The length of the prefix is drawn once for each pair: from 1 to n - 2 of the harmful response's n words, and 0 for
    every third pair and for responses of fewer than three words (RobustNLP/DeRTa:data/train/generate_training_data.py).
    """
    pairs: list[SafetyPair] = []
    sizes: list[int] = []
    rng, number = Random(f"prefix:{run.options.seed}"), 0
    for records in split_by_source(rankings, order):
        before, truncated, all_pairs = len(pairs), 0, 0
        for ranking in records:
            for chosen, rejected in ranking.pairs():
                safe, harmful = ranking.responses[chosen], ranking.responses[rejected]
                num_prefix_words = draw_prefix_length(harmful, number, rng) if settings.harmful_prefix else 0
                pair = _build_pair(template, ranking.prompt, safe, harmful, num_prefix_words, settings.refusal)
                number, all_pairs = number + 1, all_pairs + 1
                fitted = _fit_to_length(pair, limit.max_length)
                if fitted is not pair and limit.overlong == "error":
                    raise UserError(
                        f"pair {number}: {_longest_path(pair)} tokens, more than the maximum length of "
                        f"{limit.max_length}; raise it, or choose to truncate or drop what is too long"
                    )
                if fitted is None or (fitted is not pair and limit.overlong == "drop"):
                    continue
                truncated += fitted is not pair
                pairs.append(fitted)
        write_overlong_counts(run, truncated, all_pairs - (len(pairs) - before))
        sizes.append(len(pairs) - before)
    return pairs, resize_order(order, sizes)


def draw_prefix_length(harmful: str, number: int, rng: Random) -> int:
    """How many words of the harmful response come before the safe one: uniform in [1, n - 2], 0 for every third."""
    words = len(harmful.split(" "))
    drawn = rng.randint(1, words - 2) if words > 2 else 0
    return 0 if number % UNPREFIXED_EVERY == 0 else drawn


def build_heldout_pairs(
    rankings: Sequence[Ranking], template: ChatTemplate, refusal: str, context: int
) -> list[SafetyPair]:
    """Pairs to measure on, without prefix and cut to the context."""
    every = [
        _fit_to_length(
            _build_pair(template, one.prompt, one.responses[chosen], one.responses[rejected], 0, refusal), context
        )
        for one in rankings
        for chosen, rejected in one.pairs()
    ]
    return [pair for pair in every if pair is not None]


def _build_pair(
    template: ChatTemplate, prompt: Messages, safe: str, harmful: str, num_prefix_words: int, refusal: str
) -> SafetyPair:
    """The two texts of a pair. A token that reaches from the prefix into the safe response is scored."""
    prefix = " ".join(harmful.split(" ")[:num_prefix_words])
    ids = template.encode_response(prompt, f"{prefix} {safe}" if prefix else safe)
    prefix_ids = template.encode_response(prompt, prefix, end_turn=False) if prefix else []
    first_scored = next(
        (i for i, (a, b) in enumerate(zip(ids, prefix_ids, strict=False)) if a != b), min(len(ids), len(prefix_ids))
    )
    children = (
        TreeNode(template.encode_response(prompt, harmful), True),
        TreeNode(ids, [place >= first_scored for place in range(len(ids))]),
    )
    return SafetyPair(
        TreeNode(template.encode_prompt(prompt), False, children),
        _first_token(template, prompt, refusal or safe),
        num_prefix_words,
    )


def _first_token(template: ChatTemplate, prompt: Messages, text: str) -> int:
    """The id of the first token of an answer. Raises `UserError` where a template puts something of its own first."""
    first = template.encode_response(prompt, text)[0]
    tokenizer: PreTrainedTokenizerBase = template.tokenizer
    decoded = str(tokenizer.decode([first])).strip()
    if not decoded or not ("\ufffd" in decoded or text.strip().startswith(decoded)):  # half a character shows as U+FFFD
        raise UserError(
            f"refusal {text[:40]!r}: an answer begins with the token {decoded!r} in the chat template {template.name}; "
            "choose another refusal, or --chat_template chatml"
        )
    return first


def _longest_path(pair: SafetyPair) -> int:
    return len(pair.tree.tokens) + max(len(child.tokens) for child in pair.tree.children)


def _fit_to_length(pair: SafetyPair, max_length: int) -> SafetyPair | None:
    """The pair itself where it fits; else cut, or None where nothing to learn would be left."""
    max_response_tokens = max_length - len(pair.tree.tokens)
    if _longest_path(pair) <= max_length:
        return pair
    harmful, safe = pair.tree.children
    assert not isinstance(safe.scored, bool)
    if max_response_tokens < 1 or not any(safe.scored[:max_response_tokens]):
        return None
    truncated = (
        TreeNode(harmful.tokens[:max_response_tokens], True),
        TreeNode(safe.tokens[:max_response_tokens], safe.scored[:max_response_tokens]),
    )
    return replace(pair, tree=replace(pair.tree, children=truncated))
