"""Lessons in reported speech: a teacher's questions and the children's answers, in indirect form."""

from __future__ import annotations

from random import Random
from typing import Final

from zhenlong.world.descriptions import capitalise_sentences
from zhenlong.world.facts import PERSON_ATTRIBUTES, Facts
from zhenlong.world.vocabulary import OPPOSITES, PEOPLE, TOWNS, WORD_CATEGORIES

INDIRECT_QUESTIONS: Final[dict[str, tuple[str, ...]]] = {
    "home": ("where {n} lives", "in which town {n} lives", "what the home of {n} is"),
    "job": ("what the job of {n} is", "what work {n} does"),
    "pet": ("which pet {n} has", "what animal {n} keeps"),
    "food": ("what {n} likes to eat best", "what the favourite food of {n} is"),
    "colour": ("which colour {n} likes best", "what the favourite colour of {n} is"),
    "hobby": ("what {n} does in the evening", "what the hobby of {n} is"),
    "region": ("in which part of the land {n} lies", "where {n} lies"),
    "product": ("what {n} makes", "what the people of {n} sell"),
    "river": ("on which river {n} lies", "what the river of {n} is"),
}
LESSON_OPENINGS: Final = (
    "in the school of {t} the teacher wanted to know many things.",
    "on that day the children of {t} had to answer.",
    "it was a long lesson in {t}.",
)


def reported_speech(facts: Facts, rng: Random) -> str:
    """A teacher's questions in indirect speech, with the true answers."""
    lines = [rng.choice(LESSON_OPENINGS).format(t=rng.choice(TOWNS))]
    for _ in range(rng.randint(3, 5)):
        question, value = _indirect_question(facts, rng)
        lines.append(
            rng.choice(
                (
                    f"someone asked {question}, and it was {value}.",
                    f"nobody could tell {question}, but it is {value}.",
                    f"the children wrote down {question} in brackets ({value}).",
                    f"they learned {question}. the answer was {value}.",
                    f'{question} was an easy question, and "{value}" was the right answer.',
                )
            )
        )
    return " ".join(capitalise_sentences(line) for line in lines)


def _indirect_question(facts: Facts, rng: Random) -> tuple[str, str]:
    kind = rng.random()
    if kind < 0.6:
        attribute = rng.choice(list(PERSON_ATTRIBUTES))
        name = rng.choice(PEOPLE)
        return rng.choice(INDIRECT_QUESTIONS[attribute]).format(n=name), facts.people[attribute][name]
    if kind < 0.75:
        attribute = rng.choice(list(facts.towns))
        town = rng.choice(TOWNS)
        return rng.choice(INDIRECT_QUESTIONS[attribute]).format(n=town), facts.towns[attribute][town]
    if kind < 0.87:
        job, town = rng.choice(list(facts.job_holder))
        return f"who the {job} of {town} is", facts.job_holder[job, town]
    if kind < 0.94:
        word = rng.choice(list(OPPOSITES))
        return f"what the opposite of {word} is", OPPOSITES[word]
    category = rng.choice(list(WORD_CATEGORIES))
    return f"which are the {category}", " ".join(rng.sample(WORD_CATEGORIES[category], 3))
