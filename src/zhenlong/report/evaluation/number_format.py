"""Number formats: as many digits as the interval justifies."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from statistics import median

from zhenlong.evaluate.statistics.intervals import Interval
from zhenlong.report.cost_table import format_si
from zhenlong.report.labels import MINUS_SIGN, MISSING_TEXT

SI_PREFIX_FROM = 1e5  # numbers from here on get an SI prefix


def half_width(value: Interval) -> float | None:
    """Half the width of an interval; None if there is none."""
    half = (value.ci95[1] - value.ci95[0]) / 2
    return half if math.isfinite(half) else None


def decimals_for(values: Iterable[Interval]) -> int:
    """Decimals for the numbers of a row: two significant digits of their typical half-width, at most three decimals.

    Numbers below 0.1 get more decimals as needed.
    """
    several = [one for one in values if math.isfinite(one.mean)]
    halves = [half for half in map(half_width, several) if half]
    largest = max((abs(one.mean) for one in several), default=1.0)
    max_decimals = 3 if largest >= 0.1 or largest == 0 else 4 if largest >= 0.01 else 5
    wanted = (
        1 - math.floor(math.log10(median(halves)))
        if halves
        else max_decimals - math.floor(math.log10(max(largest, 1.0)))
    )
    return min(max(wanted, 0), max_decimals)


def format_decimal(value: float | None, digits: int, *, signed: bool = False) -> str:
    """A number with `digits` decimals; a large one with a prefix (12.3 k), None as a dash."""
    if value is None or not math.isfinite(value):
        return MISSING_TEXT
    text = format_si(value) if abs(value) >= SI_PREFIX_FROM else f"{value:,.{digits}f}"
    if text.startswith("-") and float(text.replace(",", "")[1:].split()[0]) == 0:
        text = text[1:]  # no minus sign on a number that rounds to 0
    sign = "+" if signed and value > 0 else ""
    return sign + text.replace("-", MINUS_SIGN)


def format_with_half_width(value: Interval, digits: int, *, signed: bool = False) -> tuple[str, str]:
    """A number, and the half-width of its interval or an empty text."""
    half = half_width(value)
    if not math.isfinite(value.mean):
        return "not observed", ""
    return format_decimal(value.mean, digits, signed=signed), "" if half is None else format_decimal(half, digits)


def describe_interval(value: Interval, digits: int) -> str:
    """A number with its interval in words, for screen readers."""
    if not math.isfinite(value.mean):
        return "not observed"
    if half_width(value) is None:
        return format_decimal(value.mean, digits)
    low, high = (format_decimal(end, digits) for end in value.ci95)
    return f"{format_decimal(value.mean, digits)}, 95 % interval {low} to {high}"


def mean_or_nan(values: Sequence[float]) -> float:
    """The mean; NaN without values."""
    return sum(values) / len(values) if values else math.nan
