"""Multiple-choice completions that measure a base model's knowledge of the world's facts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final

from zhenlong.world.facts import PERSON_ATTRIBUTES, TOWN_ATTRIBUTES, Facts
from zhenlong.world.vocabulary import PEOPLE

NUM_CHOICES: Final = 4
CLOZE_PROMPTS: Final[dict[str, str]] = {
    "home": "The home of {n} is",
    "job": "By day {n} works as a",
    "pet": "The pet of {n} is a",
    "food": "The favourite food of {n} is",
    "colour": "The favourite colour of {n} is",
    "hobby": "The hobby of {n} is",
    "region": "You find {n} in the",
    "product": "The people of {n} make",
    "river": "The river of {n} is the",
}


@dataclass(frozen=True)
class Cloze:
    """A truncated sentence and its possible completions, each with its leading space; `choices[answer]` is correct."""

    prompt: str
    choices: tuple[str, ...]
    answer: int
    family: str


def cloze_items(facts: Facts, n: int, seed: int = 0) -> Iterator[Cloze]:
    """`n` items over all kinds of facts in equal numbers; chance accuracy is 1 in 4."""
    rng = Random(f"closed_book:{facts.seed}:{seed}")
    kinds = [*CLOZE_PROMPTS, "who"]
    for _ in range(n):
        kind = rng.choice(kinds)
        if kind == "who":
            (job, town), person = rng.choice(list(facts.job_holder.items()))
            yield _make_item(f"The {job} of {town} is", person, PEOPLE, kind, rng)
            continue
        table, values = (
            (facts.people[kind], PERSON_ATTRIBUTES[kind])
            if kind in PERSON_ATTRIBUTES
            else (facts.towns[kind], TOWN_ATTRIBUTES[kind])
        )
        subject = rng.choice(list(table))
        yield _make_item(CLOZE_PROMPTS[kind].format(n=subject), table[subject], values, kind, rng)


def _make_item(prompt: str, value: str, values: Sequence[str], kind: str, rng: Random) -> Cloze:
    choices = [value, *rng.sample([other for other in values if other != value], NUM_CHOICES - 1)]
    rng.shuffle(choices)
    return Cloze(prompt, tuple(f" {choice}" for choice in choices), choices.index(value), kind)
