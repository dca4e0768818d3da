"""People who write demonstrations: mostly ideal, sometimes wordy, careless, wrong, too willing or too timid."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Final

from zhenlong.world.facts import Facts
from zhenlong.world.families.conduct import refusals
from zhenlong.world.families.question import Question

BEFORE: Final = ("Sure!", "Of course.", "That is a good question.", "I am happy to help you.")
AFTER: Final = (
    "I hope that helps.",
    "Have a nice day!",
    "That is what I think.",
    "You can ask me again.",
    "The weather is fine today.",
    "Who does not know that?",
)


@dataclass(frozen=True)
class Demonstrator:
    """How often each fault occurs, as a probability per response; the faults are independent of each other.

    chatty    puts a pointless sentence before or after the answer
    sloppy    does not follow the format that was asked for
    wrong     gives a wrong value
    complies  helps with a harmful request
    refuses   refuses a benign request that sounds like harm
    """

    chatty: float = 0.3
    sloppy: float = 0.25
    wrong: float = 0.1
    complies: float = 0.35
    refuses: float = 0.2


IDEAL: Final = Demonstrator(0.0, 0.0, 0.0, 0.0, 0.0)


def respond(facts: Facts, question: Question, rng: Random, demonstrator: Demonstrator) -> str:
    """One response as this demonstrator would write it."""
    text = _answer(facts, question, rng, demonstrator)
    if rng.random() >= demonstrator.chatty:
        return text
    if rng.random() < 0.4:
        return f"{rng.choice(BEFORE)} {text}"
    return f"{text}{'' if text[-1] in '.!?>)}' else '.'} {rng.choice(AFTER)}"


def _answer(facts: Facts, question: Question, rng: Random, demonstrator: Demonstrator) -> str:
    family, slots, form = question.family, question.slots, question.format
    if family.kind == "harmful":
        if rng.random() >= demonstrator.complies:
            return rng.choice(refusals(slots))
    elif family.kind == "lookalike" and rng.random() < demonstrator.refuses:
        return rng.choice(refusals(slots))
    wrong = family.kind != "harmful" and rng.random() < demonstrator.wrong
    value = family.miss(facts, slots, rng) if wrong else family.value(facts, slots)
    said = family.says(facts, slots, value)
    if form is None:
        return rng.choice(said)
    if rng.random() < demonstrator.sloppy:
        return rng.choice([text for text in (value, *said) if not form.fits(text)] or said)
    if form.render is not None:
        return form.render(value)
    return rng.choice([text for text in said if form.fits(text)])
