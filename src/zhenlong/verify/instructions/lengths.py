"""How long is the response, in sentences, paragraphs and words, and what does a paragraph begin with?"""

from __future__ import annotations

import re

from zhenlong.verify.instructions.arguments import satisfies_relation
from zhenlong.verify.instructions.sentences import split_sentences


def number_of_sentences(response: str, num_sentences: int, relation: str) -> bool:
    """length_constraints:number_sentences: so many sentences, as nltk's Punkt splits them."""
    return satisfies_relation(len(split_sentences(response)), relation, num_sentences)


def number_of_words(response: str, num_words: int, relation: str) -> bool:
    r"""length_constraints:number_words: so many runs of `\w`; "don't" is two."""
    return satisfies_relation(len(re.findall(r"\w+", response)), relation, num_words)


def number_of_paragraphs(response: str, num_paragraphs: int) -> bool:
    """length_constraints:number_paragraphs: exactly so many parts between dividers `***`, empty only at the ends."""
    parts = [part.strip() for part in re.split(r"\s?\*\*\*\s?", response)]
    return all(parts[1:-1]) and sum(map(bool, parts)) == num_paragraphs


def first_word_of_paragraph(response: str, num_paragraphs: int, nth_paragraph: int, first_word: str) -> bool:
    r"""length_constraints:nth_paragraph_first_word: so many paragraphs between `\n\n`, and the nth begins so.

    Empty parts are no paragraphs, but they do count for which part is the nth. The word ends at its first punctuation
    mark and is compared without regard to case.
    """
    parts = response.split("\n\n")
    count = sum(bool(part.strip()) for part in parts)
    if not 1 <= nth_paragraph <= count or not parts[int(nth_paragraph) - 1].strip():
        return False
    opening = parts[int(nth_paragraph) - 1].split()[0].lstrip("'").lstrip('"')
    word = re.split(r"[.,?!'\"]", opening)[0].lower()
    return count == num_paragraphs and word == first_word.lower()
