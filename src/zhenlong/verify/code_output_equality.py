"""Comparison of printed outputs with the expected ones, by the rules of LiveCodeBench and of APPS.

Returned values are compared within the sandbox (sandbox/guest/value_equality.py).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from decimal import Decimal, InvalidOperation
from typing import Any, Final

RTOL, ATOL = 1e-5, 1e-8  # tolerances of numpy.allclose, which APPS uses
DECIMALS: Final = 3


def stdout_equal(output: str, expected: str) -> bool:
    """Whether two outputs are equal line by line: stripped, or else as rows of exact decimal numbers.

    LiveCodeBench/LiveCodeBench:lcb_runner/evaluation/testing_util.py.
    """
    ours, theirs = ([line.strip() for line in text.strip().split("\n")] for text in (output, expected))
    if len(ours) != len(theirs):
        return False
    return all(a == b or _decimals_equal(a, b) for a, b in zip(ours, theirs, strict=True))


def stdout_equal_apps(output: str, expected: str) -> bool:
    """Whether two outputs are equal by APPS's lenient rule: hendrycks/apps:eval/testing_util.py.

    Equal after stripping; or with equal non-empty lines; or close as one number per line; or equal as sets of lines,
    each a set of words, as texts or as numbers rounded to three decimals.
    """
    output_lines = output.splitlines()
    if (
        "\n".join(output_lines).strip() == expected.strip()
        or "\n".join(line.strip() for line in output_lines).strip() == expected.strip()
    ):
        return True
    expected_lines = [line.strip() for line in expected.split("\n") if line]
    nonempty_lines = [line for line in output_lines if line]
    if expected_lines in (output_lines, nonempty_lines) or _allclose(nonempty_lines, expected_lines):
        return True
    output_words = [line.split() for line in nonempty_lines if line.split()]
    expected_words = [line.split() for line in expected_lines]
    return _set_of_sets(output_words, str) == _set_of_sets(expected_words, str) or _rounded_equal(
        output_words, expected_words
    )


def restore_integer_keys(given: Any, expected: Any) -> tuple[Any, Any]:
    """Restore integer keys in APPS's arguments and expected value: JSON turned dictionary keys into strings."""
    if isinstance(given, list) and given and isinstance(given[0], dict):
        given = [_integer_keys(given[0])]
    if isinstance(expected, list) and expected and isinstance(expected[0], dict):
        expected = expected[0]
    return given, [_integer_keys(expected)] if isinstance(expected, dict) else expected


def _integer_keys(given: dict[Any, Any]) -> dict[Any, Any]:
    try:
        return {int(key): value for key, value in given.items()}
    except ValueError:
        return given


def _decimals_equal(ours: str, theirs: str) -> bool:
    try:
        return [Decimal(word) for word in ours.split()] == [Decimal(word) for word in theirs.split()]
    except (InvalidOperation, ValueError, OverflowError):  # also the comparison of a signalling NaN
        return False


def _allclose(ours: list[str], theirs: list[str]) -> bool:
    try:
        pairs = [(float(a), float(b)) for a, b in zip(ours, theirs, strict=True)]
    except ValueError:
        return False
    return all(a == b or abs(a - b) <= ATOL + RTOL * abs(b) for a, b in pairs if not math.isnan(a + b)) and not any(
        math.isnan(a) or math.isnan(b) for a, b in pairs
    )


def _rounded_equal(ours: list[list[str]], theirs: list[list[str]]) -> bool:
    try:
        return _set_of_sets(ours, _rounded) == _set_of_sets(theirs, _rounded)
    except (ValueError, OverflowError):
        return False


def _set_of_sets(rows: Iterable[list[str]], form: Any) -> set[frozenset[Any]]:
    return {frozenset(form(word) for word in row) for row in rows}


def _rounded(word: str) -> float:
    return round(float(word), DECIMALS)
