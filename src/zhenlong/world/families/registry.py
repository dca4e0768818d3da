"""All families with their sampling weights: sampling questions, rendering them as prompts, and parsing prompts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from random import Random
from typing import Final

from zhenlong.records import Message, Messages
from zhenlong.world.facts import PERSON_ATTRIBUTES, TOWN_ATTRIBUTES, Facts
from zhenlong.world.families import arithmetic, knowledge, safety, word_tasks
from zhenlong.world.families.answer_formats import FORMAT_CONSTRAINTS, strip_format_instruction
from zhenlong.world.families.question import Family, Question, QuestionTemplate, Slots, split_of

SPLITS: Final = ("train", "heldout")
FORMAT_FRACTION: Final = 0.52  # fraction of questions with a requested format, where one is allowed


@dataclass(frozen=True)
class SampledQuestion:
    """A sampled question, and its prompt."""

    question: Question
    prompt: Messages


def sample_question(facts: Facts, rng: Random, split: str) -> SampledQuestion:
    """Sample a question of the split, and a wording for it. Raises `ValueError` for an unknown split."""
    if split not in SPLITS:
        raise ValueError(f"split: expected one of {', '.join(SPLITS)}, got {split!r}")
    family = rng.choices(_FAMILIES, cum_weights=_CUMULATIVE_WEIGHTS)[0]
    while True:
        template = rng.choice(family.templates)
        slots = _sample_slots(facts, rng, family, template)
        if split_of(facts, family, slots) == split:
            break
    text, answer_format = template.text.format_map(slots), family.implicit_format
    if family.formats and rng.random() < FORMAT_FRACTION:
        answer_format = FORMAT_CONSTRAINTS[rng.choice(family.formats)]
        text = rng.choice(answer_format.instructions).replace("{q}", text)
    prompt: Messages = (Message("user", text),)
    if family.is_follow_up:
        prompt = (Message("user", slots["opening"]), Message("assistant", slots["reply"]), *prompt)
    return SampledQuestion(Question(family, slots, answer_format), prompt)


def parse_question(prompt: Messages) -> Question:
    """Parse a prompt's question from its text alone. Raises `ValueError` for text that no family asks."""
    if not prompt or prompt[-1].role != "user":
        raise ValueError("prompt: expected it to end with the user's turn")
    question = _parse_text(prompt[-1].content)
    if question is None:
        raise ValueError(f"prompt: no family of the world asks {prompt[-1].content[:80]!r}")
    if not question.family.is_follow_up:
        return question
    person = _person_before(prompt[:-1])
    return Question(question.family, {**question.slots, "person": person}, question.format)


def ideal_responses(facts: Facts, question: Question) -> tuple[str, ...]:
    """All ideal responses, the shortest first; each has the maximum gold reward for its question."""
    family, answer_format = question.family, question.format
    if family.kind == "harmful":
        return safety.refusals(question.slots)
    answer = family.answer(facts, question.slots)
    if answer_format is not None and answer_format.render is not None:
        return (answer_format.render(answer),)
    phrasings = family.phrasings(facts, question.slots, answer)
    return phrasings if answer_format is None else tuple(text for text in phrasings if answer_format.matches(text))


def instruction_families() -> tuple[Family, ...]:
    """All families."""
    return tuple(_FAMILIES)


def _weighted_families() -> Iterator[tuple[Family, float]]:
    for attribute in PERSON_ATTRIBUTES:
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
    yield word_tasks.copy_family(), 0.025
    yield word_tasks.reverse_family(), 0.02
    yield word_tasks.first_last_family(), 0.025
    yield word_tasks.count_family(), 0.015
    yield word_tasks.repeat_family(), 0.015
    yield word_tasks.list_family(), 0.03
    yield word_tasks.opposite_family(), 0.02
    yield word_tasks.sentiment_family(), 0.025
    yield safety.lookup_family(), 0.03
    yield safety.harmful_family(), 0.23
    yield safety.lookalike_family(), 0.18
    yield safety.greeting_family(), 0.02
    yield safety.thanks_family(), 0.015


_WEIGHTED_FAMILIES: Final = list(_weighted_families())
_FAMILIES: Final = [family for family, _ in _WEIGHTED_FAMILIES]
_CUMULATIVE_WEIGHTS: Final = list(accumulate(share for _, share in _WEIGHTED_FAMILIES))


def _sample_slots(facts: Facts, rng: Random, family: Family, template: QuestionTemplate) -> Slots:
    """The slots that the wording contains or implies; other sampled slots are not part of the question."""
    drawn = family.sample_slots(facts, rng, template.fixed_slots)
    if not family.is_follow_up:
        named = _NAMED_SLOTS[template.text]
        drawn = {name: value for name, value in drawn.items() if name in named}
    return {**drawn, **template.fixed_slots}


_NAMED_SLOTS: Final = {
    template.text: frozenset(re.findall(r"\{(\w+)\}", template.text))
    for family in _FAMILIES
    for template in family.templates
}


def _patterns_by_first_word(all_families: Iterable[Family]) -> dict[str, list[tuple[re.Pattern[str], Slots, Family]]]:
    """The compiled templates by their first word; those that start with a slot under ""."""
    table: dict[str, list[tuple[re.Pattern[str], Slots, Family]]] = {"": []}
    for family in all_families:
        for template, (pattern, given) in zip(family.templates, family.patterns, strict=True):
            first = template.text.split(" ", 1)[0]
            table.setdefault("" if "{" in first else first, []).append((pattern, given, family))
    return table


_PATTERNS_BY_FIRST_WORD: Final = _patterns_by_first_word(_FAMILIES)


@lru_cache(maxsize=8192)
def _parse_text(text: str) -> Question | None:
    inner, form = strip_format_instruction(text)
    for pattern, given, family in (
        *_PATTERNS_BY_FIRST_WORD.get(inner.split(" ", 1)[0], ()),
        *_PATTERNS_BY_FIRST_WORD[""],
    ):
        found = pattern.fullmatch(inner)
        if found and (form is None or form.name in family.formats):
            return Question(family, {**found.groupdict(), **given}, form or family.implicit_format)
    return None


def _person_before(turns: Messages) -> str:
    for turn in reversed(turns):
        question = _parse_text(turn.content) if turn.role == "user" else None
        if question is not None and "person" in question.slots:
            return question.slots["person"]
    raise ValueError("prompt: a follow-up question needs a person named in an earlier turn")
