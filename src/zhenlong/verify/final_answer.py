"""Extraction of the final answer from a worked solution: GSM8K, MATH, AIME and choice letters."""

from __future__ import annotations

import random
import re
from decimal import Decimal, InvalidOperation
from typing import Final

GSM8K_ANSWER_PATTERN: Final = re.compile(
    r"#### (\-?[0-9\.\,]+)"
)  # openai/grade-school-math:grade_school_math/dataset.py
NUMBER_PATTERN: Final = re.compile(r"(-?[$0-9.,]{2,})|(-?[0-9]+)")  # lm-evaluation-harness, gsm8k `flexible-extract`
_BOXED_PATTERN: Final = re.compile(r"\\(?:boxed|fbox)(?: |(?=\{))")
LETTER_PATTERN_CHAINS: Final = {  # tried in order, the first match decides; `(?s)\A.*` finds the last occurrence
    "mmlu_pro": (  # TIGER-AI-Lab/MMLU-Pro:evaluate_from_api.py
        r"answer is \(?([A-J])\)?",
        r"(?m)^.*[aA]nswer:\s*([A-J])",
        r"(?s)\A.*\b([A-J])\b",
    ),
    "gpqa": (
        r"(?s)\A.*(?i:answer)\W*:\W*(?:\\(?:boxed|text|mathrm)\{)*\W*([A-D])\b",
        r"(?s)\A.*(?i:answer is)\W*(?:\\(?:boxed|text|mathrm)\{)*\W*([A-D])\b",
        r"(?s)\A.*\(([A-D])\)",
    ),
}


def gsm8k_answer(text: str) -> str | None:
    """The number after the first `#### `, without commas; None if there is none (GSM8K's own rule)."""
    found = GSM8K_ANSWER_PATTERN.search(text)
    return found[1].replace(",", "") if found else None


def gsm8k_strict_match(text: str) -> str:
    """lm-evaluation-harness's `strict-match`: the same number, without `$` and a final full stop; empty if none."""
    found = GSM8K_ANSWER_PATTERN.search(text)
    return _clean_number(found[1]) if found else ""


def gsm8k_flexible_extract(text: str) -> str:
    """lm-evaluation-harness's `flexible-extract`: the last number anywhere; empty if none."""
    found = NUMBER_PATTERN.findall(text)
    return _clean_number((found[-1][0] or found[-1][1]).strip()) if found else ""


def numbers_equal(one: str, other: str) -> bool:
    """Whether two texts are the same decimal number; what is no plain number of at most 400 digits equals nothing."""
    if not all(re.fullmatch(r"-?\d{0,400}(?:\.\d{0,400})?", text) for text in (one, other)):
        return False
    try:
        return Decimal(one) == Decimal(other)
    except InvalidOperation:  # no digit
        return False


def last_boxed(text: str) -> str | None:
    r"""The content of the last `\boxed{}` (or `\fbox{}`) with matched braces; None without one, or if it is unclosed.

    `\boxed 7$` without braces extends to the next `$` (hendrycks/math: dataset/util.py).
    """
    matches = list(_BOXED_PATTERN.finditer(text))
    if not matches:
        return None
    rest = text[matches[-1].end() :]
    if not rest.lstrip(" ").startswith("{"):
        return rest.split("$")[0]
    return matched_braces(rest.lstrip(" "))


def between_dollars(text: str) -> str:
    """The text between the first and the last `$`, or the whole text if there are fewer than two (lm-eval)."""
    first, last = text.find("$"), text.rfind("$")
    return text[first + 1 : last] if first < last else text


def parse_integer(text: str | None) -> int | None:
    r"""The integer value of an answer such as `\text{073}`, `1{,}024` or `$204.$`; None if it is no integer."""
    if text is None:
        return None
    plain = re.sub(r"\\(?:text|mathrm|mathbf|textbf)\{([^{}]*)\}", r"\1", text)
    plain = re.sub(r"\\[,!;: ()]|\{,\}|\^\{?\\circ\}?|[$,\s]", "", plain).rstrip(".")
    return int(plain) if re.fullmatch(r"[+-]?\d+", plain, re.ASCII) else None


def extract_choice_letter(text: str, chain: str) -> str | None:
    """The choice letter found by one of the `LETTER_PATTERN_CHAINS`; None if no pattern matches."""
    for pattern in LETTER_PATTERN_CHAINS[chain]:
        found = re.search(pattern, text)
        if found:
            return found[1]
    return None


def random_choice_letter(key: str, num_choices: int) -> str:
    """A random letter seeded by the question's id: the same in every run and for every model."""
    return chr(ord("A") + random.Random(key).randrange(num_choices))


def _clean_number(number: str) -> str:
    return re.sub(r"\.$", "", number.replace(",", "").replace("$", ""))


def matched_braces(text: str) -> str | None:
    """The content of the braces that a text begins with; None if they are not closed."""
    depth = 0
    for place, character in enumerate(text):
        depth += (character == "{") - (character == "}")
        if depth == 0:
            return text[1:place]
    return None
