"""The text to pretrain on: a weighted draw over the kinds of paragraph, every one of them true to the world's facts.

There is no question with an answer after it, no request with a reply, and no refusal: what a model learns here is what
is true and how sentences go, and following an instruction is left for post-training to bring.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import accumulate
from random import Random
from typing import Final

from zhenlong.records import Document
from zhenlong.world.drills import categories, echoes, lists, opposites, order, sums, word_problems
from zhenlong.world.facts import Facts
from zhenlong.world.lessons import lesson
from zhenlong.world.portraits import directory, gossip, likeness, person_portrait, roll, town_portrait
from zhenlong.world.tales import dark_deed, household, letter, review, story

Writer = Callable[[Facts, Random], str]

STYLES: Final[dict[str, dict[Writer, float]]] = {
    "mixed": {
        person_portrait: 3.0,
        town_portrait: 2.0,
        gossip: 2.0,
        likeness: 1.0,
        directory: 1.0,
        roll: 1.0,
        story: 2.0,
        letter: 0.7,
        lesson: 1.2,
        review: 0.8,
        dark_deed: 0.8,
        household: 0.8,
        sums: 2.0,
        word_problems: 0.5,
        order: 1.2,
        lists: 2.0,
        categories: 0.7,
        opposites: 0.7,
    },
    "practice": {
        echoes: 6.0,
        lists: 4.0,
        sums: 3.0,
        order: 2.0,
        word_problems: 1.5,
        opposites: 0.7,
        categories: 1.0,
        directory: 1.0,
        lesson: 3.0,
        person_portrait: 1.5,
        gossip: 1.5,
        town_portrait: 1.0,
        review: 0.7,
        dark_deed: 0.5,
        household: 0.5,
    },
    "facts": {
        person_portrait: 4.0,
        town_portrait: 2.5,
        gossip: 3.0,
        likeness: 1.0,
        directory: 1.0,
        roll: 1.5,
        lesson: 1.0,
        household: 0.3,
        sums: 0.7,
    },
}


def documents(facts: Facts, n: int, seed: int = 0, style: str = "mixed") -> Iterator[Document]:
    """`n` paragraphs of 15 to 120 words; `source` names the kind of each. Raises `ValueError` for an unknown style."""
    if style not in STYLES:
        raise ValueError(f"style: expected one of {', '.join(STYLES)}, got {style!r}")
    writers = list(STYLES[style])
    bounds = list(accumulate(STYLES[style].values()))
    rng = Random(f"documents:{facts.seed}:{seed}:{style}")
    for writer in rng.choices(writers, cum_weights=bounds, k=n):
        yield Document(writer(facts, rng), source=f"world:{writer.__name__}")
