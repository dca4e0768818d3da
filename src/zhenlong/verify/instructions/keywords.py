"""Keyword instructions: presence, absence and frequency of words and letters."""

from __future__ import annotations

import re
from collections.abc import Sequence

from zhenlong.errors import UserError
from zhenlong.verify.bounded_regex import regex_matches, regex_search
from zhenlong.verify.instructions.arguments import satisfies_relation, to_pattern
from zhenlong.verify.instructions.sentences import punkt_word_tokens


def has_keywords(response: str, keywords: Sequence[str]) -> bool:
    """keywords:existence: each keyword somewhere, in any case, also inside another word."""
    return all(regex_search(to_pattern(word), response, re.IGNORECASE) for word in keywords)


def keyword_frequency(response: str, keyword: str, frequency: int, relation: str) -> bool:
    """keywords:frequency: the keyword this often, in any case, also inside other words."""
    found = regex_matches(to_pattern(keyword.strip()), response, re.IGNORECASE)
    return satisfies_relation(len(found), relation, frequency)


def no_forbidden_words(response: str, forbidden_words: Sequence[str]) -> bool:
    """keywords:forbidden_words: none of the words as a word of its own, in any case."""
    return not any(regex_search(rf"\b{to_pattern(word)}\b", response, re.IGNORECASE) for word in forbidden_words)


def letter_frequency(response: str, letter: str, let_frequency: int, let_relation: str) -> bool:
    """keywords:letter_frequency: the letter this often, in either case.

    Two prompts of IFEval ask for `#` and `!`. The official code replaces a character that is no ASCII letter by a
    random letter; here the requested character is counted.
    """
    if len(letter.strip()) != 1:
        raise UserError(f"instruction keywords:letter_frequency: letter: expected one character, got {letter!r}")
    return satisfies_relation(response.lower().count(letter.strip().lower()), let_relation, let_frequency)


def capital_word_frequency(response: str, capital_frequency: int, capital_relation: str) -> bool:
    """change_case:capital_word_frequency: this many words in all capitals; a hyphenated word counts as one."""
    capitals = sum(word.isupper() for word in punkt_word_tokens(response))
    return satisfies_relation(capitals, capital_relation, capital_frequency)
