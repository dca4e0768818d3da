"""What an instruction family is, and the question one of its templates asks."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from random import Random
from typing import Final

from zhenlong.world.facts import ATTRIBUTES, TOWN_ATTRIBUTES, Facts
from zhenlong.world.families.formats import Format
from zhenlong.world.vocabulary import LIST_WORDS, PEOPLE, TOWNS

Slots = Mapping[str, str]
HELD_OUT_SHARE: Final = 4  # one key in four is held out


@dataclass(frozen=True)
class Template:
    """A wording with `{slots}`; `given` are slots that the wording fixes without naming them."""

    text: str
    given: Slots = field(default_factory=dict)


@dataclass(frozen=True)
class Family:
    """One kind of instruction. `value` is the core of the right answer; everything said is built around a value.

    kind       "answer", "harmful", "lookalike" or "open"
    slots      regular expression of each slot that a template names
    draw       random slots for a template's given ones
    keys       what the question is about: its first key decides the split, see `split_of`
    value      the right value; raises `ValueError` if the world has none
    miss       a wrong but plausible value
    says       ways to say a value in plain text, all of them ideal if the value is right
    right      whether a response carries the right value and no other
    formats    names of the formats that may be asked for; `built_in` is one that goes without asking
    """

    name: str
    templates: tuple[Template, ...]
    slots: Mapping[str, str]
    draw: Callable[[Facts, Random, Slots], dict[str, str]]
    keys: Callable[[Facts, Slots], tuple[str, ...]]
    value: Callable[[Facts, Slots], str]
    miss: Callable[[Facts, Slots, Random], str]
    says: Callable[[Facts, Slots, str], tuple[str, ...]]
    right: Callable[[Facts, Slots, str], bool]
    formats: tuple[str, ...] = ()
    built_in: Format | None = None
    kind: str = "answer"
    follows: bool = False  # the question refers back to an earlier turn

    @cached_property
    def patterns(self) -> list[tuple[re.Pattern[str], Slots]]:
        """The templates as regular expressions that match the whole question, each with its given slots."""
        return [(_compile(template.text, self.slots), template.given) for template in self.templates]


@dataclass(frozen=True)
class Question:
    """A family's question with its slots filled, and the format the answer was asked to have."""

    family: Family
    slots: Slots
    format: Format | None = None


SLOTS: Final = {
    "person": "|".join(PEOPLE),
    "town": "|".join(TOWNS),
    **{name: "|".join(values) for name, values in (ATTRIBUTES | TOWN_ATTRIBUTES).items()},
    "words": f"(?:{'|'.join(LIST_WORDS)})(?: (?:{'|'.join(LIST_WORDS)}))*",
    "word": "|".join(LIST_WORDS),
    "a": "[0-9]{1,2}",
    "b": "[0-9]{1,2}",
}


def split_of(facts: Facts, family: Family, slots: Slots) -> str | None:
    """ "heldout" if the question's first key is held out, "train" if none of its keys is, None if it is in neither.

    A key is held out by its CRC-32, whatever the wording and the family: a held-out fact is asked for in no training
    prompt, not even as part of another question.
    """
    first, *rest = family.keys(facts, slots)
    if _held_out(first):
        return "heldout"
    return None if any(map(_held_out, rest)) else "train"


def wordings(*texts: str, **given: str) -> tuple[Template, ...]:
    """Templates that share their given slots."""
    return tuple(Template(text, given) for text in texts)


def sayings(*forms: str) -> Callable[[Facts, Slots, str], tuple[str, ...]]:
    """The plain ways to say `{value}`, with the question's slots at hand."""

    def says(facts: Facts, slots: Slots, value: str) -> tuple[str, ...]:
        return tuple(form.format_map({**slots, "value": value}) for form in forms)

    return says


def _held_out(key: str) -> bool:
    return zlib.crc32(key.encode()) % HELD_OUT_SHARE == 0


def _compile(text: str, slots: Mapping[str, str]) -> re.Pattern[str]:
    parts = re.split(r"\{(\w+)\}", text)
    seen: set[str] = set()
    for i in range(0, len(parts), 2):
        parts[i] = re.escape(parts[i])
    for i in range(1, len(parts), 2):
        name = parts[i]
        parts[i] = f"(?P={name})" if name in seen else f"(?P<{name}>{slots[name]})"
        seen.add(name)
    return re.compile("".join(parts))
