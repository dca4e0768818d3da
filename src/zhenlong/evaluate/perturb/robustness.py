"""Robustness perturbations of spelling, case and spacing, which preserve the meaning.

Rules: stanford-crfm/helm:src/helm/benchmark/augmentations/. The word lists are our own (wordlists/README.md).
"""

from __future__ import annotations

import re
from functools import cache
from random import Random
from typing import Final

from zhenlong.evaluate.perturb.rewriting import phrase_pattern, replace_phrases
from zhenlong.evaluate.wordlists import read_wordlist, replacements, wordlist_words

MISSPELLING_RATE: Final = 0.1  # fraction of the words with a listed misspelling
TYPO_RATE: Final = 0.05  # fraction of the letters
FILLER_RATE: Final = 0.1  # fraction of the words
SYNONYM_RATE: Final = 0.5  # fraction of the words with listed synonyms
MAX_SPACES: Final = 3  # maximum length of a replaced run of spaces
SPACES: Final = re.compile(" +")
KEYBOARD: Final = (("qwertyuiop", 0.0), ("asdfghjkl", 0.25), ("zxcvbnm", 0.75))  # rows, and their horizontal offset


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
    """Misspell each word that has a common misspelling with probability 0.1."""
    wrong = replacements("misspellings.tsv")

    def word(right: str) -> str:
        return rng.choice(wrong[right]) if rng.random() < MISSPELLING_RATE else right

    return replace_phrases(misspellable_pattern(), text, word)


def space(text: str, rng: Random) -> str:
    """Every run of spaces becomes one, two or three spaces."""
    return SPACES.sub(lambda match: " " * rng.randint(1, MAX_SPACES), text)


def extra_space(text: str, rng: Random) -> str:
    """Every space becomes two."""
    return text.replace(" ", "  ")


def add_fillers(text: str, rng: Random) -> str:
    """Put a filler such as "you know" before a word, with probability 0.1."""
    fillers = wordlist_words("fillers.txt")
    return " ".join(
        f"{rng.choice(fillers)} {word}" if rng.random() <= FILLER_RATE else word for word in text.split(" ")
    )


def replace_synonyms(text: str, rng: Random) -> str:
    """Replace each word that has listed synonyms by one of them with probability 0.5."""
    others = replacements("synonyms.tsv")
    return replace_phrases(
        synonym_pattern(), text, lambda word: rng.choice(others[word]) if rng.random() < SYNONYM_RATE else word
    )


def typos(text: str, rng: Random) -> str:
    """Replace each letter with probability 0.05 by that of a neighbouring QWERTY key, in the same case."""
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
    """The neighbouring keys of each letter: those with a centre less than 1.3 key widths away."""
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
    """Phrases that have a contraction, before a space."""
    return phrase_pattern(_contractions()[0], after="(?= )")


@cache
def contraction_pattern() -> re.Pattern[str]:
    """Contractions that can be expanded."""
    return phrase_pattern(_contractions()[1])


@cache
def misspellable_pattern() -> re.Pattern[str]:
    """Words with a common misspelling."""
    return phrase_pattern(replacements("misspellings.tsv"))


@cache
def synonym_pattern() -> re.Pattern[str]:
    """Words with synonyms, but not parts of hyphenated words."""
    return phrase_pattern(replacements("synonyms.tsv"), hyphenated=False)


@cache
def _contractions() -> tuple[dict[str, str], dict[str, str]]:
    """From phrase to contraction, and from contraction to phrase."""
    pairs = read_wordlist("contractions.tsv")
    shorter = {phrase: short.lstrip("+") for phrase, short in pairs if not short.startswith("*")}
    longer = {short.lstrip("*"): phrase for phrase, short in pairs if not short.startswith("+")}
    return shorter, longer
