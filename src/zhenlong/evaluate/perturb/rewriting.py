"""Replacing whole words and keeping their case."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable


def phrase_pattern(phrases: Iterable[str], *, hyphenated: bool = True, after: str = "") -> re.Pattern[str]:
    """A pattern for any of the phrases as whole words in any case, the longest first; group 0 is the phrase.

    Spaces in a phrase match any white space but line ends, apostrophes also the curly one. Without `hyphenated`, a part
    of a hyphenated word is no word. `after` has to follow.
    """
    edge = r"\w" if hyphenated else r"\w-"
    forms = (re.escape(one).replace(r"\ ", r"[^\S\n]+").replace("'", "['’]") for one in _longest_first(phrases))
    return re.compile(rf"(?<![{edge}])(?:{'|'.join(forms)})(?![{edge}]){after}", re.IGNORECASE)


def replace_phrases(pattern: re.Pattern[str], text: str, replacement: Callable[[str], str]) -> str:
    """The text with every match of the pattern replaced; `word` maps the match, lower-cased, to its replacement.

    A match in capitals is replaced by capitals, one that begins with a capital by a word that does.
    """
    return pattern.sub(lambda match: match_case(match[0], replacement(normalise_phrase(match[0]))), text)


def normalise_phrase(phrase: str) -> str:
    """Lower case, single spaces, straight apostrophes: the form that lists hold."""
    return " ".join(phrase.lower().replace("’", "'").split())


def match_case(original: str, word: str) -> str:
    """The word in the case of the original."""
    letters = [letter for letter in original if letter.isalpha()]
    if len(letters) > 1 and all(letter.isupper() for letter in letters):
        return word.upper()
    if letters and letters[0].isupper():
        first = next((place for place, letter in enumerate(word) if letter.isalpha()), 0)
        return word[:first] + word[first : first + 1].upper() + word[first + 1 :]
    return word


def _longest_first(phrases: Iterable[str]) -> list[str]:
    return sorted(phrases, key=lambda one: (-len(one), one))
