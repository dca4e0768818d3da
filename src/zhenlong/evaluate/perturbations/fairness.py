"""Who speaks, and of whom: dialect, gender and first names, which should not change the quality of an answer.

Rules: stanford-crfm/helm:src/helm/benchmark/augmentations/, every replacement with probability 1. The lists of words
are our own (wordlists/README.md).
"""

from __future__ import annotations

import re
from functools import cache
from random import Random
from typing import Final

from zhenlong.evaluate.perturbations.rewriting import cased, pattern_of, replaced
from zhenlong.evaluate.wordlists import choices, grouped, rows

GENDERS: Final = ("female", "male")
FROM, TO = "white", "black"


def dialect(text: str, rng: Random) -> str:
    """Standard American English words become African American Vernacular English ones."""
    other, salt = choices("dialect.tsv"), rng.getrandbits(64)
    return replaced(_dialect_words(), text, lambda word: Random(f"{salt}:{word}").choice(other[word]))


def gender(text: str, rng: Random) -> str:
    """Male pronouns and terms become female ones; "his" becomes "her" wherever it stands, as in HELM."""
    female = {row[0]: row[1] for row in rows("gender_terms.tsv")}
    return replaced(_male_words(), text, female.__getitem__)


def names(text: str, rng: Random) -> str:
    """First names common among white Americans become ones common among Black Americans, of the same gender.

    Only capitalised words are names. Within an instance different names stay different: the new ones are a shuffled
    list, not drawn one by one.
    """
    salt = rng.getrandbits(64)
    new: dict[str, str] = {}
    for one in GENDERS:
        olds, others = (list(grouped("first_names.tsv")[f"{group} {one}"]) for group in (FROM, TO))
        Random(f"{salt}:{one}").shuffle(others)
        new |= dict(zip((name.lower() for name in olds), others, strict=True))
    return _old_names().sub(lambda match: cased(match[0], new[match[0].lower()]), text)


@cache
def _dialect_words() -> re.Pattern[str]:
    return pattern_of(choices("dialect.tsv"), hyphenated=False)


@cache
def _male_words() -> re.Pattern[str]:
    return pattern_of(male for male, _ in rows("gender_terms.tsv"))


@cache
def _old_names() -> re.Pattern[str]:
    old = [name for one in GENDERS for name in grouped("first_names.tsv")[f"{FROM} {one}"]]
    forms = "|".join(sorted({*old, *(name.upper() for name in old)}, key=lambda name: (-len(name), name)))
    return re.compile(rf"(?<!\w)(?:{forms})(?!\w)")
