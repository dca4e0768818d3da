"""Word tasks: copy, reverse, count, repeat, first or last word, members of a category, opposites, sentiment."""

from __future__ import annotations

from random import Random
from typing import Final

from zhenlong.world.facts import Facts
from zhenlong.world.families.knowledge import SINGLE_VALUE_FORMATS
from zhenlong.world.families.question import SLOT_PATTERNS, Family, Slots, answer_phrasings, question_templates
from zhenlong.world.families.response_checks import (
    LIST_WORD_PATTERN,
    WHOLE_NUMBER_PATTERN,
    find_mentions,
    mentions_only,
    word_pattern,
)
from zhenlong.world.vocabulary import (
    LIST_WORDS,
    NEGATIVE_ADJECTIVES,
    OPPOSITES,
    POSITIVE_ADJECTIVES,
    REVIEWED_THINGS,
    TOWNS,
    WORD_CATEGORIES,
)

LIST_FORMATS: Final = ("commas", "numbered", "brackets")
_OPPOSITE_PATTERN: Final = word_pattern(OPPOSITES)
_SENTIMENT_PATTERN: Final = word_pattern(("positive", "negative"))
_MEMBER_PATTERN: Final = word_pattern(sorted({word for words in WORD_CATEGORIES.values() for word in words}))


def copy_family() -> Family:
    """Asks to repeat the words."""
    return _sequence(
        "copy",
        ("Copy the words {words}.", "Say {words} again.", "Write {words} again.", "Say again: {words}."),
        ("{value}", "The words are {value}."),
        backwards=False,
    )


def reverse_family() -> Family:
    """Asks for the words in reverse order."""
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


def _sequence(name: str, texts: tuple[str, ...], answer_templates: tuple[str, ...], backwards: bool) -> Family:
    def expected(facts: Facts, slots: Slots) -> str:
        words = slots["words"].split()
        return " ".join(reversed(words) if backwards else words)

    def wrong_answer(facts: Facts, slots: Slots, rng: Random) -> str:
        words = expected(facts, slots).split()
        i = rng.randrange(len(words))
        words[i] = rng.choice([word for word in LIST_WORDS if word not in words])
        return " ".join(words)

    return Family(
        name,
        question_templates(*texts),
        SLOT_PATTERNS,
        sample_slots=lambda facts, rng, given: {"words": _sample_words(rng, 2, 5)},
        split_keys=_words_key,
        answer=expected,
        wrong_answer=wrong_answer,
        phrasings=answer_phrasings(*answer_templates),
        is_correct=lambda facts, slots, text: find_mentions(LIST_WORD_PATTERN, text) == expected(facts, slots).split(),
        formats=LIST_FORMATS,
    )


def first_last_family() -> Family:
    """Asks for the first or the last word of a list."""

    def end(facts: Facts, slots: Slots) -> str:
        return slots["words"].split()[0 if slots["wanted"] == "first" else -1]

    def wrong_answer(facts: Facts, slots: Slots, rng: Random) -> str:
        return rng.choice([word for word in slots["words"].split() if word != end(facts, slots)])

    return Family(
        "first_last",
        tuple(
            template
            for wanted in ("first", "last")
            for template in question_templates(
                f"What is the {wanted} word of {{words}}?",
                f"Give me the {wanted} word of {{words}}.",
                f"Which word is {wanted} in {{words}}?",
                f"Name the {wanted} word in {{words}}.",
                wanted=wanted,
            )
        ),
        SLOT_PATTERNS,
        sample_slots=lambda facts, rng, given: {"words": _sample_words(rng, 3, 5)},
        split_keys=_words_key,
        answer=end,
        wrong_answer=wrong_answer,
        phrasings=answer_phrasings("It is {value}.", "The {wanted} word is {value}."),
        is_correct=lambda facts, slots, text: find_mentions(LIST_WORD_PATTERN, text) == [end(facts, slots)],
        formats=SINGLE_VALUE_FORMATS,
    )


def count_family() -> Family:
    """Asks for the number of words in a list."""

    def number(facts: Facts, slots: Slots) -> str:
        return str(len(slots["words"].split()))

    return Family(
        "count",
        question_templates(
            "How many words are in {words}?",
            "Count the words {words}.",
            "How many words does the list {words} have?",
            "Tell me how many words are in {words}.",
        ),
        SLOT_PATTERNS,
        sample_slots=lambda facts, rng, given: {"words": _sample_words(rng, 2, 6)},
        split_keys=_words_key,
        answer=number,
        wrong_answer=lambda facts, slots, rng: str(int(number(facts, slots)) + rng.choice((-1, 1))),
        phrasings=answer_phrasings("{value}", "There are {value} words."),
        is_correct=lambda facts, slots, text: WHOLE_NUMBER_PATTERN.findall(text) == [number(facts, slots)],
        formats=("brackets", "json", "sentence"),
    )


def repeat_family() -> Family:
    """Asks to repeat one word several times."""

    def repeated(word: str, times: int) -> str:
        return " ".join([word] * times)

    def expected(facts: Facts, slots: Slots) -> str:
        return repeated(slots["word"], int(slots["times"]))

    return Family(
        "repeat",
        question_templates(
            "Say {word} {times} times.",
            "Write {word} {times} times.",
            "Say the word {word} {times} times.",
            "Give me the word {word} {times} times.",
        ),
        SLOT_PATTERNS | {"times": "[2-5]"},
        sample_slots=lambda facts, rng, given: {"word": rng.choice(LIST_WORDS), "times": str(rng.randint(2, 5))},
        split_keys=lambda facts, slots: (f"repeat:{slots['word']}:{slots['times']}",),
        answer=expected,
        wrong_answer=lambda facts, slots, rng: repeated(slots["word"], int(slots["times"]) + rng.choice((-1, 1, 2))),
        phrasings=answer_phrasings("{value}"),
        is_correct=lambda facts, slots, text: find_mentions(LIST_WORD_PATTERN, text) == expected(facts, slots).split(),
        formats=("commas", "numbered"),
    )


def list_family() -> Family:
    """Asks for k members of a category, sometimes excluding one."""

    def members(slots: Slots) -> list[str]:
        return [word for word in WORD_CATEGORIES[slots["category"]] if word != slots.get("excluded")]

    def sample_slots(facts: Facts, rng: Random, given: Slots) -> dict[str, str]:
        category = rng.choice(list(WORD_CATEGORIES))
        return {"category": category, "k": str(rng.randint(2, 4)), "excluded": rng.choice(WORD_CATEGORIES[category])}

    def answer(facts: Facts, slots: Slots) -> str:
        return " ".join(members(slots)[: int(slots["k"])])

    def is_correct(facts: Facts, slots: Slots, text: str) -> bool:
        named = find_mentions(_MEMBER_PATTERN, text)
        allowed = {word.lower() for word in members(slots)}
        return len(named) == len(set(named)) == int(slots["k"]) and set(named) <= allowed

    def wrong_answer(facts: Facts, slots: Slots, rng: Random) -> str:
        words = answer(facts, slots).split()
        strange = rng.choice([name for name in WORD_CATEGORIES if name != slots["category"]])
        return " ".join([*words[:-1], rng.choice(WORD_CATEGORIES[strange])])

    def phrasings(facts: Facts, slots: Slots, said: str) -> tuple[str, ...]:
        words = said.split()
        return ", ".join(words), f"{', '.join(words[:-1])} and {words[-1]}"

    return Family(
        "list",
        question_templates(
            "Name {k} {category}.",
            "List {k} {category}.",
            "Give me {k} {category}.",
            "Name {k} {category}, but not {excluded}.",
            "List {k} {category}, but not {excluded}.",
            "Give me {k} {category}, but not {excluded}.",
        ),
        {"category": "|".join(WORD_CATEGORIES), "k": "[2-4]", "excluded": _MEMBER_PATTERN.pattern},
        sample_slots=sample_slots,
        split_keys=lambda facts, slots: (f"list:{slots['k']}:{slots['category']}",),
        answer=answer,
        wrong_answer=wrong_answer,
        phrasings=phrasings,
        is_correct=is_correct,
        formats=("commas", "numbered"),
    )


def opposite_family() -> Family:
    """Asks for the opposite of a word."""
    words = list(OPPOSITES)
    return Family(
        "opposite",
        question_templates(
            "What is the opposite of {word}?",
            "Tell me the opposite of {word}.",
            "Which word is the opposite of {word}?",
            "Give me the opposite of {word}.",
        ),
        {"word": "|".join(words)},
        sample_slots=lambda facts, rng, given: {"word": rng.choice(words)},
        split_keys=lambda facts, slots: (f"opposite:{min(slots['word'], OPPOSITES[slots['word']])}",),
        answer=lambda facts, slots: OPPOSITES[slots["word"]],
        wrong_answer=lambda facts, slots, rng: rng.choice(
            [w for w in words if w not in (slots["word"], OPPOSITES[slots["word"]])]
        ),
        phrasings=answer_phrasings("It is {value}.", "The opposite of {word} is {value}."),
        is_correct=lambda facts, slots, text: (
            set(find_mentions(_OPPOSITE_PATTERN, text)) - {slots["word"]} == {OPPOSITES[slots["word"]]}
        ),
        formats=SINGLE_VALUE_FORMATS,
    )


def sentiment_family() -> Family:
    """Asks whether a review is positive or negative."""

    def sample_slots(facts: Facts, rng: Random, given: Slots) -> dict[str, str]:
        one, two = rng.sample(POSITIVE_ADJECTIVES if rng.random() < 0.5 else NEGATIVE_ADJECTIVES, 2)
        return {"thing": rng.choice(REVIEWED_THINGS), "town": rng.choice(TOWNS), "one": one, "two": two}

    def answer(facts: Facts, slots: Slots) -> str:
        return "positive" if slots["one"] in POSITIVE_ADJECTIVES else "negative"

    words = "|".join(POSITIVE_ADJECTIVES + NEGATIVE_ADJECTIVES)
    return Family(
        "sentiment",
        question_templates(
            "Is this review positive or negative? The {thing} was {one} and {two}.",
            "The {thing} in {town} was {one} and {two}. Is that positive or negative?",
            'Is "the {thing} was {one} and {two}" positive or negative?',
            "Tell me if this is positive or negative: the {thing} in {town} was {one} and {two}.",
        ),
        {"thing": "|".join(REVIEWED_THINGS), "town": "|".join(TOWNS), "one": words, "two": words},
        sample_slots=sample_slots,
        split_keys=lambda facts, slots: (f"review:{slots['thing']}:{slots['one']}:{slots['two']}",),
        answer=answer,
        wrong_answer=lambda facts, slots, rng: "negative" if answer(facts, slots) == "positive" else "positive",
        phrasings=answer_phrasings("It is {value}.", "The review is {value}.", "That is a {value} review."),
        is_correct=lambda facts, slots, text: mentions_only(_SENTIMENT_PATTERN, text, answer(facts, slots)),
        formats=SINGLE_VALUE_FORMATS,
    )


def _sample_words(rng: Random, min_words: int, max_words: int) -> str:
    return " ".join(rng.sample(LIST_WORDS, rng.randint(min_words, max_words)))


def _words_key(facts: Facts, slots: Slots) -> tuple[str, ...]:
    return (f"words:{slots['words']}",)
