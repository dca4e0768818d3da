"""Sums, differences, comparing and sorting of numbers up to 20."""

from __future__ import annotations

import re
from random import Random
from typing import Final

from zhenlong.world.drills import LARGEST
from zhenlong.world.facts import Facts
from zhenlong.world.families.question import SLOTS, Family, Slots, sayings, wordings
from zhenlong.world.families.reading import NUMBER
from zhenlong.world.vocabulary import PEOPLE

NUMERIC: Final = ("brackets", "json", "sentence")
GOODS: Final = ("plums", "eggs", "nuts", "coins")


def add_family() -> Family:
    """Asks for a + b."""
    return _calculation(
        "add",
        +1,
        ("What is {a} + {b}?", "What is {a} plus {b}?", "Add {a} and {b}.", "What is the sum of {a} and {b}?"),
        ("{value}", "{a} + {b} = {value}.", "The answer is {value}."),
    )


def subtract_family() -> Family:
    """Asks for a - b, with a at least b."""
    return _calculation(
        "subtract",
        -1,
        (
            "What is {a} - {b}?",
            "What is {a} minus {b}?",
            "Take {b} from {a}.",
            "What is left if you take {b} from {a}?",
        ),
        ("{value}", "{a} - {b} = {value}.", "The answer is {value}."),
    )


def story_sum_family() -> Family:
    """Asks for a sum that happens to somebody."""
    return _calculation(
        "story_sum",
        +1,
        (
            "If {person} has {a} {thing} and gets {b} more, how many {thing} are there?",
            "How many {thing} does {person} have after {a} {thing} and {b} more?",
            "There are {a} {thing} and {person} gives {b} more. How many is that?",
        ),
        ("{value}", "There are {value} {thing}.", "{a} + {b} = {value}."),
    )


def _calculation(name: str, sign: int, texts: tuple[str, ...], forms: tuple[str, ...]) -> Family:
    def result(facts: Facts, slots: Slots) -> str:
        return str(int(slots["a"]) + sign * int(slots["b"]))

    def draw(facts: Facts, rng: Random, given: Slots) -> dict[str, str]:
        a, b = rng.randint(0, LARGEST), rng.randint(0, LARGEST)
        if sign < 0:
            a, b = max(a, b), min(a, b)
        return {"a": str(a), "b": str(b), "person": rng.choice(PEOPLE), "thing": rng.choice(GOODS)}

    def miss(facts: Facts, slots: Slots, rng: Random) -> str:
        return str(abs(int(result(facts, slots)) + rng.choice((1, 2, 3, 10))))

    def right(facts: Facts, slots: Slots, text: str) -> bool:
        numbers, answer = NUMBER.findall(text), result(facts, slots)
        operands = [slots["a"], slots["b"]]
        return numbers == [answer] or (numbers[:-1] in (operands, operands[::-1]) and numbers[-1] == answer)

    return Family(
        name,
        wordings(*texts),
        SLOTS | {"thing": "|".join(GOODS)},
        draw=draw,
        keys=lambda facts, slots: (f"sum:{slots['a']}:{sign}:{slots['b']}",),
        value=result,
        miss=miss,
        says=sayings(*forms),
        right=right,
        formats=NUMERIC,
    )


def compare_family() -> Family:
    """Asks for the bigger or the smaller of two numbers."""

    def pick(facts: Facts, slots: Slots) -> str:
        both = (slots["a"], slots["b"])
        return max(both, key=int) if slots["wanted"] == "bigger" else min(both, key=int)

    def other_than(slots: Slots, value: str) -> str:
        return slots["b"] if value == slots["a"] else slots["a"]

    def draw(facts: Facts, rng: Random, given: Slots) -> dict[str, str]:
        a, b = rng.sample(range(LARGEST + 1), 2)
        return {"a": str(a), "b": str(b)}

    def right(facts: Facts, slots: Slots, text: str) -> bool:
        answer = pick(facts, slots)
        other = other_than(slots, answer)
        numbers = NUMBER.findall(text)
        compared = rf"{answer} is (?:the )?{slots['wanted']}(?: number)? than {other}\b"
        return numbers == [answer] or (numbers == [answer, other] and bool(re.search(compared, text)))

    def says(facts: Facts, slots: Slots, value: str) -> tuple[str, ...]:
        wanted = slots["wanted"]
        return value, f"{value} is {wanted} than {other_than(slots, value)}.", f"The {wanted} number is {value}."

    return Family(
        "compare",
        tuple(
            template
            for wanted in ("bigger", "smaller")
            for template in wordings(
                f"Which number is {wanted}, {{a}} or {{b}}?",
                f"Name the {wanted} number of {{a}} and {{b}}.",
                f"Of {{a}} and {{b}}, which is {wanted}?",
                wanted=wanted,
            )
        ),
        SLOTS,
        draw=draw,
        keys=lambda facts, slots: (f"compare:{slots['a']}:{slots['b']}",),
        value=pick,
        miss=lambda facts, slots, rng: other_than(slots, pick(facts, slots)),
        says=says,
        right=right,
        formats=NUMERIC,
    )


def sort_family() -> Family:
    """Asks for three to five numbers in order."""

    def ordered(facts: Facts, slots: Slots) -> str:
        return " ".join(sorted(slots["numbers"].split(), key=int))

    def draw(facts: Facts, rng: Random, given: Slots) -> dict[str, str]:
        return {"numbers": " ".join(map(str, rng.sample(range(LARGEST + 1), rng.randint(3, 5))))}

    def miss(facts: Facts, slots: Slots, rng: Random) -> str:
        numbers = ordered(facts, slots).split()
        i = rng.randrange(len(numbers) - 1)
        numbers[i], numbers[i + 1] = numbers[i + 1], numbers[i]
        return " ".join(numbers)

    return Family(
        "sort",
        wordings(
            "Sort the numbers {numbers}.",
            "Put {numbers} in order.",
            "Write the numbers {numbers} in order.",
            "What is {numbers} in order?",
        ),
        {"numbers": r"\d+(?: \d+)+"},
        draw=draw,
        keys=lambda facts, slots: (f"sort:{slots['numbers']}",),
        value=ordered,
        miss=miss,
        says=sayings("{value}", "In order they are {value}.", "The numbers in order are {value}."),
        right=lambda facts, slots, text: NUMBER.findall(text) == ordered(facts, slots).split(),
        formats=("commas", "brackets", "sentence"),
    )
