"""Addition, subtraction, comparing and sorting of numbers up to 20."""

from __future__ import annotations

import re
from random import Random
from typing import Final

from zhenlong.world.exercises import MAX_NUMBER
from zhenlong.world.facts import Facts
from zhenlong.world.families.question import SLOT_PATTERNS, Family, Slots, answer_phrasings, question_templates
from zhenlong.world.families.response_checks import WHOLE_NUMBER_PATTERN
from zhenlong.world.vocabulary import PEOPLE

NUMBER_FORMATS: Final = ("brackets", "json", "sentence")
COUNTED_THINGS: Final = ("plums", "eggs", "nuts", "coins")


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
    """Asks for a sum in a short story."""
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


def _calculation(name: str, sign: int, texts: tuple[str, ...], answer_templates: tuple[str, ...]) -> Family:
    def result(facts: Facts, slots: Slots) -> str:
        return str(int(slots["a"]) + sign * int(slots["b"]))

    def sample_slots(facts: Facts, rng: Random, given: Slots) -> dict[str, str]:
        a, b = rng.randint(0, MAX_NUMBER), rng.randint(0, MAX_NUMBER)
        if sign < 0:
            a, b = max(a, b), min(a, b)
        return {"a": str(a), "b": str(b), "person": rng.choice(PEOPLE), "thing": rng.choice(COUNTED_THINGS)}

    def wrong_answer(facts: Facts, slots: Slots, rng: Random) -> str:
        return str(abs(int(result(facts, slots)) + rng.choice((1, 2, 3, 10))))

    def is_correct(facts: Facts, slots: Slots, text: str) -> bool:
        numbers, answer = WHOLE_NUMBER_PATTERN.findall(text), result(facts, slots)
        operands = [slots["a"], slots["b"]]
        return numbers == [answer] or (numbers[:-1] in (operands, operands[::-1]) and numbers[-1] == answer)

    return Family(
        name,
        question_templates(*texts),
        SLOT_PATTERNS | {"thing": "|".join(COUNTED_THINGS)},
        sample_slots=sample_slots,
        split_keys=lambda facts, slots: (f"sum:{slots['a']}:{sign}:{slots['b']}",),
        answer=result,
        wrong_answer=wrong_answer,
        phrasings=answer_phrasings(*answer_templates),
        is_correct=is_correct,
        formats=NUMBER_FORMATS,
    )


def compare_family() -> Family:
    """Asks for the bigger or the smaller of two numbers."""

    def pick(facts: Facts, slots: Slots) -> str:
        both = (slots["a"], slots["b"])
        return max(both, key=int) if slots["wanted"] == "bigger" else min(both, key=int)

    def other_than(slots: Slots, value: str) -> str:
        return slots["b"] if value == slots["a"] else slots["a"]

    def sample_slots(facts: Facts, rng: Random, given: Slots) -> dict[str, str]:
        a, b = rng.sample(range(MAX_NUMBER + 1), 2)
        return {"a": str(a), "b": str(b)}

    def is_correct(facts: Facts, slots: Slots, text: str) -> bool:
        answer = pick(facts, slots)
        other = other_than(slots, answer)
        numbers = WHOLE_NUMBER_PATTERN.findall(text)
        compared = rf"{answer} is (?:the )?{slots['wanted']}(?: number)? than {other}\b"
        return numbers == [answer] or (numbers == [answer, other] and bool(re.search(compared, text)))

    def phrasings(facts: Facts, slots: Slots, value: str) -> tuple[str, ...]:
        wanted = slots["wanted"]
        return value, f"{value} is {wanted} than {other_than(slots, value)}.", f"The {wanted} number is {value}."

    return Family(
        "compare",
        tuple(
            template
            for wanted in ("bigger", "smaller")
            for template in question_templates(
                f"Which number is {wanted}, {{a}} or {{b}}?",
                f"Name the {wanted} number of {{a}} and {{b}}.",
                f"Of {{a}} and {{b}}, which is {wanted}?",
                wanted=wanted,
            )
        ),
        SLOT_PATTERNS,
        sample_slots=sample_slots,
        split_keys=lambda facts, slots: (f"compare:{slots['a']}:{slots['b']}",),
        answer=pick,
        wrong_answer=lambda facts, slots, rng: other_than(slots, pick(facts, slots)),
        phrasings=phrasings,
        is_correct=is_correct,
        formats=NUMBER_FORMATS,
    )


def sort_family() -> Family:
    """Asks to sort three to five numbers."""

    def ordered(facts: Facts, slots: Slots) -> str:
        return " ".join(sorted(slots["numbers"].split(), key=int))

    def sample_slots(facts: Facts, rng: Random, given: Slots) -> dict[str, str]:
        return {"numbers": " ".join(map(str, rng.sample(range(MAX_NUMBER + 1), rng.randint(3, 5))))}

    def wrong_answer(facts: Facts, slots: Slots, rng: Random) -> str:
        numbers = ordered(facts, slots).split()
        i = rng.randrange(len(numbers) - 1)
        numbers[i], numbers[i + 1] = numbers[i + 1], numbers[i]
        return " ".join(numbers)

    return Family(
        "sort",
        question_templates(
            "Sort the numbers {numbers}.",
            "Put {numbers} in order.",
            "Write the numbers {numbers} in order.",
            "What is {numbers} in order?",
        ),
        {"numbers": r"\d+(?: \d+)+"},
        sample_slots=sample_slots,
        split_keys=lambda facts, slots: (f"sort:{slots['numbers']}",),
        answer=ordered,
        wrong_answer=wrong_answer,
        phrasings=answer_phrasings("{value}", "In order they are {value}.", "The numbers in order are {value}."),
        is_correct=lambda facts, slots, text: WHOLE_NUMBER_PATTERN.findall(text) == ordered(facts, slots).split(),
        formats=("commas", "brackets", "sentence"),
    )
