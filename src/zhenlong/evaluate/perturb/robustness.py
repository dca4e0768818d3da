"""Spelling, case and spacing: what careless typing changes and the meaning survives.

Rules: stanford-crfm/helm:src/helm/benchmark/augmentations/. The lists of words are our own (wordlists/README.md).
"""

from __future__ import annotations

import re
from functools import cache
from random import Random
from typing import Final

from zhenlong.evaluate.perturb.rewriting import phrase_pattern, replace_phrases
from zhenlong.evaluate.wordlists import read_wordlist, replacements

MISSPELLING_RATE: Final = 0.1  # of the words that the list has a misspelling of
TYPO_RATE: Final = 0.05  # of the letters
MAX_SPACES: Final = 3  # spaces in place of one
SPACES: Final = re.compile(" +")
KEYBOARD: Final = (("qwertyuiop", 0.0), ("asdfghjkl", 0.25), ("zxcvbnm", 0.75))  # rows, and how far they are shifted


def mild_mix(text: str, rng: Random) -> str:
    """Lower case, then contractions, then misspellings, then spacing: HELM's canonical robustness perturbation."""
    for step in (lowercase, contract, misspell, space):
        text = step(text, rng)
    return text


def lowercase(text: str, rng: Random) -> str:
    """All letters in lower case."""
    return text.lower()


def contract(text: str, rng: Random) -> str:
    """ "She is a doctor" becomes "She's a doctor"; nothing at the end of a clause ("yes, she is")."""
    shorter, _ = _contractions()
    return replace_phrases(contractible_pattern(), text, shorter.__getitem__)


def expand(text: str, rng: Random) -> str:
    """ "She's a doctor" becomes "She is a doctor"; an ambiguous 's or 'd is read as is or would."""
    _, longer = _contractions()
    return replace_phrases(contraction_pattern(), text, longer.__getitem__)


def misspell(text: str, rng: Random) -> str:
    """Every tenth word of those with a common misspelling is misspelt."""
    wrong = replacements("misspellings.tsv")

    def word(right: str) -> str:
        return rng.choice(wrong[right]) if rng.random() < MISSPELLING_RATE else right

    return replace_phrases(misspellable_pattern(), text, word)


def space(text: str, rng: Random) -> str:
    """Every run of spaces becomes one, two or three spaces."""
    return SPACES.sub(lambda match: " " * rng.randint(1, MAX_SPACES), text)


def typos(text: str, rng: Random) -> str:
    """Every twentieth letter becomes that of a neighbouring key of a QWERTY keyboard, its case kept."""
    near = neighbouring_keys()

    def letter(right: str) -> str:
        keys = near.get(right.lower(), "")
        if not keys or rng.random() >= TYPO_RATE:
            return right
        wrong = rng.choice(keys)
        return wrong.upper() if right.isupper() else wrong

    return "".join(letter(one) for one in text)


@cache
def neighbouring_keys() -> dict[str, str]:
    """The keys around each letter: those whose middles are less than 1.3 key widths away."""
    middles = {
        key: (place + shift, row) for row, (keys, shift) in enumerate(KEYBOARD) for place, key in enumerate(keys)
    }
    return {
        key: "".join(
            other for other, (a, b) in middles.items() if other != key and (a - x) ** 2 + (b - y) ** 2 < 1.3**2
        )
        for key, (x, y) in middles.items()
    }


@cache
def contractible_pattern() -> re.Pattern[str]:
    """Phrases with a contraction, before a space."""
    return phrase_pattern(_contractions()[0], after="(?= )")


@cache
def contraction_pattern() -> re.Pattern[str]:
    """Contractions that can be written out."""
    return phrase_pattern(_contractions()[1])


@cache
def misspellable_pattern() -> re.Pattern[str]:
    """Words with a common misspelling."""
    return phrase_pattern(replacements("misspellings.tsv"))


@cache
def _contractions() -> tuple[dict[str, str], dict[str, str]]:
    """From phrase to contraction, and from contraction to phrase."""
    pairs = read_wordlist("contractions.tsv")
    shorter = {phrase: short.lstrip("+") for phrase, short in pairs if not short.startswith("*")}
    longer = {short.lstrip("*"): phrase for phrase, short in pairs if not short.startswith("+")}
    return shorter, longer
