"""Fairness perturbations: dialect, gender, first names and surnames, which should not change the quality of a response.

Rules: stanford-crfm/helm:src/helm/benchmark/augmentations/, every replacement with probability 1. The word
lists are our own (wordlists/README.md).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from functools import cache
from random import Random
from typing import Final

from zhenlong.evaluate.perturb.rewriting import match_case, phrase_pattern, replace_phrases
from zhenlong.evaluate.wordlists import read_wordlist, replacements, words_by_group

GENDERS: Final = ("female", "male")
FROM, TO = "white", "black"
SURNAMES_FROM, SURNAMES_TO = "white", "hispanic"
FEMALE_PRONOUN: Final = {
    "he": "she",
    "him": "her",
    "his": "her",
    "himself": "herself",
}  # "hers" is never used, as in HELM


def dialect(text: str, rng: Random) -> str:
    """Replace Standard American English words by African American Vernacular English ones."""
    other, salt = replacements("dialect.tsv"), rng.getrandbits(64)
    return replace_phrases(_dialect_words(), text, lambda word: Random(f"{salt}:{word}").choice(other[word]))


def gender(text: str, rng: Random, stay: Collection[str] = ()) -> str:
    """Replace male pronouns by female ones: HELM's canonical gender perturbation. "his" always becomes "her"."""
    return _swapped(_male_pronouns(), text, FEMALE_PRONOUN, stay)


def gender_terms(text: str, rng: Random, stay: Collection[str] = ()) -> str:
    """Replace male terms ("father", "king") by female ones, and leave pronouns."""
    return _swapped(_male_terms(), text, dict(_gender_terms()), stay)


def names(text: str, rng: Random, stay: Collection[str] = ()) -> str:
    """Replace first names common among white Americans by ones of the same gender common among Black Americans.

    Only capitalised words are names. Different names of an instance stay different: the new ones come from a shuffled
    list.
    """
    groups, salt = words_by_group("first_names.tsv"), rng.getrandbits(64)
    new: dict[str, str] = {}
    for one in GENDERS:
        new |= _paired(groups[f"{FROM} {one}"], groups[f"{TO} {one}"], f"{salt}:{one}")
    return _swapped_names(_first_names(), text, new, stay)


def surnames(text: str, rng: Random, stay: Collection[str] = ()) -> str:
    """Replace surnames borne mostly by white Americans by ones borne mostly by Hispanic Americans, as `names` does."""
    groups = words_by_group("last_names.tsv")
    new = _paired(groups[SURNAMES_FROM], groups[SURNAMES_TO], str(rng.getrandbits(64)))
    return _swapped_names(_surnames(), text, new, stay)


def _swapped(pattern: re.Pattern[str], text: str, new: Mapping[str, str], stay: Collection[str]) -> str:
    return replace_phrases(pattern, text, lambda word: word if word in stay else new[word])


def _paired(olds: Collection[str], others: Collection[str], seed: str) -> dict[str, str]:
    """Each old name in lower case with another new one."""
    shuffled = list(others)
    Random(seed).shuffle(shuffled)
    return dict(zip((name.lower() for name in olds), shuffled, strict=True))


def _swapped_names(pattern: re.Pattern[str], text: str, new: Mapping[str, str], stay: Collection[str]) -> str:
    def swapped(match: re.Match[str]) -> str:
        name = match[0].lower()
        return match[0] if name in stay else match_case(match[0], new[name])

    return pattern.sub(swapped, text)


def _gender_terms() -> list[tuple[str, str]]:
    return [(male, female) for male, female in read_wordlist("gender_terms.tsv")]


@cache
def _dialect_words() -> re.Pattern[str]:
    return phrase_pattern(replacements("dialect.tsv"), hyphenated=False)


@cache
def _male_pronouns() -> re.Pattern[str]:
    return phrase_pattern(FEMALE_PRONOUN)


@cache
def _male_terms() -> re.Pattern[str]:
    return phrase_pattern(male for male, _ in _gender_terms())


@cache
def _first_names() -> re.Pattern[str]:
    return _names_pattern(name for one in GENDERS for name in words_by_group("first_names.tsv")[f"{FROM} {one}"])


@cache
def _surnames() -> re.Pattern[str]:
    return _names_pattern(words_by_group("last_names.tsv")[SURNAMES_FROM])


def _names_pattern(names: Iterable[str]) -> re.Pattern[str]:
    """The names as whole words, capitalised or in capitals."""
    forms = "|".join(
        sorted({form for name in names for form in (name, name.upper())}, key=lambda one: (-len(one), one))
    )
    return re.compile(rf"(?<!\w)(?:{forms})(?!\w)")
