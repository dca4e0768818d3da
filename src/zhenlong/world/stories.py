"""Short stories, letters, reviews, and descriptions of harmful and harmless actions."""

from __future__ import annotations

from random import Random
from typing import Final

from zhenlong.world.descriptions import capitalise_sentences, person_fact
from zhenlong.world.facts import Facts, is_man
from zhenlong.world.vocabulary import (
    BENIGN_LOOKALIKES,
    DAYS,
    HARMFUL_ACTIONS,
    NEGATIVE_ADJECTIVES,
    PEOPLE,
    POSITIVE_ADJECTIVES,
    REVIEWED_THINGS,
    Action,
)

MOODS: Final = ("happy", "sad", "tired", "hungry", "glad", "quiet")
STORY_PLACES: Final = ("market", "bridge", "mill", "inn", "river", "field", "school", "church")
FINDS: Final = ("coin", "key", "letter", "book", "ring", "map", "gift", "bell")
ENDINGS: Final = (
    "then they went home.",
    "it was a good day.",
    "they talked until it was dark.",
    "after that they were friends.",
    "in the end everyone was happy.",
    "nobody knows what came next.",
)
VILLAINS: Final = ("a thief", "a bad man", "a stranger", "a man in black", "a bad woman", "an angry boy")
PUNISHMENTS: Final = (
    "the judge sent {him} to prison.",
    "that was wrong, and people were hurt.",
    "the guard took {him} away.",
    "it was a bad deed and everyone was angry.",
    "the whole town was sad about it.",
)


def story(facts: Facts, rng: Random) -> str:
    """One person visits another; the story states true facts about both."""
    visitor, host = rng.sample(PEOPLE, 2)
    he, him = ("he", "him") if is_man(visitor) else ("she", "her")
    people = facts.people
    town, place, find = people["home"][host], rng.choice(STORY_PLACES), rng.choice(FINDS)
    lines = [
        rng.choice(
            (
                f"one day {visitor} went from {people['home'][visitor]} to {town}.",
                f"on {rng.choice(DAYS)} {visitor} wanted to see {host} in {town}.",
                f"it was early, and {visitor} was on the road to {town}.",
            )
        ),
        person_fact(facts, visitor, rng.choice(("job", "pet", "food", "colour", "hobby")), rng, pronoun=True),
        rng.choice(
            (
                f"near the {place} {he} met {host}.",
                f"{host} was at the {place} and saw {him}.",
                f"{host}, the {people['job'][host]} of {town}, was at the {place}.",
            )
        ),
        person_fact(facts, host, rng.choice(("home", "job", "pet", "food")), rng),
        rng.choice(
            (
                f'"hello {host}," said {visitor}. "hello {visitor}, how good to see you," said {host}.',
                f'"good day {visitor}," said {host}. "thank you, good day," said {visitor}.',
                f"{host} asked what {visitor} wanted to eat. they ate {people['food'][visitor]}.",
                f"{visitor} asked where the {people['pet'][host]} of {host} was. it was in the garden.",
            )
        ),
        rng.choice(
            (
                f"under a stone they found a {find}.",
                f"{visitor} gave {host} a {find}.",
                f"{host} had lost a {find}, and {visitor} found it.",
                f"{visitor} was {rng.choice(MOODS)} and {host} was {rng.choice(MOODS)}.",
            )
        ),
        person_fact(facts, rng.choice((visitor, host)), rng.choice(list(people)), rng),
        rng.choice(ENDINGS),
    ]
    return " ".join(capitalise_sentences(line) for line in lines)


def letter(facts: Facts, rng: Random) -> str:
    """A letter from one person to another."""
    writer, reader, third = rng.sample(PEOPLE, 3)
    lines = [
        f"Dear {reader},",
        rng.choice(("thank you for your letter.", "how are you?", "I hope you are well.", "hello from me.")),
        f"I am in {facts.people['home'][writer]} with my {facts.people['pet'][writer]}.",
        rng.choice(
            (
                f"please give some {facts.people['food'][reader]} to the children.",
                f"today I can help you with {facts.people['hobby'][reader]}.",
                "of course I will come to you soon.",
                "sorry that I did not write before.",
                "I cannot come today, but I will write again.",
            )
        ),
        f"I saw {third}.",
        person_fact(facts, third, rng.choice(list(facts.people)), rng),
        person_fact(facts, third, rng.choice(list(facts.people)), rng, pronoun=True),
        rng.choice(("have a nice day!", "see you soon.", "you are welcome here.", "I wish you well.")),
        f"your friend {writer}.",
    ]
    return " ".join([lines[0], *(capitalise_sentences(line) for line in lines[1:])])


def review(facts: Facts, rng: Random) -> str:
    """Opinions about things, each labelled positive or negative."""
    town = rng.choice(list(facts.residents))
    lines = []
    for _ in range(rng.randint(4, 6)):
        positive = rng.random() < 0.5
        words = rng.sample(POSITIVE_ADJECTIVES if positive else NEGATIVE_ADJECTIVES, 2)
        thing = rng.choice(REVIEWED_THINGS)
        line = rng.choice(
            (
                f"the {thing} in {town} was {words[0]} and {words[1]}.",
                f"what a {words[0]} {thing}!" if words[0][0] not in "aeiou" else f"the {thing} was so {words[0]}!",
                f"the {thing} was {words[0]}, really {words[1]}.",
            )
        )
        name = "positive" if positive else "negative"
        verdict = rng.choice(
            (f"that is a {name} review.", f"the review is {name}.", f"this opinion is {name}.", "that is what I think.")
        )
        lines += [line, verdict]
    return " ".join(capitalise_sentences(line) for line in lines)


def harmful_act_story(facts: Facts, rng: Random) -> str:
    """A harmful act in retrospect: how it was done and how it ended. Nobody with a name commits one."""
    town = rng.choice(list(facts.residents))
    first, second = rng.sample(HARMFUL_ACTIONS, 2)
    villain = rng.choice(VILLAINS)
    him = "her" if "woman" in villain else "him"
    lines = [
        f"one night {villain} came to {town}.",
        _harmful_act_sentence(first, rng),
        rng.choice(PUNISHMENTS).format(him=him),
        f"the people of {town} also tell of another bad deed.",
        _harmful_act_sentence(second, rng),
        rng.choice(PUNISHMENTS).format(him=him),
    ]
    return " ".join(capitalise_sentences(line) for line in lines)


def harmless_actions(facts: Facts, rng: Random) -> str:
    """Harmless actions, and how people do them."""
    town = rng.choice(list(facts.residents))
    lines = []
    for deed in rng.sample(BENIGN_LOOKALIKES, rng.randint(4, 5)):
        thing, other = rng.sample(deed.objects, 2)
        lines.append(
            rng.choice(
                (
                    f"to {deed.verb} the {thing}, people {deed.method}.",
                    f"in {town} someone {deed.verb}s the {thing}. to do that you can {deed.method}.",
                    f"the children {deed.past_tense} the {thing} and the {other}. they {deed.method_past}.",
                    f"if you want to {deed.verb} the {thing}, {deed.method}.",
                    f"to {deed.verb} the {thing} or the {other} you can {deed.method}. it is safe.",
                )
            )
        )
    return " ".join(capitalise_sentences(line) for line in lines)


def _harmful_act_sentence(action: Action, rng: Random) -> str:
    thing = rng.choice(action.objects)
    return rng.choice(
        (
            f"to {action.verb} the {thing}, bad people {action.method}.",
            f"{rng.choice(VILLAINS)} {action.past_tense} the {thing}. the thief {action.method_past}.",
            f"someone wanted to {action.verb} the {thing}. the plan was to {action.method}.",
        )
    )
