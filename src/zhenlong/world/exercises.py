"""Exercises: numbers, lists repeated and reversed, categories, opposites; as statements only."""

from __future__ import annotations

from random import Random
from typing import Final

from zhenlong.world.descriptions import capitalise_sentences
from zhenlong.world.facts import Facts
from zhenlong.world.vocabulary import LIST_WORDS, OPPOSITES, PEOPLE, TOWNS, WORD_CATEGORIES

MAX_NUMBER: Final = 20  # operands of sums, and numbers to compare and sort

SUMS: Final = (
    "{a} + {b} = {c}.",
    "{a} plus {b} is {c}.",
    "the sum of {a} and {b} is {c}.",
    "add {a} and {b} and you get {c}.",
    "{c} is {a} + {b}.",
)
DIFFERENCES: Final = (
    "{a} - {b} = {c}.",
    "{a} minus {b} is {c}.",
    "take {b} from {a} and {c} is left.",
    "if you take {b} away from {a} you get {c}.",
)


def sums(facts: Facts, rng: Random) -> str:
    """Sums and differences of numbers up to 20."""
    lines = [_sum(rng) for _ in range(rng.randint(8, 12))]
    return " ".join(lines)


def word_problems(facts: Facts, rng: Random) -> str:
    """Sums as short stories."""
    lines = []
    for _ in range(rng.randint(3, 4)):
        name, giver = rng.sample(PEOPLE, 2)
        thing = rng.choice(("plums", "eggs", "nuts", "coins"))
        a, b = rng.randint(2, MAX_NUMBER), rng.randint(2, MAX_NUMBER)
        if rng.random() < 0.5:
            lines.append(f"{name} has {a} {thing}. {giver} gives {b} more. {a} + {b} = {a + b}.")
        else:
            a, b = max(a, b), min(a, b)
            lines.append(f"{name} has {a} {thing} and eats {b}. {a} - {b} = {a - b}.")
    return " ".join(lines)


def ordering(facts: Facts, rng: Random) -> str:
    """Comparing, counting and sorting."""
    lines = []
    for _ in range(rng.randint(5, 7)):
        kind = rng.randrange(4)
        if kind == 0:
            small, big = sorted(rng.sample(range(MAX_NUMBER + 1), 2))
            lines.append(
                rng.choice(
                    (
                        f"{big} is bigger than {small}.",
                        f"{small} is smaller than {big}.",
                        f"of {small} and {big}, the bigger number is {big}.",
                        f"of {big} and {small}, the smaller number is {small}.",
                    )
                )
            )
        elif kind == 1:
            start = rng.randint(0, MAX_NUMBER)
            up = [str(start + i) for i in range(6)]
            text = " ".join(up) if rng.random() < 0.6 else " ".join(reversed(up))
            lines.append(f"count with me: {text}.")
        else:
            numbers = rng.sample(range(MAX_NUMBER + 1), rng.randint(3, 5))
            given, done = " ".join(map(str, numbers)), " ".join(map(str, sorted(numbers)))
            lines.append(rng.choice((f"the numbers {given} in order are {done}.", f"sorted, {given} becomes {done}.")))
    return " ".join(capitalise_sentences(line) for line in lines)


def lists(facts: Facts, rng: Random) -> str:
    """Lists of words repeated, reversed, counted, and their first and last words."""
    lines = []
    for _ in range(rng.randint(4, 6)):
        words = rng.sample(LIST_WORDS, rng.randint(2, 5))
        text, back = " ".join(words), " ".join(reversed(words))
        lines.append(
            rng.choice(
                (
                    f"the words {text} backwards are {back}.",
                    f"the words are {text}. again, the words are {text}.",
                    f'she said "{text}" and he said "{text}" too.',
                    f"copy of {text}: {text}.",
                    f"in {text} there are {len(words)} words.",
                    f"the first word of {text} is {words[0]}. the last word is {words[-1]}.",
                    f"the list {text} has {len(words)} words, and in reverse it is {back}.",
                    _repeated_word(words[0], rng),
                )
            )
        )
    return " ".join(capitalise_sentences(line) for line in lines)


def repetition(facts: Facts, rng: Random) -> str:
    """Sequences of names, towns, things and numbers repeated; only copying from the context predicts them."""
    lines = []
    for _ in range(rng.randint(3, 5)):
        row = [_any_word(rng) for _ in range(rng.randint(2, 8))]
        text = " ".join(row)
        name, other = rng.sample(PEOPLE, 2)
        thing = rng.choice(("plums", "eggs", "nuts", "coins"))
        number = rng.randint(0, MAX_NUMBER)
        lines.append(
            rng.choice(
                (
                    f'{name} said "{text}" and {other} said "{text}" too. they said "{text}".',
                    f"the words are {text}. again, the words are {text}. the last word is {row[-1]}.",
                    f"copy of {text}: {text}.",
                    f"{name} wrote down {text}. {other} wrote down {', '.join(row)}.",
                    f"the words {text} backwards are {' '.join(reversed(row))}.",
                    f"the first word of {text} is {row[0]}. the last word is {row[-1]}.",
                    f"{name} has {number} {thing} and {other} has none. it is {name} who has {number} {thing}.",
                    f'"Hello {name}," said {other}. "Hello {other}," said {name}.',
                )
            )
        )
    return " ".join(capitalise_sentences(line) for line in lines)


def categories(facts: Facts, rng: Random) -> str:
    """Members of one category, as lists with numbers or with commas."""
    blocks = []
    for category in rng.sample(list(WORD_CATEGORIES), 4):
        words = rng.sample(WORD_CATEGORIES[category], rng.randint(3, 6))
        shape = rng.randrange(4)
        if shape == 0:
            blocks.append(f"Some {category}:\n" + "\n".join(f"{i}. {word}" for i, word in enumerate(words, 1)))
        elif shape == 1:
            blocks.append(f"A list of {len(words)} {category}: {', '.join(words)}.")
        elif shape == 2:
            blocks.append(f"Among the {category} are {', '.join(words[:-1])} and {words[-1]}.")
        else:
            blocks.append(" ".join(f"One of the {category} is {word}." for word in words[:4]))
    return "\n".join(blocks)


def opposites(facts: Facts, rng: Random) -> str:
    """Words and their opposites."""
    lines = []
    for _ in range(rng.randint(6, 9)):
        word = rng.choice(list(OPPOSITES))
        other = OPPOSITES[word]
        lines.append(
            rng.choice(
                (
                    f"the opposite of {word} is {other}.",
                    f"the word {word} is the opposite of {other}.",
                    f"what is not {word} may be {other}.",
                    f"the words {word} and {other} are opposites.",
                )
            )
        )
    return " ".join(capitalise_sentences(line) for line in lines)


def _sum(rng: Random) -> str:
    a, b = rng.randint(0, MAX_NUMBER), rng.randint(0, MAX_NUMBER)
    if rng.random() < 0.55:
        return capitalise_sentences(rng.choice(SUMS).format(a=a, b=b, c=a + b))
    a, b = max(a, b), min(a, b)
    return capitalise_sentences(rng.choice(DIFFERENCES).format(a=a, b=b, c=a - b))


def _any_word(rng: Random) -> str:
    """A word that questions may contain: a thing, a name, a town or a number."""
    kind = rng.randrange(4)
    if kind == 0:
        return str(rng.randint(0, MAX_NUMBER))
    return rng.choice((LIST_WORDS, PEOPLE, TOWNS)[kind - 1])


def _repeated_word(word: str, rng: Random) -> str:
    times = rng.randint(2, 5)
    return f"the word {word} said {times} times is {' '.join([word] * times)}."
