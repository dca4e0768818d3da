"""Replacement of whole words and phrases, preserving case."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable


def phrase_pattern(phrases: Iterable[str], *, hyphenated: bool = True, after: str = "") -> re.Pattern[str]:
    """A pattern for any of the phrases as whole words in any case, the longest first; group 0 is the phrase.

    Spaces in a phrase match any white space except line breaks, apostrophes also match the curly one. Without
    `hyphenated`, parts of hyphenated words do not match. `after` is a pattern that has to follow.
    """
    edge = r"\w" if hyphenated else r"\w-"
    forms = (re.escape(one).replace(r"\ ", r"[^\S\n]+").replace("'", "['’]") for one in _longest_first(phrases))
    return re.compile(rf"(?<![{edge}])(?:{'|'.join(forms)})(?![{edge}]){after}", re.IGNORECASE)


def replace_phrases(pattern: re.Pattern[str], text: str, replacement: Callable[[str], str]) -> str:
    """The text with every match of the pattern replaced; `replacement` maps the lower-cased match to its replacement.

    The replacement takes the case of the match: all capitals, or a capital first letter.
    """
    return pattern.sub(lambda match: match_case(match[0], replacement(normalise_phrase(match[0]))), text)


def normalise_phrase(phrase: str) -> str:
    """Lower case, single spaces, straight apostrophes: the form used in the word lists."""
    return " ".join(phrase.lower().replace("’", "'").split())


def words_of(text: str) -> set[str]:
    """The words of a text in lower case, those joined by hyphens also as a whole."""
    return {word for pattern in (r"\w+", r"\w+(?:-\w+)+") for word in re.findall(pattern, text.lower())}


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
