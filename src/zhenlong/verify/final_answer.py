"""Which part of a worked solution is its answer? The conventions of GSM8K, MATH, AIME and lettered choices."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from typing import Final

HASHES: Final = re.compile(r"#### (\-?[0-9\.\,]+)")  # openai/grade-school-math:grade_school_math/dataset.py
NUMBER: Final = re.compile(r"(-?[$0-9.,]{2,})|(-?[0-9]+)")  # lm-evaluation-harness, gsm8k `flexible-extract`
_BOX: Final = re.compile(r"\\(?:boxed|fbox)(?: |(?=\{))")
LETTER_PATTERNS: Final = (r"answer is \(?({letters})\)?", r".*[aA]nswer:\s*\$?\(?({letters})\b")
_LAST_LETTER: Final = r"\b({letters})\b(?!.*\b({letters})\b)"


def gsm8k_answer(text: str) -> str | None:
    """The number after the first `#### `, its commas gone; None where there is none (GSM8K's own rule)."""
    found = HASHES.search(text)
    return found[1].replace(",", "") if found else None


def gsm8k_strict(text: str) -> str:
    """lm-evaluation-harness's `strict-match`: the same number, without `$` and a final full stop; empty for none."""
    found = HASHES.search(text)
    return _plain(found[1]) if found else ""


def gsm8k_flexible(text: str) -> str:
    """lm-evaluation-harness's `flexible-extract`: the last number anywhere; empty for none."""
    found = NUMBER.findall(text)
    return _plain((found[-1][0] or found[-1][1]).strip()) if found else ""


def last_boxed(text: str) -> str | None:
    r"""What stands in the last `\boxed{}` (or `\fbox{}`), braces matched; None without one, or where it never closes.

    `\boxed 7$` has no braces and goes on to the next `$` (hendrycks/math: dataset/util.py).
    """
    places = list(_BOX.finditer(text))
    if not places:
        return None
    rest = text[places[-1].end() :]
    if not rest.lstrip(" ").startswith("{"):
        return rest.split("$")[0]
    return _braced(rest.lstrip(" "))


def between_dollars(text: str) -> str:
    """The text between the first and the last `$`, all of it where there are fewer than two (lm-eval)."""
    first, last = text.find("$"), text.rfind("$")
    return text[first + 1 : last] if first < last else text


def integer(text: str | None) -> int | None:
    r"""The whole number that an answer such as `\text{073}`, `1{,}024` or `$204.$` is; None where it is none."""
    if text is None:
        return None
    plain = re.sub(r"\\(?:text|mathrm|mathbf|textbf)\{([^{}]*)\}", r"\1", text)
    plain = re.sub(r"\\[,!;: ()]|\{,\}|\^\{?\\circ\}?|[$,\s]", "", plain).rstrip(".")
    return int(plain) if re.fullmatch(r"[+-]?\d+", plain, re.ASCII) else None


def letter_answer(
    text: str, options: int, patterns: Sequence[str] = LETTER_PATTERNS, *, last: bool = True
) -> str | None:
    """The letter of the choice that an answer settles on, None where it settles on none.

    `patterns` are tried in turn, the first that matches decides; `{letters}` in them is the class of the first
    `options` letters. With `last`, the last capital letter that stands alone is tried at the end: MMLU-Pro's chain
    (TIGER-AI-Lab/MMLU-Pro: evaluate_from_api.py).
    """
    letters = f"[A-{chr(ord('A') + options - 1)}]"
    for pattern in patterns:
        found = re.search(pattern.replace("{letters}", letters), text)
        if found:
            return found[1].upper()
    found = re.search(_LAST_LETTER.replace("{letters}", letters), text, re.DOTALL) if last else None
    return found[1] if found else None


def guessed_letter(key: str, options: int) -> str:
    """A letter drawn for a question by its id alone: the same in every run and for every model."""
    return chr(ord("A") + random.Random(key).randrange(options))


def _plain(number: str) -> str:
    return re.sub(r"\.$", "", number.replace(",", "").replace("$", ""))


def _braced(text: str) -> str | None:
    depth = 0
    for place, character in enumerate(text):
        depth += (character == "{") - (character == "}")
        if depth == 0:
            return text[1:place]
    return None
