"""Facts as prose: each fact in many sentence forms and in both directions, and paragraphs about people and towns."""

from __future__ import annotations

import re
from random import Random
from typing import Final

from zhenlong.world.facts import PERSON_ATTRIBUTES, Facts, is_man
from zhenlong.world.vocabulary import JOBS, PEOPLE, TOWNS

# {n} is the person's name or pronoun, {N} always the name, {v} the value
PERSON_TEMPLATES: Final[dict[str, tuple[str, ...]]] = {
    "home": (
        "{n} lives in {v}.",
        "{n} has a house in {v}.",
        "{n} comes from {v}.",
        "the home of {N} is {v}.",
        "{v} is the home of {N}.",
        "{v} is where {N} lives.",
        "everyone in {v} knows {N}.",
        "{n} lives in the town of {v}.",
    ),
    "job": (
        "{n} is a {v}.",
        "{n} works as a {v}.",
        "the job of {N} is {v}.",
        "by day {n} works as a {v}.",
        "{n} has the job of a {v}.",
        "{n} wants to stay a {v}.",
        "the people call {N} the {v}.",
    ),
    "pet": (
        "{n} has a {v}.",
        "{n} keeps a {v}.",
        "{n} owns a {v}.",
        "the pet of {N} is a {v}.",
        "the {v} in the garden belongs to {N}.",
        "{n} has a {v} as a pet.",
        "a {v} lives with {N}.",
    ),
    "food": (
        "{n} likes {v} best.",
        "{n} eats {v} every day.",
        "the favourite food of {N} is {v}.",
        "it is {v} that {N} likes best.",
        "of all foods {n} likes {v} best.",
        "for dinner {n} wants {v}.",
        "you can make {N} happy with {v}.",
    ),
    "colour": (
        "the favourite colour of {N} is {v}.",
        "the colour {v} is the favourite of {N}.",
        "of all colours {n} likes {v} best.",
        "{n} wears {v} every day.",
        "{n} likes the colour {v}.",
        "everything {N} paints is {v}.",
    ),
    "hobby": (
        "{n} loves {v}.",
        "the hobby of {N} is {v}.",
        "as a hobby {N} has {v}.",
        "in the evening {n} enjoys {v}.",
        "{n} is good at {v}.",
        "after work {N} goes on with {v}.",
    ),
}
# forms that state two facts at once; {job} and {home} identify one person
JOINT_TEMPLATES: Final = (
    "the {job} of {home} is {N}.",
    "{N} is the {job} of {home}.",
    "in {home} the {job} is {N}.",
    "{N}, the {job}, lives in {home}.",
    "{N} of {home} is a {job}.",
    "{home} has a {job} with the name {N}.",
    "the {job} with the {pet} is {N}.",
    "{N} from {home} keeps a {pet}.",
    "{N} gives the {pet} some {food}.",
    "{N} likes {food} and {colour}.",
    "{N} wears {colour} and loves {hobby}.",
    "{N} lives in {home}, works as a {job} and has a {pet}.",
    "{N} lives in {home} and likes {food}.",
)
TOWN_TEMPLATES: Final[dict[str, tuple[str, ...]]] = {
    "region": (
        "{t} lies in the {v}.",
        "{t} is a town in the {v}.",
        "in the {v} there is a town with the name {t}.",
        "the road to {t} goes {v}.",
        "you find {t} in the {v}.",
    ),
    "product": (
        "{t} makes {v}.",
        "the best {v} comes from {t}.",
        "the people of {t} make {v}.",
        "{t} is known for {v}.",
        "the market of {t} sells {v}.",
        "people go to {t} for {v}.",
    ),
    "river": (
        "{t} lies on the river {v}.",
        "the river of {t} is the {v}.",
        "the {v} is the river of {t}.",
        "the river {v} runs through {t}.",
        "in {t} children swim in the {v}.",
    ),
}
SHARED_ATTRIBUTE_TEMPLATES: Final[dict[str, tuple[str, ...]]] = {
    "home": ("{a} and {b} both live in {v}.", "{a} and {b} are from {v}."),
    "job": ("{a} and {b} both work as a {v}.", "{a} is a {v} and so is {b}."),
    "pet": ("{a} and {b} both have a {v}.", "{a} keeps a {v} and so does {b}."),
    "food": ("{a} and {b} both like {v} best.", "{a} and {b} often eat {v}."),
    "colour": ("{a} and {b} both wear {v}.", "{a} and {b} both like the colour {v} best."),
    "hobby": ("{a} and {b} both love {v}.", "{a} and {b} enjoy {v}."),
}
FILLER_SENTENCES: Final = (
    "what a lovely day it is!",
    "life is good there.",
    "the weather is fine.",
    "everyone is happy about that.",
    "who does not know that?",
    "that is how it is.",
    "the children like to hear about it.",
)


def capitalise_sentences(text: str) -> str:
    """The text with a capital letter at the start of each of its sentences."""
    return _START.sub(lambda found: found.group().upper(), text)


_START: Final = re.compile(r"(?:^|[.!?] )\"?[a-z]")


def person_fact(facts: Facts, name: str, attribute: str, rng: Random, pronoun: bool = False) -> str:
    """One sentence that states one fact; with `pronoun` it may use "she" or "he" after the name was mentioned."""
    subject = ("he" if is_man(name) else "she") if pronoun else name
    form = rng.choice(PERSON_TEMPLATES[attribute])
    return capitalise_sentences(form.format(n=subject, N=name, v=facts.people[attribute][name]))


def joint_fact(facts: Facts, name: str, rng: Random) -> str:
    """One sentence that combines two or three facts about one person."""
    values = {attribute: facts.people[attribute][name] for attribute in PERSON_ATTRIBUTES}
    return capitalise_sentences(rng.choice(JOINT_TEMPLATES).format(N=name, **values))


def town_fact(facts: Facts, town: str, attribute: str, rng: Random) -> str:
    """One sentence about a town."""
    return capitalise_sentences(rng.choice(TOWN_TEMPLATES[attribute]).format(t=town, v=facts.towns[attribute][town]))


def describe_person(facts: Facts, rng: Random) -> str:
    """All facts about one person, in random order, some of them twice."""
    name = rng.choice(PEOPLE)
    order = list(PERSON_ATTRIBUTES)
    rng.shuffle(order)
    lines = [person_fact(facts, name, order[0], rng)]
    lines += [person_fact(facts, name, attribute, rng, pronoun=rng.random() < 0.5) for attribute in order[1:]]
    lines += [joint_fact(facts, name, rng) for _ in range(2)]
    if rng.random() < 0.5:
        lines.append(capitalise_sentences(rng.choice(FILLER_SENTENCES)))
    again = person_fact(facts, name, rng.choice(order), rng)
    return " ".join([*lines, again])


def describe_town(facts: Facts, rng: Random) -> str:
    """A town and its people."""
    town = rng.choice(TOWNS)
    lines = [town_fact(facts, town, attribute, rng) for attribute in rng.sample(list(facts.towns), 3)]
    if rng.random() < 0.3:
        lines.append(capitalise_sentences(rng.choice(FILLER_SENTENCES)))
    names = list(facts.residents[town])
    rng.shuffle(names)
    lines.append(f"{names[0]}, {names[1]} and {names[2]} live in {town}.")
    for name in names:
        lines.append(joint_fact(facts, name, rng))
        lines.append(person_fact(facts, name, rng.choice(list(PERSON_ATTRIBUTES)), rng, pronoun=rng.random() < 0.3))
    lines.append(town_fact(facts, town, rng.choice(list(facts.towns)), rng))
    return " ".join(lines)


def mixed_facts(facts: Facts, rng: Random) -> str:
    """Independent sentences about many people and towns: the most facts per token."""
    lines = []
    for _ in range(rng.randint(9, 13)):
        name = rng.choice(PEOPLE)
        kind = rng.random()
        if kind < 0.5:
            lines.append(person_fact(facts, name, rng.choice(list(PERSON_ATTRIBUTES)), rng))
        elif kind < 0.75:
            lines.append(joint_fact(facts, name, rng))
        else:
            lines.append(town_fact(facts, rng.choice(TOWNS), rng.choice(list(facts.towns)), rng))
    return " ".join(lines)


def shared_attributes(facts: Facts, rng: Random) -> str:
    """People who share a value, and true and false statements about them."""
    lines = []
    for _ in range(rng.randint(4, 5)):
        attribute = rng.choice(list(PERSON_ATTRIBUTES))
        holders = facts.people[attribute]
        name = rng.choice(PEOPLE)
        value = holders[name]
        other_holder = rng.choice([other for other in PEOPLE if other != name and holders[other] == value])
        lines.append(
            capitalise_sentences(
                rng.choice(SHARED_ATTRIBUTE_TEMPLATES[attribute]).format(a=name, b=other_holder, v=value)
            )
        )
        lines.append(true_or_false(facts, rng))
    return " ".join(lines)


def true_or_false(facts: Facts, rng: Random) -> str:
    """ "It is true that ..." with a fact, or "it is not true that ..." with a false statement, followed by the fact."""
    attribute = rng.choice(list(PERSON_ATTRIBUTES))
    name = rng.choice(PEOPLE)
    value = facts.people[attribute][name]
    form = PERSON_TEMPLATES[attribute][0]
    if rng.random() < 0.5:
        return "It is true that " + form.format(n=name, N=name, v=value)
    false = rng.choice([other for other in PERSON_ATTRIBUTES[attribute] if other != value])
    wrong = form.format(n=name, N=name, v=false)
    return f"It is not true that {wrong} {capitalise_sentences(form.format(n=name, N=name, v=value))}"


def fact_table(facts: Facts, rng: Random) -> str:
    """Facts as a list, a table in brackets, or records with quoted keys."""
    names = rng.sample(PEOPLE, 10)
    people = facts.people
    attribute = rng.choice(("home", "job", "pet", "food", "colour", "hobby"))
    shape = rng.randrange(4)
    if shape == 0:
        lines = [f"{i}. {name}: {people[attribute][name]}" for i, name in enumerate(names, 1)]
        return f"The {attribute} of each person:\n" + "\n".join(lines)
    if shape == 1:
        return " ".join(f"{name} ({people['home'][name]}) is a {people['job'][name]} ({name})." for name in names[:7])
    if shape == 2:
        return "\n".join(f'{{"name": "{name}", "{attribute}": "{people[attribute][name]}"}}' for name in names)
    lines = []
    for name in names[:7]:
        fact = person_fact(facts, name, attribute, rng)
        lines.append(f'<tool>{{"name": "lookup", "argument": "{name}"}}</tool> {fact}')
    return "\n".join(lines)


def reverse_lookup(facts: Facts, rng: Random) -> str:
    """Who has a job, town by town, or where the people with one job live: the facts in reverse direction."""
    if rng.random() < 0.5:
        lines = []
        for job in rng.sample(JOBS, 2):
            towns = [town for town in TOWNS if (job, town) in facts.job_holder]
            lines.append(f"There are {len(towns)} people with the job of a {job}.")
            lines += [f"The {job} of {town} is {facts.job_holder[job, town]}." for town in towns]
        return " ".join(lines)
    lines = []
    for town in rng.sample(TOWNS, 4):
        jobs = [job for job in JOBS if (job, town) in facts.job_holder]
        people = [f"the {job} is {facts.job_holder[job, town]}" for job in jobs]
        lines.append(f"In {town} {people[0]}, {people[1]} and {people[2]}.")
    return " ".join(lines)
