"""Harmful questions with a safe and a harmful response, as the trees that DeRTa learns from (Yuan et al. 2024)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Final

from transformers import PreTrainedTokenizerBase

from zhenlong.data import Mixture, Overlong, Template
from zhenlong.errors import UserError
from zhenlong.forest import Node
from zhenlong.loop import Run
from zhenlong.records import Messages, Ranking
from zhenlong.stages.trees import by_source, note_lengths, resized

PLAIN_EVERY: Final = 3  # every third safe response comes without a prefix, as at inference


@dataclass(frozen=True)
class Pair:
    """A harmful question with its two responses as a tree, and the token that RTO teaches at every position.

    The tree is the prompt with two children: the harmful response, all of it scored, and the safe response behind
    `words` words of the harmful one, of which the safe response is scored.
    """

    node: Node
    refusal: int
    words: int


def pair_trees(
    run: Run,
    rankings: Sequence[Ranking],
    order: Mixture,
    template: Template,
    refusal: str,
    prefix: bool,
    max_length: int,
    too_long: Overlong,
) -> tuple[list[Pair], Mixture]:
    """Each pair of responses of each ranking; what is too long stops the run, is cut, or is left out and counted.

    The length of the prefix is drawn once for each pair: from 1 to n - 2 of the harmful response's n words, and 0 for
    every third pair and for responses of fewer than three words (RobustNLP/DeRTa:data/train/generate_training_data.py).
    """
    pairs: list[Pair] = []
    sizes: list[int] = []
    rng, number = Random(f"prefix:{run.options.seed}"), 0
    for records in by_source(rankings, order):
        before, cut, all_pairs = len(pairs), 0, 0
        for ranking in records:
            for better, worse in ranking.pairs():
                safe, harmful = ranking.responses[better], ranking.responses[worse]
                words = prefix_words(harmful, number, rng) if prefix else 0
                pair = _pair(template, ranking.prompt, safe, harmful, words, refusal)
                number, all_pairs = number + 1, all_pairs + 1
                fitted = _fitted(pair, max_length)
                if fitted is not pair and too_long == "error":
                    raise UserError(
                        f"pair {number}: {_longest(pair)} tokens, more than the maximum length of {max_length}; raise "
                        "it, or choose to truncate or drop what is too long"
                    )
                if fitted is None or (fitted is not pair and too_long == "drop"):
                    continue
                cut += fitted is not pair
                pairs.append(fitted)
        note_lengths(run, cut, all_pairs - (len(pairs) - before))
        sizes.append(len(pairs) - before)
    return pairs, resized(order, sizes)


def prefix_words(harmful: str, number: int, rng: Random) -> int:
    """How many words of the harmful response come before the safe one: uniform in [1, n - 2], 0 for every third."""
    words = len(harmful.split(" "))
    drawn = rng.randint(1, words - 2) if words > 2 else 0
    return 0 if number % PLAIN_EVERY == 0 else drawn


def held_pairs(rankings: Sequence[Ranking], template: Template, refusal: str, context: int) -> list[Pair]:
    """Pairs to measure on, without prefix and cut to the context."""
    every = [
        _fitted(_pair(template, one.prompt, one.responses[better], one.responses[worse], 0, refusal), context)
        for one in rankings
        for better, worse in one.pairs()
    ]
    return [pair for pair in every if pair is not None]


def _pair(template: Template, prompt: Messages, safe: str, harmful: str, words: int, refusal: str) -> Pair:
    """The two texts of a pair. A token that reaches from the prefix into the safe response is scored."""
    head = " ".join(harmful.split(" ")[:words])
    ids = template.response(prompt, f"{head} {safe}" if head else safe)
    read = template.response(prompt, head, closed=False) if head else []
    known = next((i for i, (a, b) in enumerate(zip(ids, read, strict=False)) if a != b), min(len(ids), len(read)))
    children = (
        Node(template.response(prompt, harmful), True),
        Node(ids, [place >= known for place in range(len(ids))]),
    )
    return Pair(Node(template.prompt(prompt), False, children), _first_token(template, prompt, refusal or safe), words)


def _first_token(template: Template, prompt: Messages, text: str) -> int:
    """The id of the first token of an answer. Raises `UserError` where a template puts something of its own first."""
    first = template.response(prompt, text)[0]
    tokenizer: PreTrainedTokenizerBase = template.tokenizer
    said = str(tokenizer.decode([first])).strip()
    if not said or not ("\ufffd" in said or text.strip().startswith(said)):  # half a character shows as U+FFFD
        raise UserError(
            f"refusal {text[:40]!r}: an answer begins with the token {said!r} in the chat template {template.name}; "
            "choose another refusal, or --chat_template chatml"
        )
    return first


def _longest(pair: Pair) -> int:
    return len(pair.node.tokens) + max(len(child.tokens) for child in pair.node.children)


def _fitted(pair: Pair, max_length: int) -> Pair | None:
    """The pair itself where it fits; else cut, or None where nothing to learn would be left."""
    room = max_length - len(pair.node.tokens)
    if _longest(pair) <= max_length:
        return pair
    harmful, safe = pair.node.children
    assert not isinstance(safe.scored, bool)
    if room < 1 or not any(safe.scored[:room]):
        return None
    cut = (Node(harmful.tokens[:room], True), Node(safe.tokens[:room], safe.scored[:room]))
    return replace(pair, node=replace(pair.node, children=cut))
