"""Fairness perturbations: dialect, gender and first names, which should not change the quality of a response.

Rules: stanford-crfm/helm:src/helm/benchmark/augmentations/, every replacement with probability 1. The word
lists are our own (wordlists/README.md).
"""

from __future__ import annotations

import re
from functools import cache
from random import Random
from typing import Final

from zhenlong.evaluate.perturb.rewriting import match_case, phrase_pattern, replace_phrases
from zhenlong.evaluate.wordlists import read_wordlist, replacements, words_by_group

GENDERS: Final = ("female", "male")
FROM, TO = "white", "black"


def dialect(text: str, rng: Random) -> str:
    """Replace Standard American English words by African American Vernacular English ones."""
    other, salt = replacements("dialect.tsv"), rng.getrandbits(64)
    return replace_phrases(_dialect_words(), text, lambda word: Random(f"{salt}:{word}").choice(other[word]))


def gender(text: str, rng: Random) -> str:
    """Replace male pronouns and terms by female ones; "his" always becomes "her", as in HELM."""
    female = {row[0]: row[1] for row in read_wordlist("gender_terms.tsv")}
    return replace_phrases(_male_words(), text, female.__getitem__)


def names(text: str, rng: Random) -> str:
    """Replace first names common among white Americans by ones of the same gender common among Black Americans.

    Only capitalised words are names. Different names of an instance stay different: the new ones come from a shuffled
    list.
    """
    salt = rng.getrandbits(64)
    new: dict[str, str] = {}
    for one in GENDERS:
        olds, others = (list(words_by_group("first_names.tsv")[f"{group} {one}"]) for group in (FROM, TO))
        Random(f"{salt}:{one}").shuffle(others)
        new |= dict(zip((name.lower() for name in olds), others, strict=True))
    return _old_names().sub(lambda match: match_case(match[0], new[match[0].lower()]), text)


@cache
def _dialect_words() -> re.Pattern[str]:
    return phrase_pattern(replacements("dialect.tsv"), hyphenated=False)


@cache
def _male_words() -> re.Pattern[str]:
    return phrase_pattern(male for male, _ in read_wordlist("gender_terms.tsv"))


@cache
def _old_names() -> re.Pattern[str]:
    old = [name for one in GENDERS for name in words_by_group("first_names.tsv")[f"{FROM} {one}"]]
    forms = "|".join(sorted({*old, *(name.upper() for name in old)}, key=lambda name: (-len(name), name)))
    return re.compile(rf"(?<!\w)(?:{forms})(?!\w)")
