"""Length instructions: sentences, words, paragraphs, and the first word of a paragraph."""

from __future__ import annotations

import re

from zhenlong.verify.instructions.arguments import satisfies_relation
from zhenlong.verify.instructions.sentences import split_sentences


def number_of_sentences(response: str, num_sentences: int, relation: str) -> bool:
    """length_constraints:number_sentences: this many sentences, as split by nltk's Punkt."""
    return satisfies_relation(len(split_sentences(response)), relation, num_sentences)


def number_of_words(response: str, num_words: int, relation: str) -> bool:
    r"""length_constraints:number_words: this many runs of `\w`; "don't" is two."""
    return satisfies_relation(len(re.findall(r"\w+", response)), relation, num_words)


def number_of_paragraphs(response: str, num_paragraphs: int) -> bool:
    """length_constraints:number_paragraphs: exactly this many parts between dividers `***`, empty only at the ends."""
    parts = [part.strip() for part in re.split(r"\s?\*\*\*\s?", response)]
    return all(parts[1:-1]) and sum(map(bool, parts)) == num_paragraphs


def first_word_of_paragraph(response: str, num_paragraphs: int, nth_paragraph: int, first_word: str) -> bool:
    r"""length_constraints:nth_paragraph_first_word: this many paragraphs between `\n\n`, the nth with this first word.

    Empty parts do not count as paragraphs, but they do count for which part is the nth. The word ends at its first
    punctuation mark and is compared case-insensitively.
    """
    parts = response.split("\n\n")
    count = sum(bool(part.strip()) for part in parts)
    if not 1 <= nth_paragraph <= count or not parts[int(nth_paragraph) - 1].strip():
        return False
    opening = parts[int(nth_paragraph) - 1].split()[0].lstrip("'").lstrip('"')
    word = re.split(r"[.,?!'\"]", opening)[0].lower()
    return count == num_paragraphs and word == first_word.lower()
