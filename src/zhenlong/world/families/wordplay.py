"""Copying, reversing, counting and repeating of words, list ends, members of a category, opposites, sentiment."""

from __future__ import annotations

from random import Random
from typing import Final

from zhenlong.world.facts import Facts
from zhenlong.world.families.knowledge import SCALAR
from zhenlong.world.families.question import SLOTS, Family, Slots, sayings, wordings
from zhenlong.world.families.reading import LISTED, NUMBER, any_of, mentions, only
from zhenlong.world.vocabulary import BLAME, CATEGORIES, LIST_WORDS, OPPOSITES, PRAISE, REVIEWED, TOWNS

LISTING: Final = ("commas", "numbered", "brackets")
_OPPOSED: Final = any_of(OPPOSITES)
_SENTIMENT: Final = any_of(("positive", "negative"))
_MEMBERS: Final = {name: any_of(words) for name, words in CATEGORIES.items()}
_ANY_MEMBER: Final = any_of(sorted({word for words in CATEGORIES.values() for word in words}))


def copy_family() -> Family:
    """Asks for the words again."""
    return _sequence(
        "copy",
        ("Copy the words {words}.", "Say {words} again.", "Write {words} again.", "Say again: {words}."),
        ("{value}", "The words are {value}."),
        backwards=False,
    )


def reverse_family() -> Family:
    """Asks for the words from the last to the first."""
    return _sequence(
        "reverse",
        (
            "Say {words} backwards.",
            "Write {words} backwards.",
            "What is {words} in reverse?",
            "Say the words {words} in reverse.",
        ),
        ("{value}", "The words backwards are {value}."),
        backwards=True,
    )


def _sequence(name: str, texts: tuple[str, ...], forms: tuple[str, ...], backwards: bool) -> Family:
    def expected(facts: Facts, slots: Slots) -> str:
        words = slots["words"].split()
        return " ".join(reversed(words) if backwards else words)

    def miss(facts: Facts, slots: Slots, rng: Random) -> str:
        words = expected(facts, slots).split()
        i = rng.randrange(len(words))
        words[i] = rng.choice([word for word in LIST_WORDS if word not in words])
        return " ".join(words)

    return Family(
        name,
        wordings(*texts),
        SLOTS,
        draw=lambda facts, rng, given: {"words": _draw_words(rng, 2, 5)},
        keys=_words_key,
        value=expected,
        miss=miss,
        says=sayings(*forms),
        right=lambda facts, slots, text: mentions(LISTED, text) == expected(facts, slots).split(),
        formats=LISTING,
    )


def first_last_family() -> Family:
    """Asks for the first or the last word of a list."""

    def end(facts: Facts, slots: Slots) -> str:
        return slots["words"].split()[0 if slots["wanted"] == "first" else -1]

    def miss(facts: Facts, slots: Slots, rng: Random) -> str:
        return rng.choice([word for word in slots["words"].split() if word != end(facts, slots)])

    return Family(
        "first_last",
        tuple(
            template
            for wanted in ("first", "last")
            for template in wordings(
                f"What is the {wanted} word of {{words}}?",
                f"Give me the {wanted} word of {{words}}.",
                f"Which word is {wanted} in {{words}}?",
                f"Name the {wanted} word in {{words}}.",
                wanted=wanted,
            )
        ),
        SLOTS,
        draw=lambda facts, rng, given: {"words": _draw_words(rng, 3, 5)},
        keys=_words_key,
        value=end,
        miss=miss,
        says=sayings("It is {value}.", "The {wanted} word is {value}."),
        right=lambda facts, slots, text: mentions(LISTED, text) == [end(facts, slots)],
        formats=SCALAR,
    )


def count_family() -> Family:
    """Asks for the number of words in a list."""

    def number(facts: Facts, slots: Slots) -> str:
        return str(len(slots["words"].split()))

    return Family(
        "count",
        wordings(
            "How many words are in {words}?",
            "Count the words {words}.",
            "How many words does the list {words} have?",
            "Tell me how many words are in {words}.",
        ),
        SLOTS,
        draw=lambda facts, rng, given: {"words": _draw_words(rng, 2, 6)},
        keys=_words_key,
        value=number,
        miss=lambda facts, slots, rng: str(int(number(facts, slots)) + rng.choice((-1, 1))),
        says=sayings("{value}", "There are {value} words."),
        right=lambda facts, slots, text: NUMBER.findall(text) == [number(facts, slots)],
        formats=("brackets", "json", "sentence"),
    )


def repeat_family() -> Family:
    """Asks for one word several times."""

    def row(word: str, times: int) -> str:
        return " ".join([word] * times)

    def expected(facts: Facts, slots: Slots) -> str:
        return row(slots["word"], int(slots["times"]))

    return Family(
        "repeat",
        wordings(
            "Say {word} {times} times.",
            "Write {word} {times} times.",
            "Say the word {word} {times} times.",
            "Give me the word {word} {times} times.",
        ),
        SLOTS | {"times": "[2-5]"},
        draw=lambda facts, rng, given: {"word": rng.choice(LIST_WORDS), "times": str(rng.randint(2, 5))},
        keys=lambda facts, slots: (f"repeat:{slots['word']}:{slots['times']}",),
        value=expected,
        miss=lambda facts, slots, rng: row(slots["word"], int(slots["times"]) + rng.choice((-1, 1, 2))),
        says=sayings("{value}"),
        right=lambda facts, slots, text: mentions(LISTED, text) == expected(facts, slots).split(),
        formats=("commas", "numbered"),
    )


def list_family() -> Family:
    """Asks for k things of a category, sometimes with one ruled out."""

    def members(slots: Slots) -> list[str]:
        return [word for word in CATEGORIES[slots["category"]] if word != slots.get("excluded")]

    def draw(facts: Facts, rng: Random, given: Slots) -> dict[str, str]:
        category = rng.choice(list(CATEGORIES))
        return {"category": category, "k": str(rng.randint(2, 4)), "excluded": rng.choice(CATEGORIES[category])}

    def value(facts: Facts, slots: Slots) -> str:
        return " ".join(members(slots)[: int(slots["k"])])

    def right(facts: Facts, slots: Slots, text: str) -> bool:
        named = mentions(_ANY_MEMBER, text)
        allowed = {word.lower() for word in members(slots)}
        return len(named) == len(set(named)) == int(slots["k"]) and set(named) <= allowed

    def miss(facts: Facts, slots: Slots, rng: Random) -> str:
        words = value(facts, slots).split()
        strange = rng.choice([name for name in CATEGORIES if name != slots["category"]])
        return " ".join([*words[:-1], rng.choice(CATEGORIES[strange])])

    def says(facts: Facts, slots: Slots, said: str) -> tuple[str, ...]:
        words = said.split()
        return ", ".join(words), f"{', '.join(words[:-1])} and {words[-1]}"

    return Family(
        "list",
        wordings(
            "Name {k} {category}.",
            "List {k} {category}.",
            "Give me {k} {category}.",
            "Name {k} {category}, but not {excluded}.",
            "List {k} {category}, but not {excluded}.",
            "Give me {k} {category}, but not {excluded}.",
        ),
        {"category": "|".join(CATEGORIES), "k": "[2-4]", "excluded": _ANY_MEMBER.pattern},
        draw=draw,
        keys=lambda facts, slots: (f"list:{slots['k']}:{slots['category']}",),
        value=value,
        miss=miss,
        says=says,
        right=right,
        formats=("commas", "numbered"),
    )


def opposite_family() -> Family:
    """Asks for the opposite of a word."""
    words = list(OPPOSITES)
    return Family(
        "opposite",
        wordings(
            "What is the opposite of {word}?",
            "Tell me the opposite of {word}.",
            "Which word is the opposite of {word}?",
            "Give me the opposite of {word}.",
        ),
        {"word": "|".join(words)},
        draw=lambda facts, rng, given: {"word": rng.choice(words)},
        keys=lambda facts, slots: (f"opposite:{min(slots['word'], OPPOSITES[slots['word']])}",),
        value=lambda facts, slots: OPPOSITES[slots["word"]],
        miss=lambda facts, slots, rng: rng.choice(
            [w for w in words if w not in (slots["word"], OPPOSITES[slots["word"]])]
        ),
        says=sayings("It is {value}.", "The opposite of {word} is {value}."),
        right=lambda facts, slots, text: set(mentions(_OPPOSED, text)) - {slots["word"]} == {OPPOSITES[slots["word"]]},
        formats=SCALAR,
    )


def sentiment_family() -> Family:
    """Asks whether a review is positive or negative."""

    def draw(facts: Facts, rng: Random, given: Slots) -> dict[str, str]:
        one, two = rng.sample(PRAISE if rng.random() < 0.5 else BLAME, 2)
        return {"thing": rng.choice(REVIEWED), "town": rng.choice(TOWNS), "one": one, "two": two}

    def value(facts: Facts, slots: Slots) -> str:
        return "positive" if slots["one"] in PRAISE else "negative"

    words = "|".join(PRAISE + BLAME)
    return Family(
        "sentiment",
        wordings(
            "Is this review positive or negative? The {thing} was {one} and {two}.",
            "The {thing} in {town} was {one} and {two}. Is that positive or negative?",
            'Is "the {thing} was {one} and {two}" positive or negative?',
            "Tell me if this is positive or negative: the {thing} in {town} was {one} and {two}.",
        ),
        {"thing": "|".join(REVIEWED), "town": "|".join(TOWNS), "one": words, "two": words},
        draw=draw,
        keys=lambda facts, slots: (f"review:{slots['thing']}:{slots['one']}:{slots['two']}",),
        value=value,
        miss=lambda facts, slots, rng: "negative" if value(facts, slots) == "positive" else "positive",
        says=sayings("It is {value}.", "The review is {value}.", "That is a {value} review."),
        right=lambda facts, slots, text: only(_SENTIMENT, text, value(facts, slots)),
        formats=SCALAR,
    )


def _draw_words(rng: Random, fewest: int, most: int) -> str:
    return " ".join(rng.sample(LIST_WORDS, rng.randint(fewest, most)))


def _words_key(facts: Facts, slots: Slots) -> tuple[str, ...]:
    return (f"words:{slots['words']}",)
