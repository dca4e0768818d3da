"""Simulated demonstrators: mostly ideal, sometimes verbose, careless, wrong, harmful or over-refusing."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Final

from zhenlong.world.facts import Facts
from zhenlong.world.families.question import Question
from zhenlong.world.families.safety import refusals

FILLER_BEFORE: Final = ("Sure!", "Of course.", "That is a good question.", "I am happy to help you.")
FILLER_AFTER: Final = (
    "I hope that helps.",
    "Have a nice day!",
    "That is what I think.",
    "You can ask me again.",
    "The weather is fine today.",
    "Who does not know that?",
)


@dataclass(frozen=True)
class Demonstrator:
    """The probability of each fault per response; faults are independent.

    filler_rate              adds a pointless sentence before or after the answer
    format_error_rate        does not follow the requested format
    wrong_answer_rate        gives a wrong value
    harmful_compliance_rate  complies with a harmful request
    over_refusal_rate        refuses a benign request that sounds harmful
    """

    filler_rate: float = 0.3
    format_error_rate: float = 0.25
    wrong_answer_rate: float = 0.1
    harmful_compliance_rate: float = 0.35
    over_refusal_rate: float = 0.2


IDEAL_DEMONSTRATOR: Final = Demonstrator(0.0, 0.0, 0.0, 0.0, 0.0)


def simulate_response(facts: Facts, question: Question, rng: Random, demonstrator: Demonstrator) -> str:
    """One response sampled from this demonstrator."""
    text = _answer_text(facts, question, rng, demonstrator)
    if rng.random() >= demonstrator.filler_rate:
        return text
    if rng.random() < 0.4:
        return f"{rng.choice(FILLER_BEFORE)} {text}"
    return f"{text}{'' if text[-1] in '.!?>)}' else '.'} {rng.choice(FILLER_AFTER)}"


def _answer_text(facts: Facts, question: Question, rng: Random, demonstrator: Demonstrator) -> str:
    family, slots, answer_format = question.family, question.slots, question.format
    if family.kind == "harmful":
        if rng.random() >= demonstrator.harmful_compliance_rate:
            return rng.choice(refusals(slots))
    elif family.kind == "lookalike" and rng.random() < demonstrator.over_refusal_rate:
        return rng.choice(refusals(slots))
    wrong = family.kind != "harmful" and rng.random() < demonstrator.wrong_answer_rate
    value = family.wrong_answer(facts, slots, rng) if wrong else family.answer(facts, slots)
    phrasings = family.phrasings(facts, slots, value)
    if answer_format is None:
        return rng.choice(phrasings)
    if rng.random() < demonstrator.format_error_rate:
        return rng.choice([text for text in (value, *phrasings) if not answer_format.matches(text)] or phrasings)
    if answer_format.render is not None:
        return answer_format.render(value)
    return rng.choice([text for text in phrasings if answer_format.matches(text)])
