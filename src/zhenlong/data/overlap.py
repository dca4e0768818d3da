"""Which training texts hold what an evaluation asks: n-grams of words that occur in both, and equal questions.

The rule is GPT-3's (Brown et al. 2020, appendix C): words in lower case without punctuation, 13 in a row, of questions
and of answers. A question of fewer words has no n-gram; it is found where a training text is the same words, which for
answers (`yes`, `5`) would say nothing. An n-gram that many items share is how the evaluation puts its questions and not
what it asks, so it does not count; how many there were is told.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from zhenlong.data.duplicates import hash64, words_of

N: Final = 13
COMMON: Final = 10  # questions that may share an n-gram


@dataclass(frozen=True)
class Item:
    """One item of an evaluation: what it asks, and what would be right to answer."""

    name: str
    questions: tuple[str, ...]
    answers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Index:
    """The n-grams and whole questions of an evaluation: hash -> its items. `common` counts the n-grams left out."""

    n: int
    grams: Mapping[int, tuple[str, ...]]
    questions: Mapping[int, tuple[str, ...]]
    common: int = 0


@dataclass(frozen=True)
class Hit:
    """A training row and an evaluation's item that share words: how many n-grams, and the first of them.

    `exact`: a text of the row is the question.
    """

    row: str
    item: str
    exact: bool
    shared: int
    passage: str


def index(items: Iterable[Item], n: int = N, common: int = COMMON) -> Index:
    """The index of an evaluation; n-grams of more than `common` items are left out and counted."""
    grams: dict[int, dict[str, None]] = {}
    questions: dict[int, dict[str, None]] = {}
    for item in items:
        for place, text in enumerate((*item.questions, *item.answers)):
            words = words_of(text)
            if words and place < len(item.questions):
                questions.setdefault(hash64(" ".join(words)), {})[item.name] = None
            for gram in n_grams(words, n):
                grams.setdefault(gram, {})[item.name] = None
    kept = {gram: tuple(names) for gram, names in grams.items() if len(names) <= common}
    return Index(n, kept, {one: tuple(names) for one, names in questions.items()}, len(grams) - len(kept))


def hits(row: str, texts: Sequence[str], against: Index) -> list[Hit]:
    """What one training row shares with an evaluation: one hit for each item."""
    shared: Counter[str] = Counter()
    passages: dict[str, str] = {}
    same: dict[str, None] = {}
    for text in texts:
        words = words_of(text)
        for place, gram in enumerate(n_grams(words, against.n)):
            for item in against.grams.get(gram, ()):
                shared[item] += 1
                passages.setdefault(item, " ".join(words[place : place + against.n]))
        whole = hash64(" ".join(words)) if words else None
        for item in against.questions.get(whole, ()) if whole is not None else ():
            same[item] = None
            passages.setdefault(item, " ".join(words[: 2 * against.n]))
    found = dict.fromkeys([*same, *shared])
    return [Hit(row, item, item in same, shared[item], passages[item]) for item in found]


def n_grams(words: Sequence[str], n: int) -> list[int]:
    """The hashes of n words in a row, in order."""
    return [hash64(" ".join(words[i : i + n])) for i in range(len(words) - n + 1)]
