"""Questions about facts: people, towns, who has which job where, yes or no, and follow-ups with a pronoun."""

from __future__ import annotations

from random import Random
from typing import Final

from zhenlong.world.facts import PERSON_ATTRIBUTES, TOWN_ATTRIBUTES, Facts, is_man
from zhenlong.world.families.question import (
    SLOT_PATTERNS,
    Family,
    QuestionTemplate,
    Slots,
    answer_phrasings,
    question_templates,
)
from zhenlong.world.families.response_checks import YES_NO_PATTERN, find_mentions, mentions_only, word_pattern
from zhenlong.world.vocabulary import PEOPLE, PRODUCTS, TOWNS

SINGLE_VALUE_FORMATS: Final = ("one_word", "brackets", "json", "sentence")

PERSON_QUESTIONS: Final[dict[str, tuple[str, ...]]] = {
    "home": (
        "Where does {person} live?",
        "In which town does {person} live?",
        "Tell me the home of {person}.",
        "Which town is the home of {person}?",
        "Name the town where {person} lives.",
    ),
    "job": (
        "What is the job of {person}?",
        "What work does {person} do?",
        "Tell me the job of {person}.",
        "What does {person} work as?",
    ),
    "pet": (
        "What pet does {person} have?",
        "Which animal does {person} keep?",
        "Tell me the pet of {person}.",
        "Which animal lives with {person}?",
    ),
    "food": (
        "What is the favourite food of {person}?",
        "What does {person} like to eat best?",
        "Tell me the favourite food of {person}.",
        "Which food does {person} like best?",
    ),
    "colour": (
        "What is the favourite colour of {person}?",
        "Which colour does {person} like best?",
        "Tell me the favourite colour of {person}.",
        "What colour does {person} wear every day?",
    ),
    "hobby": (
        "What is the hobby of {person}?",
        "What does {person} enjoy in the evening?",
        "Tell me the hobby of {person}.",
        "What is {person} good at?",
    ),
}
PERSON_ANSWERS: Final[dict[str, tuple[str, ...]]] = {
    "home": ("{value}.", "{person} lives in {value}.", "The home of {person} is {value}."),
    "job": ("A {value}.", "{person} is a {value}.", "{person} works as a {value}."),
    "pet": ("A {value}.", "{person} has a {value}.", "The pet of {person} is a {value}."),
    "food": ("It is {value}.", "{person} likes {value} best.", "The favourite food of {person} is {value}."),
    "colour": ("It is {value}.", "{person} likes {value} best.", "The favourite colour of {person} is {value}."),
    "hobby": ("It is {value}.", "{person} loves {value}.", "The hobby of {person} is {value}."),
}
TOWN_QUESTIONS: Final[dict[str, tuple[str, ...]]] = {
    "region": (
        "In which part of the land is {town}?",
        "Where does {town} lie?",
        "Does {town} lie in the north, south, east or west?",
        "Which way does the road to {town} go?",
    ),
    "product": (
        "What does {town} make?",
        "What is {town} known for?",
        "What do the people of {town} sell?",
        "Name the thing that {town} makes.",
    ),
    "river": (
        "On which river does {town} lie?",
        "What is the river of {town}?",
        "Name the river of {town}.",
        "Which river runs through {town}?",
    ),
}
TOWN_ANSWERS: Final[dict[str, tuple[str, ...]]] = {
    "region": ("In the {value}.", "{town} lies in the {value}.", "{town} is a town in the {value}."),
    "product": ("It is {value}.", "{town} makes {value}.", "{town} is known for {value}."),
    "river": ("The {value}.", "{town} lies on the {value}.", "The river of {town} is the {value}."),
}
YES_NO_QUESTIONS: Final[dict[str, tuple[str, ...]]] = {
    "home": ("Does {person} live in {home}?", "Is {home} the home of {person}?"),
    "job": ("Is {person} a {job}?", "Does {person} work as a {job}?"),
    "pet": ("Does {person} have a {pet}?", "Is the pet of {person} a {pet}?"),
    "food": ("Is {food} the favourite food of {person}?",),
    "colour": ("Is {colour} the favourite colour of {person}?",),
    "hobby": ("Does {person} love {hobby}?", "Is {hobby} the hobby of {person}?"),
}
FOLLOW_UP_QUESTIONS: Final[dict[str, tuple[str, ...]]] = {
    "home": ("And where does {pronoun} live?", "Which town is {possessive} home?"),
    "job": ("And what is {possessive} job?", "What work does {pronoun} do?"),
    "pet": ("And what pet does {pronoun} have?", "Which animal does {pronoun} keep?"),
    "food": ("And what is {possessive} favourite food?", "What does {pronoun} like to eat best?"),
    "colour": ("And which colour does {pronoun} like best?", "What is {possessive} favourite colour?"),
    "hobby": ("And what is {possessive} hobby?", "What does {pronoun} enjoy in the evening?"),
}
_VALUE_PATTERNS: Final = {name: word_pattern(values) for name, values in (PERSON_ATTRIBUTES | TOWN_ATTRIBUTES).items()}
_NAME_PATTERN: Final = word_pattern(PEOPLE)


def person_family(attribute: str) -> Family:
    """Asks for one attribute of a person."""
    return Family(
        attribute,
        question_templates(*PERSON_QUESTIONS[attribute], attribute=attribute),
        SLOT_PATTERNS,
        sample_slots=lambda facts, rng, given: {"person": rng.choice(PEOPLE)},
        split_keys=lambda facts, slots: (_person_key(attribute, slots["person"]),),
        answer=lambda facts, slots: facts.people[attribute][slots["person"]],
        wrong_answer=lambda facts, slots, rng: _other_value(
            PERSON_ATTRIBUTES[attribute], facts.people[attribute][slots["person"]], rng
        ),
        phrasings=answer_phrasings(*PERSON_ANSWERS[attribute]),
        is_correct=lambda facts, slots, text: mentions_only(
            _VALUE_PATTERNS[attribute], text, facts.people[attribute][slots["person"]]
        ),
        formats=SINGLE_VALUE_FORMATS,
    )


def town_family(attribute: str) -> Family:
    """Asks for one attribute of a town."""
    return Family(
        attribute,
        question_templates(*TOWN_QUESTIONS[attribute]),
        SLOT_PATTERNS,
        sample_slots=lambda facts, rng, given: {"town": rng.choice(TOWNS)},
        split_keys=lambda facts, slots: (f"town:{attribute}:{slots['town']}",),
        answer=lambda facts, slots: facts.towns[attribute][slots["town"]],
        wrong_answer=lambda facts, slots, rng: _other_value(
            TOWN_ATTRIBUTES[attribute], facts.towns[attribute][slots["town"]], rng
        ),
        phrasings=answer_phrasings(*TOWN_ANSWERS[attribute]),
        is_correct=lambda facts, slots, text: mentions_only(
            _VALUE_PATTERNS[attribute], text, facts.towns[attribute][slots["town"]]
        ),
        formats=SINGLE_VALUE_FORMATS,
    )


def maker_family() -> Family:
    """Asks which town makes a product."""
    return Family(
        "maker",
        question_templates(
            "Which town makes {product}?",
            "Where does the best {product} come from?",
            "Name the town that makes {product}.",
            "Which town is known for {product}?",
        ),
        SLOT_PATTERNS,
        sample_slots=lambda facts, rng, given: {"product": rng.choice(PRODUCTS)},
        split_keys=lambda facts, slots: (f"town:product:{facts.product_town[slots['product']]}",),
        answer=lambda facts, slots: facts.product_town[slots["product"]],
        wrong_answer=lambda facts, slots, rng: _other_value(TOWNS, facts.product_town[slots["product"]], rng),
        phrasings=answer_phrasings("{value}.", "{value} makes {product}.", "The best {product} comes from {value}."),
        is_correct=lambda facts, slots, text: mentions_only(
            _VALUE_PATTERNS["home"], text, facts.product_town[slots["product"]]
        ),
        formats=SINGLE_VALUE_FORMATS,
    )


def who_family() -> Family:
    """Asks who has a job in a town."""

    def holder(facts: Facts, slots: Slots) -> str:
        job, town = slots["job"], slots["home"]
        if (job, town) not in facts.job_holder:
            raise ValueError(f"nobody is the {job} of {town}")
        return facts.job_holder[job, town]

    def sample_slots(facts: Facts, rng: Random, given: Slots) -> dict[str, str]:
        person = rng.choice(PEOPLE)
        return {"job": facts.people["job"][person], "home": facts.people["home"][person]}

    def split_keys(facts: Facts, slots: Slots) -> tuple[str, ...]:
        person = holder(facts, slots)
        return f"who:{person}", _person_key("job", person), _person_key("home", person)

    return Family(
        "who",
        question_templates(
            "Who is the {job} of {home}?",
            "Who works as a {job} in {home}?",
            "Tell me the name of the {job} in {home}.",
            "Name the {job} of {home}.",
        ),
        SLOT_PATTERNS,
        sample_slots=sample_slots,
        split_keys=split_keys,
        answer=holder,
        wrong_answer=lambda facts, slots, rng: _other_value(PEOPLE, holder(facts, slots), rng),
        phrasings=answer_phrasings("{value}.", "The {job} of {home} is {value}.", "{value} is the {job} of {home}."),
        is_correct=lambda facts, slots, text: mentions_only(_NAME_PATTERN, text, holder(facts, slots)),
        formats=SINGLE_VALUE_FORMATS,
    )


def yes_no_family() -> Family:
    """Asks whether a statement is true; half of them are true."""

    def true_value(facts: Facts, slots: Slots) -> str:
        return facts.people[slots["attribute"]][slots["person"]]

    def answer(facts: Facts, slots: Slots) -> str:
        return "yes" if slots[slots["attribute"]] == true_value(facts, slots) else "no"

    def sample_slots(facts: Facts, rng: Random, given: Slots) -> dict[str, str]:
        attribute, person = given["attribute"], rng.choice(PEOPLE)
        true = facts.people[attribute][person]
        claim = true if rng.random() < 0.5 else _other_value(PERSON_ATTRIBUTES[attribute], true, rng)
        return {"person": person, attribute: claim}

    def phrasings(facts: Facts, slots: Slots, said: str) -> tuple[str, ...]:
        if said == "no":
            plain: tuple[str, ...] = ("No.", "No, that is not true.")
        else:
            plain = ("Yes.", "Yes, that is true.")
        if said != answer(facts, slots):
            return plain
        form = PERSON_ANSWERS[slots["attribute"]][1]
        return *plain, f"{plain[0][:-1]}, {form.format(person=slots['person'], value=true_value(facts, slots))}"

    def is_correct(facts: Facts, slots: Slots, text: str) -> bool:
        named = set(find_mentions(_VALUE_PATTERNS[slots["attribute"]], text))
        return mentions_only(YES_NO_PATTERN, text, answer(facts, slots)) and named <= {true_value(facts, slots).lower()}

    return Family(
        "yes_no",
        tuple(
            QuestionTemplate(text, {"attribute": name}) for name, texts in YES_NO_QUESTIONS.items() for text in texts
        ),
        SLOT_PATTERNS,
        sample_slots=sample_slots,
        split_keys=lambda facts, slots: (_person_key(slots["attribute"], slots["person"]),),
        answer=answer,
        wrong_answer=lambda facts, slots, rng: "no" if answer(facts, slots) == "yes" else "yes",
        phrasings=phrasings,
        is_correct=is_correct,
        formats=SINGLE_VALUE_FORMATS,
    )


def follow_up_family() -> Family:
    """Asks for a second fact about the person of the first turn, using a pronoun."""

    def sample_slots(facts: Facts, rng: Random, given: Slots) -> dict[str, str]:
        person = rng.choice(PEOPLE)
        first = rng.choice([attribute for attribute in PERSON_ATTRIBUTES if attribute != given["attribute"]])
        he, his = ("he", "his") if is_man(person) else ("she", "her")
        opening = rng.choice(PERSON_QUESTIONS[first]).format(person=person)
        reply = PERSON_ANSWERS[first][1].format(person=person, value=facts.people[first][person])
        return {
            "person": person,
            "pronoun": he,
            "possessive": his,
            "first": first,
            "opening": opening,
            "reply": reply,
        }

    return Family(
        "follow_up",
        tuple(
            QuestionTemplate(text, {"attribute": name}) for name, texts in FOLLOW_UP_QUESTIONS.items() for text in texts
        ),
        {"pronoun": "she|he", "possessive": "her|his"},
        sample_slots=sample_slots,
        split_keys=lambda facts, slots: tuple(_person_key(slots[at], slots["person"]) for at in ("attribute", "first")),
        answer=lambda facts, slots: facts.people[slots["attribute"]][slots["person"]],
        wrong_answer=lambda facts, slots, rng: _other_value(
            PERSON_ATTRIBUTES[slots["attribute"]], facts.people[slots["attribute"]][slots["person"]], rng
        ),
        phrasings=lambda facts, slots, value: tuple(
            form.format(person=slots["person"], value=value) for form in PERSON_ANSWERS[slots["attribute"]]
        ),
        is_correct=lambda facts, slots, text: mentions_only(
            _VALUE_PATTERNS[slots["attribute"]], text, facts.people[slots["attribute"]][slots["person"]]
        ),
        formats=SINGLE_VALUE_FORMATS,
        is_follow_up=True,
    )


def _person_key(attribute: str, person: str) -> str:
    return f"person:{attribute}:{person}"


def _other_value(values: tuple[str, ...], value: str, rng: Random) -> str:
    return rng.choice([other for other in values if other != value])
