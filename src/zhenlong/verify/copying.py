"""How much was copied? Common prefixes and edit distance to a known text, and how extractive a summary is.

Rules: stanford-crfm/helm:src/helm/benchmark/metrics/copyright_metrics.py, and Grusky et al. 2018 (NEWSROOM).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from zhenlong.verify.overlap import words

SPACES: Final = re.compile(" +")


@dataclass(frozen=True)
class Fragments:
    """How a summary is made of pieces of its source; lengths in tokens.

    `coverage`: the share of the summary inside such pieces; `density`: the mean over its tokens of the length of the
    piece they are in; `compression`: length of the source over length of the summary.
    """

    coverage: float
    density: float
    compression: float


def longest_common_prefix(said: Sequence[str], right: Sequence[str]) -> int:
    """The number of tokens before the first difference."""
    return next(
        (place for place, (a, b) in enumerate(zip(said, right, strict=False)) if a != b), min(len(said), len(right))
    )


def edit_distance(said: Sequence[str], right: Sequence[str]) -> int:
    """Insertions, deletions and replacements of tokens that turn one text into the other (Levenshtein 1966).

    By Hyyrö's (2001) bit-parallel form of Myers' algorithm: one column of the table is two integers, whose bits say
    where it rises and where it falls.
    """
    if not said:
        return len(right)
    places: dict[str, int] = {}
    for place, token in enumerate(said):
        places[token] = places.get(token, 0) | 1 << place
    whole, last = (1 << len(said)) - 1, 1 << (len(said) - 1)
    rises, falls, distance = whole, 0, len(said)
    for token in right:
        equal = places.get(token, 0)
        diagonal = ((((equal & rises) + rises) ^ rises) | equal | falls) & whole
        right_rises = (falls | ~(diagonal | rises)) & whole
        right_falls = rises & diagonal
        distance += bool(right_rises & last) - bool(right_falls & last)
        right_rises = (right_rises << 1 | 1) & whole
        right_falls = (right_falls << 1) & whole
        rises, falls = (right_falls | ~(diagonal | right_rises)) & whole, right_rises & diagonal
    return distance


def edit_similarity(said: Sequence[str], right: Sequence[str]) -> float:
    """1 - edit distance / the longer length (Lee et al. 2021); 0 where either text is empty."""
    return 1 - edit_distance(said, right) / max(len(said), len(right)) if said and right else 0.0


def treebank(text: str) -> list[str]:
    """Tokens of NLTK's Treebank tokenizer over the whole text, which HELM's copyright metrics count in."""
    return list(_treebank().tokenize(text))


def single_spaced(text: str) -> str:
    """The text with line ends, tabs and runs of spaces as one space."""
    return SPACES.sub(" ", text.replace("\n", " ").replace("\t", " "))


def extractive_fragments(source: str, summary: str) -> Fragments | None:
    """Coverage, density and compression of a summary (Grusky et al. 2018, section 4); None for an empty summary.

    Lower-cased NLTK tokens; upstream tokenises with spaCy.
    """
    given, made = words(source.lower()), words(summary.lower())
    if not made:
        return None
    lengths = _fragment_lengths(given, made)
    return Fragments(
        coverage=sum(lengths) / len(made),
        density=sum(length**2 for length in lengths) / len(made),
        compression=len(given) / len(made),
    )


def _fragment_lengths(given: Sequence[str], made: Sequence[str]) -> list[int]:
    """Greedily from the left, the longest run of the source that the summary continues with (their figure 3)."""
    starts: dict[str, list[int]] = {}
    for place, token in enumerate(given):
        starts.setdefault(token, []).append(place)
    lengths, here = [], 0
    while here < len(made):
        best = max(
            (longest_common_prefix(made[here:], given[start:]) for start in starts.get(made[here], ())), default=0
        )
        if best:
            lengths.append(best)
        here += best or 1
    return lengths


@cache
def _treebank() -> Any:
    from nltk.tokenize.treebank import TreebankWordTokenizer

    return TreebankWordTokenizer()
