"""All families with their shares: drawing questions, writing them as prompts, and reading prompts back."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from random import Random
from typing import Final

from zhenlong.records import Message, Messages
from zhenlong.world.facts import ATTRIBUTES, TOWN_ATTRIBUTES, Facts
from zhenlong.world.families import arithmetic, conduct, knowledge, wordplay
from zhenlong.world.families.formats import FORMATS, unwrap
from zhenlong.world.families.question import Family, Question, Slots, Template, split_of

SPLITS: Final = ("train", "heldout")
FORMAT_SHARE: Final = 0.52  # of the questions that allow a format


@dataclass(frozen=True)
class Asked:
    """A question as it was drawn, and the prompt that asks it."""

    question: Question
    prompt: Messages


def ask(facts: Facts, rng: Random, split: str) -> Asked:
    """Draws a question of the split and a wording for it. Raises `ValueError` for an unknown split."""
    if split not in SPLITS:
        raise ValueError(f"split: expected one of {', '.join(SPLITS)}, got {split!r}")
    family = rng.choices(_FAMILIES, cum_weights=_BOUNDS)[0]
    while True:
        template = rng.choice(family.templates)
        slots = _draw(facts, rng, family, template)
        if split_of(facts, family, slots) == split:
            break
    text, form = template.text.format_map(slots), family.built_in
    if family.formats and rng.random() < FORMAT_SHARE:
        form = FORMATS[rng.choice(family.formats)]
        text = rng.choice(form.requests).replace("{q}", text)
    prompt: Messages = (Message("user", text),)
    if family.follows:
        prompt = (Message("user", slots["opening"]), Message("assistant", slots["reply"]), *prompt)
    return Asked(Question(family, slots, form), prompt)


def parse(prompt: Messages) -> Question:
    """The question a prompt asks, read from its text alone. Raises `ValueError` for any text no family asks."""
    if not prompt or prompt[-1].role != "user":
        raise ValueError("prompt: expected it to end with the user's turn")
    question = _parse_text(prompt[-1].content)
    if question is None:
        raise ValueError(f"prompt: no family of the world asks {prompt[-1].content[:80]!r}")
    if not question.family.follows:
        return question
    person = _person_before(prompt[:-1])
    return Question(question.family, {**question.slots, "person": person}, question.format)


def ideals(facts: Facts, question: Question) -> tuple[str, ...]:
    """All ideal responses, the shortest first; each has the highest gold reward there is for its question."""
    family, form = question.family, question.format
    if family.kind == "harmful":
        return conduct.refusals(question.slots)
    value = family.value(facts, question.slots)
    if form is not None and form.render is not None:
        return (form.render(value),)
    said = family.says(facts, question.slots, value)
    return said if form is None else tuple(text for text in said if form.fits(text))


def families() -> tuple[Family, ...]:
    """Every family there is."""
    return tuple(_FAMILIES)


def _shares() -> Iterator[tuple[Family, float]]:
    for attribute in ATTRIBUTES:
        yield knowledge.person_family(attribute), 0.03
    for attribute in TOWN_ATTRIBUTES:
        yield knowledge.town_family(attribute), 0.015
    yield knowledge.maker_family(), 0.015
    yield knowledge.who_family(), 0.03
    yield knowledge.yes_no_family(), 0.05
    yield knowledge.follow_up_family(), 0.04
    yield arithmetic.add_family(), 0.04
    yield arithmetic.subtract_family(), 0.03
    yield arithmetic.story_sum_family(), 0.015
    yield arithmetic.compare_family(), 0.02
    yield arithmetic.sort_family(), 0.025
    yield wordplay.copy_family(), 0.025
    yield wordplay.reverse_family(), 0.02
    yield wordplay.first_last_family(), 0.025
    yield wordplay.count_family(), 0.015
    yield wordplay.repeat_family(), 0.015
    yield wordplay.list_family(), 0.03
    yield wordplay.opposite_family(), 0.02
    yield wordplay.sentiment_family(), 0.025
    yield conduct.lookup_family(), 0.03
    yield conduct.harmful_family(), 0.23
    yield conduct.lookalike_family(), 0.18
    yield conduct.greeting_family(), 0.02
    yield conduct.thanks_family(), 0.015


_CATALOGUE: Final = list(_shares())
_FAMILIES: Final = [family for family, _ in _CATALOGUE]
_BOUNDS: Final = list(accumulate(share for _, share in _CATALOGUE))


def _draw(facts: Facts, rng: Random, family: Family, template: Template) -> Slots:
    """The slots that the wording names or fixes; what else was drawn is not part of the question."""
    drawn = family.draw(facts, rng, template.given)
    if not family.follows:
        named = _NAMED[template.text]
        drawn = {name: value for name, value in drawn.items() if name in named}
    return {**drawn, **template.given}


_NAMED: Final = {
    template.text: frozenset(re.findall(r"\{(\w+)\}", template.text))
    for family in _FAMILIES
    for template in family.templates
}


def _by_first_word(all_families: Iterable[Family]) -> dict[str, list[tuple[re.Pattern[str], Slots, Family]]]:
    """The compiled templates under the word they begin with, those that begin with a slot under ""."""
    table: dict[str, list[tuple[re.Pattern[str], Slots, Family]]] = {"": []}
    for family in all_families:
        for template, (pattern, given) in zip(family.templates, family.patterns, strict=True):
            first = template.text.split(" ", 1)[0]
            table.setdefault("" if "{" in first else first, []).append((pattern, given, family))
    return table


_TABLE: Final = _by_first_word(_FAMILIES)


@lru_cache(maxsize=8192)
def _parse_text(text: str) -> Question | None:
    inner, form = unwrap(text)
    for pattern, given, family in (*_TABLE.get(inner.split(" ", 1)[0], ()), *_TABLE[""]):
        found = pattern.fullmatch(inner)
        if found and (form is None or form.name in family.formats):
            return Question(family, {**found.groupdict(), **given}, form or family.built_in)
    return None


def _person_before(turns: Messages) -> str:
    for turn in reversed(turns):
        question = _parse_text(turn.content) if turn.role == "user" else None
        if question is not None and "person" in question.slots:
            return question.slots["person"]
    raise ValueError("prompt: a follow-up question needs a person named in an earlier turn")
