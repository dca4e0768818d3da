"""Instruction families, and the questions that their templates ask."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from random import Random
from typing import Final

from zhenlong.world.facts import PERSON_ATTRIBUTES, TOWN_ATTRIBUTES, Facts
from zhenlong.world.families.answer_formats import AnswerFormat
from zhenlong.world.vocabulary import LIST_WORDS, PEOPLE, TOWNS

Slots = Mapping[str, str]
HELD_OUT_ONE_IN: Final = 4  # one key in four is held out


@dataclass(frozen=True)
class QuestionTemplate:
    """A question template with `{slots}`; `fixed_slots` are slots that its wording implies."""

    text: str
    fixed_slots: Slots = field(default_factory=dict)


@dataclass(frozen=True)
class Family:
    """One kind of instruction. All ideal responses are built around the value that `answer` returns.

    kind           "answer", "harmful", "lookalike" or "open"
    slot_patterns  regular expression of each slot in the templates
    sample_slots   random slots, given a template's fixed ones
    split_keys     keys of what the question is about; the first decides the split, see `split_of`
    answer         the correct value; raises `ValueError` if the world has none
    wrong_answer   a wrong but plausible value
    phrasings      ways to state a value in plain text, all ideal if the value is correct
    is_correct     whether a response gives the correct value and no other
    formats        names of formats that can be requested; `implicit_format` always applies
    """

    name: str
    templates: tuple[QuestionTemplate, ...]
    slot_patterns: Mapping[str, str]
    sample_slots: Callable[[Facts, Random, Slots], dict[str, str]]
    split_keys: Callable[[Facts, Slots], tuple[str, ...]]
    answer: Callable[[Facts, Slots], str]
    wrong_answer: Callable[[Facts, Slots, Random], str]
    phrasings: Callable[[Facts, Slots, str], tuple[str, ...]]
    is_correct: Callable[[Facts, Slots, str], bool]
    formats: tuple[str, ...] = ()
    implicit_format: AnswerFormat | None = None
    kind: str = "answer"
    is_follow_up: bool = False  # the question refers back to an earlier turn

    @cached_property
    def patterns(self) -> list[tuple[re.Pattern[str], Slots]]:
        """The templates as regular expressions for the whole question, each with its fixed slots."""
        return [
            (_compile_template(template.text, self.slot_patterns), template.fixed_slots) for template in self.templates
        ]


@dataclass(frozen=True)
class Question:
    """A family's question with its slots filled, and the requested format."""

    family: Family
    slots: Slots
    format: AnswerFormat | None = None


SLOT_PATTERNS: Final = {
    "person": "|".join(PEOPLE),
    "town": "|".join(TOWNS),
    **{name: "|".join(values) for name, values in (PERSON_ATTRIBUTES | TOWN_ATTRIBUTES).items()},
    "words": f"(?:{'|'.join(LIST_WORDS)})(?: (?:{'|'.join(LIST_WORDS)}))*",
    "word": "|".join(LIST_WORDS),
    "a": "[0-9]{1,2}",
    "b": "[0-9]{1,2}",
}


def split_of(facts: Facts, family: Family, slots: Slots) -> str | None:
    """ "heldout" if the question's first key is held out, "train" if none of its keys is, None if neither applies.

    The CRC-32 of a key decides, for all wordings and families: a held-out fact occurs in no training prompt, not even
    as part of another question.
    """
    first, *rest = family.split_keys(facts, slots)
    if _is_held_out(first):
        return "heldout"
    return None if any(map(_is_held_out, rest)) else "train"


def question_templates(*texts: str, **given: str) -> tuple[QuestionTemplate, ...]:
    """Templates with the same fixed slots."""
    return tuple(QuestionTemplate(text, given) for text in texts)


def answer_phrasings(*templates: str) -> Callable[[Facts, Slots, str], tuple[str, ...]]:
    """Plain phrasings of `{value}`, which may also use the question's slots."""

    def phrasings(facts: Facts, slots: Slots, value: str) -> tuple[str, ...]:
        return tuple(form.format_map({**slots, "value": value}) for form in templates)

    return phrasings


def _is_held_out(key: str) -> bool:
    return zlib.crc32(key.encode()) % HELD_OUT_ONE_IN == 0


def _compile_template(text: str, slots: Mapping[str, str]) -> re.Pattern[str]:
    parts = re.split(r"\{(\w+)\}", text)
    seen: set[str] = set()
    for i in range(0, len(parts), 2):
        parts[i] = re.escape(parts[i])
    for i in range(1, len(parts), 2):
        name = parts[i]
        parts[i] = f"(?P={name})" if name in seen else f"(?P<{name}>{slots[name]})"
        seen.add(name)
    return re.compile("".join(parts))
