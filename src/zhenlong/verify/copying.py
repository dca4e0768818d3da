"""Copying metrics: common prefix and edit distance to a known text, and extractiveness of a summary.

Rules: stanford-crfm/helm:src/helm/benchmark/metrics/copyright_metrics.py, and Grusky et al. 2018 (NEWSROOM).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from zhenlong.verify.overlap import word_tokens

SPACES_PATTERN: Final = re.compile(" +")


@dataclass(frozen=True)
class ExtractiveFragments:
    """Extractive fragments shared by a summary and its source; lengths in tokens.

    `coverage`: the fraction of the summary inside fragments; `density`: the mean over its tokens of the length of their
    fragment; `compression`: length of the source divided by length of the summary.
    """

    coverage: float
    density: float
    compression: float


def longest_common_prefix(response: Sequence[str], reference: Sequence[str]) -> int:
    """The number of tokens before the first difference."""
    return next(
        (place for place, (a, b) in enumerate(zip(response, reference, strict=False)) if a != b),
        min(len(response), len(reference)),
    )


def edit_distance(response: Sequence[str], reference: Sequence[str]) -> int:
    """Insertions, deletions and replacements of tokens that turn one text into the other (Levenshtein 1966).

    By Hyyrö's (2001) bit-parallel form of Myers' algorithm: a column of the table is two integers whose bits mark the
    vertical increases and decreases.
    """
    if not response:
        return len(reference)
    match_masks: dict[str, int] = {}
    for place, token in enumerate(response):
        match_masks[token] = match_masks.get(token, 0) | 1 << place
    full_mask, last_bit = (1 << len(response)) - 1, 1 << (len(response) - 1)
    vertical_positive, vertical_negative, distance = full_mask, 0, len(response)
    for token in reference:
        matches = match_masks.get(token, 0)
        diagonal_zero = (
            (((matches & vertical_positive) + vertical_positive) ^ vertical_positive) | matches | vertical_negative
        ) & full_mask
        horizontal_positive = (vertical_negative | ~(diagonal_zero | vertical_positive)) & full_mask
        horizontal_negative = vertical_positive & diagonal_zero
        distance += bool(horizontal_positive & last_bit) - bool(horizontal_negative & last_bit)
        horizontal_positive = (horizontal_positive << 1 | 1) & full_mask
        horizontal_negative = (horizontal_negative << 1) & full_mask
        vertical_positive, vertical_negative = (
            (horizontal_negative | ~(diagonal_zero | horizontal_positive)) & full_mask,
            horizontal_positive & diagonal_zero,
        )
    return distance


def edit_similarity(response: Sequence[str], reference: Sequence[str]) -> float:
    """1 - edit distance / the longer length (Lee et al. 2021); 0 if either text is empty."""
    return (
        1 - edit_distance(response, reference) / max(len(response), len(reference)) if response and reference else 0.0
    )


def treebank_tokens(text: str) -> list[str]:
    """Tokens of NLTK's Treebank tokenizer over the whole text, as in HELM's copyright metrics."""
    return list(_treebank_tokenizer().tokenize(text))


def collapse_spaces(text: str) -> str:
    """The text with every run of white space replaced by one space."""
    return SPACES_PATTERN.sub(" ", text.replace("\n", " ").replace("\t", " "))


def extractive_fragments(source: str, summary: str) -> ExtractiveFragments | None:
    """Coverage, density and compression of a summary (Grusky et al. 2018, section 4); None for an empty summary.

    Lower-cased NLTK tokens; upstream tokenises with spaCy.
    """
    source_tokens, summary_tokens = word_tokens(source.lower()), word_tokens(summary.lower())
    if not summary_tokens:
        return None
    lengths = _fragment_lengths(source_tokens, summary_tokens)
    return ExtractiveFragments(
        coverage=sum(lengths) / len(summary_tokens),
        density=sum(length**2 for length in lengths) / len(summary_tokens),
        compression=len(source_tokens) / len(summary_tokens),
    )


def _fragment_lengths(source_tokens: Sequence[str], summary_tokens: Sequence[str]) -> list[int]:
    """Greedy matching from the left: the longest source fragment at each position of the summary (their figure 3)."""
    positions: dict[str, list[int]] = {}
    for place, token in enumerate(source_tokens):
        positions.setdefault(token, []).append(place)
    lengths, position = [], 0
    while position < len(summary_tokens):
        best = max(
            (
                longest_common_prefix(summary_tokens[position:], source_tokens[start:])
                for start in positions.get(summary_tokens[position], ())
            ),
            default=0,
        )
        if best:
            lengths.append(best)
        position += best or 1
    return lengths


@cache
def _treebank_tokenizer() -> Any:
    from nltk.tokenize.treebank import TreebankWordTokenizer

    return TreebankWordTokenizer()
