"""Contamination: training texts that share word n-grams with an evaluation, or equal one of its questions.

The rule is GPT-3's (Brown et al. 2020, appendix C): 13 consecutive words, in lower case without punctuation, of
questions and answers. A question with fewer words has no n-gram; it matches a training text that has exactly the same
words. For answers (`yes`, `5`) that would mean nothing. N-grams shared by many items are the evaluation's prompt
wording rather than its content; they are ignored and counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from zhenlong.data.duplicates import hash64, normalised_words

DEFAULT_NGRAM: Final = 13
DEFAULT_MAX_SHARED_ITEMS: Final = 10  # questions that may share an n-gram


@dataclass(frozen=True)
class EvaluationItem:
    """One item of an evaluation: its questions and its reference answers."""

    name: str
    questions: tuple[str, ...]
    answers: tuple[str, ...] = ()


@dataclass(frozen=True)
class NgramIndex:
    """The n-grams and full questions of an evaluation: hash -> items. `ignored_ngrams` is the number of ignored
    n-grams.
    """

    ngram: int
    ngrams: Mapping[int, tuple[str, ...]]
    questions: Mapping[int, tuple[str, ...]]
    ignored_ngrams: int = 0


@dataclass(frozen=True)
class OverlapHit:
    """A training row and an evaluation item with common words: the number of n-grams, and the first of them.

    `exact`: a text of the row equals the question.
    """

    row: str
    item: str
    exact: bool
    shared_ngrams: int
    passage: str


def build_index(
    items: Iterable[EvaluationItem], ngram: int = DEFAULT_NGRAM, max_shared_items: int = DEFAULT_MAX_SHARED_ITEMS
) -> NgramIndex:
    """The index of an evaluation; n-grams of more than `max_shared_items` items are ignored and counted."""
    items_by_ngram: dict[int, dict[str, None]] = {}
    items_by_question: dict[int, dict[str, None]] = {}
    for item in items:
        for place, text in enumerate((*item.questions, *item.answers)):
            words = normalised_words(text)
            if words and place < len(item.questions):
                items_by_question.setdefault(hash64(" ".join(words)), {})[item.name] = None
            for gram in hash_ngrams(words, ngram):
                items_by_ngram.setdefault(gram, {})[item.name] = None
    indexed = {gram: tuple(names) for gram, names in items_by_ngram.items() if len(names) <= max_shared_items}
    return NgramIndex(
        ngram,
        indexed,
        {one: tuple(names) for one, names in items_by_question.items()},
        len(items_by_ngram) - len(indexed),
    )


def find_hits(row: str, texts: Sequence[str], index: NgramIndex) -> list[OverlapHit]:
    """What one training row shares with an evaluation: one hit per item."""
    shared: Counter[str] = Counter()
    passages: dict[str, str] = {}
    equal_questions: dict[str, None] = {}
    for text in texts:
        words = normalised_words(text)
        for place, gram in enumerate(hash_ngrams(words, index.ngram)):
            for item in index.ngrams.get(gram, ()):
                shared[item] += 1
                passages.setdefault(item, " ".join(words[place : place + index.ngram]))
        text_hash = hash64(" ".join(words)) if words else None
        for item in index.questions.get(text_hash, ()) if text_hash is not None else ():
            equal_questions[item] = None
            passages.setdefault(item, " ".join(words[: 2 * index.ngram]))
    found = dict.fromkeys([*equal_questions, *shared])
    return [OverlapHit(row, item, item in equal_questions, shared[item], passages[item]) for item in found]


def hash_ngrams(words: Sequence[str], n: int) -> list[int]:
    """The hashes of all n consecutive words, in order."""
    return [hash64(" ".join(words[i : i + n])) for i in range(len(words) - n + 1)]
