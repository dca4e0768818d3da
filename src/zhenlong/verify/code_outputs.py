"""Is what a program printed, or returned, what the test expects? The comparisons of LiveCodeBench and of APPS."""

from __future__ import annotations

import math
from collections.abc import Iterable
from decimal import Decimal, InvalidOperation
from typing import Any, Final

RELATIVE, ABSOLUTE = 1e-5, 1e-8  # of numpy.allclose, which APPS compares with
PLACES: Final = 3


def same_lines(said: str, expected: str) -> bool:
    """Whether two outputs are equal line by line: stripped, or else as rows of exact decimal numbers.

    LiveCodeBench/LiveCodeBench:lcb_runner/evaluation/testing_util.py.
    """
    ours, theirs = ([line.strip() for line in text.strip().split("\n")] for text in (said, expected))
    if len(ours) != len(theirs):
        return False
    return all(a == b or _same_numbers(a, b) for a, b in zip(ours, theirs, strict=True))


def same_value(said: Any, expected: Any) -> bool:
    """Whether a returned value is the expected one; a tuple counts as a list (not within others). The same source."""
    return _equal(list(said) if isinstance(said, tuple) else said, expected)


def same_lines_apps(said: str, expected: str) -> bool:
    """Whether two outputs are equal to APPS, which is lenient: hendrycks/apps:eval/testing_util.py.

    Equal when stripped; or when their non-empty lines are equal; or close as one number a line; or equal as sets of
    lines, each a set of words, as texts or as numbers rounded to three places.
    """
    ours = said.splitlines()
    if (
        "\n".join(ours).strip() == expected.strip()
        or "\n".join(line.strip() for line in ours).strip() == expected.strip()
    ):
        return True
    theirs = [line.strip() for line in expected.split("\n") if line]
    filled = [line for line in ours if line]
    if theirs in (ours, filled) or _close(filled, theirs):
        return True
    words = [line.split() for line in filled if line.split()]
    wanted = [line.split() for line in theirs]
    return _sets(words, str) == _sets(wanted, str) or _same_rounded(words, wanted)


def same_value_apps(said: Any, expected: Any) -> bool:
    """Whether a returned value is the expected one to APPS, whose expected values may be wrapped in a list."""
    value = list(said) if isinstance(said, tuple) else said
    if _equal(value, expected):
        return True
    if not isinstance(expected, list) or not expected:
        return False
    if _equal(value, expected[0]):
        return True
    tuples = isinstance(value, list) and bool(value) and isinstance(value[0], tuple)
    return (
        tuples and all(isinstance(row, tuple | list) for row in value) and [list(row) for row in value] == expected[0]
    )


def with_whole_keys(given: Any, expected: Any) -> tuple[Any, Any]:
    """APPS's arguments and expected value where they are one dictionary: JSON made texts of its whole numbers."""
    if isinstance(given, list) and given and isinstance(given[0], dict):
        given = [_whole(given[0])]
    if isinstance(expected, list) and expected and isinstance(expected[0], dict):
        expected = expected[0]
    return given, [_whole(expected)] if isinstance(expected, dict) else expected


def _whole(given: dict[Any, Any]) -> dict[Any, Any]:
    try:
        return {int(key): value for key, value in given.items()}
    except ValueError:
        return given


def _equal(value: Any, expected: Any) -> bool:
    try:
        return bool(value == expected)
    except RecursionError:
        return False


def _same_numbers(ours: str, theirs: str) -> bool:
    try:
        return [Decimal(word) for word in ours.split()] == [Decimal(word) for word in theirs.split()]
    except (InvalidOperation, ValueError):  # the second: a signalling NaN is compared
        return False


def _close(ours: list[str], theirs: list[str]) -> bool:
    try:
        pairs = [(float(a), float(b)) for a, b in zip(ours, theirs, strict=True)]
    except ValueError:
        return False
    return all(
        a == b or abs(a - b) <= ABSOLUTE + RELATIVE * abs(b) for a, b in pairs if not math.isnan(a + b)
    ) and not any(math.isnan(a) or math.isnan(b) for a, b in pairs)


def _same_rounded(ours: list[list[str]], theirs: list[list[str]]) -> bool:
    try:
        return _sets(ours, _rounded) == _sets(theirs, _rounded)
    except (ValueError, OverflowError):
        return False


def _sets(rows: Iterable[list[str]], form: Any) -> set[frozenset[Any]]:
    return {frozenset(form(word) for word in row) for row in rows}


def _rounded(word: str) -> float:
    return round(float(word), PLACES)
