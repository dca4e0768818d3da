"""Dyck words without their last closing brackets (Suzgun et al. 2019, arXiv:1911.03329)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from random import Random
from typing import Any, Final

from zhenlong.errors import UserError
from zhenlong.evaluate.scenarios.instances import generator

PAIRS: Final = ("()", "[]", "{}", "<>")
P, Q = 0.5, 0.25  # of the grammar S -> (S) with probability p, SS with q, else nothing
MAX_DEPTH, MAX_LENGTH = 100, 100
LENGTHS: Final = {"train": (4, 50), "test": (52, 100)}  # of whole words, so that no test word is an example
MAX_REMOVED_BRACKETS: Final = 3  # closing brackets left out


@generator("dyck")
def dyck(n: int, seed: int, *, pairs: int = 3, split: str = "test") -> Iterator[Mapping[str, Any]]:
    """{input, output}: `( [ ] {` and ` } )`, brackets between spaces, each input once.

    Rules: stanford-crfm/helm:src/helm/benchmark/scenarios/dyck_language_scenario.py, which has 500 test words of 3
    kinds of brackets. The lengths are those of the whole word.
    """
    if not 1 <= pairs <= len(PAIRS) or split not in LENGTHS:
        raise UserError(f"generated:dyck: expected pairs from 1 to {len(PAIRS)} and split=test or train")
    least, most = LENGTHS[split]
    rng = Random(f"dyck/{seed}/{pairs}/{split}")
    seen: set[str] = set()
    while len(seen) < n:
        word = _word(rng, pairs, 0)
        if not least <= len(word) <= most:
            continue
        begun = _without_last(word, rng.randint(1, MAX_REMOVED_BRACKETS))
        asked = " ".join(begun)
        if begun and asked not in seen:
            seen.add(asked)
            yield {
                "input": asked,
                "output": "".join(f" {bracket}" for bracket in closing_brackets(begun)),
                "pairs": pairs,
            }


def closing_brackets(begun: str) -> str:
    """The brackets that close what is open, from the innermost. Raises `ValueError` for what no word begins with."""
    opened: list[str] = []
    for bracket in begun:
        pair = next((pair for pair in PAIRS if bracket in pair), None)
        if pair is None:
            raise ValueError(f"{bracket!r} is no bracket")
        if bracket == pair[0]:
            opened.append(pair[1])
        elif not opened or opened.pop() != bracket:
            raise ValueError(f"{bracket!r} closes nothing")
    return "".join(reversed(opened))


def _word(rng: Random, pairs: int, depth: int) -> str:
    if depth > MAX_DEPTH:
        return ""
    draw = rng.random()
    if draw < P:
        pair = PAIRS[rng.randrange(pairs)]
        word = pair[0] + _word(rng, pairs, depth + 1) + pair[1]
    elif draw < P + Q:
        word = _word(rng, pairs, depth) + _word(rng, pairs, depth)
    else:
        word = ""
    return word if len(word) <= MAX_LENGTH else ""


def _without_last(word: str, count: int) -> str:
    """The longest beginning of a word in which `count` brackets are open; empty where there is none."""
    height = 0
    for place in range(len(word) - 1, -1, -1):
        height += -1 if any(word[place] == pair[0] for pair in PAIRS) else 1
        if height == count:
            return word[:place]
    return ""
