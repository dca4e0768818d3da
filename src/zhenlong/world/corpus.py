"""The pretraining corpus: a weighted sample of document types, all consistent with the world's facts.

No question is followed by its answer, no request by a response, and there are no refusals: a base model learns facts
and language here, and instruction following is left to post-training.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import accumulate
from random import Random
from typing import Final

from zhenlong.records import Document
from zhenlong.world.descriptions import (
    describe_person,
    describe_town,
    fact_table,
    mixed_facts,
    reverse_lookup,
    shared_attributes,
)
from zhenlong.world.exercises import categories, lists, opposites, ordering, repetition, sums, word_problems
from zhenlong.world.facts import Facts
from zhenlong.world.reported_speech import reported_speech
from zhenlong.world.stories import harmful_act_story, harmless_actions, letter, review, story

DocumentWriter = Callable[[Facts, Random], str]

DOCUMENT_STYLES: Final[dict[str, dict[DocumentWriter, float]]] = {
    "mixed": {
        describe_person: 3.0,
        describe_town: 2.0,
        mixed_facts: 2.0,
        shared_attributes: 1.0,
        fact_table: 1.0,
        reverse_lookup: 1.0,
        story: 2.0,
        letter: 0.7,
        reported_speech: 1.2,
        review: 0.8,
        harmful_act_story: 0.8,
        harmless_actions: 0.8,
        sums: 2.0,
        word_problems: 0.5,
        ordering: 1.2,
        lists: 2.0,
        categories: 0.7,
        opposites: 0.7,
    },
    "practice": {
        repetition: 6.0,
        lists: 4.0,
        sums: 3.0,
        ordering: 2.0,
        word_problems: 1.5,
        opposites: 0.7,
        categories: 1.0,
        fact_table: 1.0,
        reported_speech: 3.0,
        describe_person: 1.5,
        mixed_facts: 1.5,
        describe_town: 1.0,
        review: 0.7,
        harmful_act_story: 0.5,
        harmless_actions: 0.5,
    },
    "facts": {
        describe_person: 4.0,
        describe_town: 2.5,
        mixed_facts: 3.0,
        shared_attributes: 1.0,
        fact_table: 1.0,
        reverse_lookup: 1.5,
        reported_speech: 1.0,
        harmless_actions: 0.3,
        sums: 0.7,
    },
}


def documents(facts: Facts, n: int, seed: int = 0, style: str = "mixed") -> Iterator[Document]:
    """`n` paragraphs of 15 to 120 words; `source` names the type of each. Raises `ValueError` for an unknown style."""
    if style not in DOCUMENT_STYLES:
        raise ValueError(f"style: expected one of {', '.join(DOCUMENT_STYLES)}, got {style!r}")
    writers = list(DOCUMENT_STYLES[style])
    bounds = list(accumulate(DOCUMENT_STYLES[style].values()))
    rng = Random(f"documents:{facts.seed}:{seed}:{style}")
    for writer in rng.choices(writers, cum_weights=bounds, k=n):
        yield Document(writer(facts, rng), source=f"world:{writer.__name__}")
