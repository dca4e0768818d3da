"""How measured numbers are written: as many digits as their interval is worth."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from statistics import median

from zhenlong.evaluate.statistics.intervals import Interval
from zhenlong.report.cost_table import format_si
from zhenlong.report.labels import MINUS_SIGN, MISSING_TEXT

SI_PREFIX_FROM = 1e5  # from here a number is written with a prefix


def half_width(value: Interval) -> float | None:
    """Half the width of an interval; None where there is none."""
    half = (value.ci95[1] - value.ci95[0]) / 2
    return half if math.isfinite(half) else None


def decimals_for(values: Iterable[Interval]) -> int:
    """Decimals for numbers that stand in a row: two significant ones of their typical half-width, three at most.

    Numbers below 0.1 have as many more as they need.
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
    """A number with its decimals; a large one with a prefix (12.3 k), none as a dash."""
    if value is None or not math.isfinite(value):
        return MISSING_TEXT
    text = format_si(value) if abs(value) >= SI_PREFIX_FROM else f"{value:,.{digits}f}"
    if text.startswith("-") and float(text.replace(",", "")[1:].split()[0]) == 0:
        text = text[1:]  # no minus before a number that is 0 as written
    sign = "+" if signed and value > 0 else ""
    return sign + text.replace("-", MINUS_SIGN)


def format_with_half_width(value: Interval, digits: int, *, signed: bool = False) -> tuple[str, str]:
    """A number, and half the width of its interval or nothing."""
    half = half_width(value)
    return format_decimal(value.mean, digits, signed=signed), "" if half is None else format_decimal(half, digits)


def describe_interval(value: Interval, digits: int) -> str:
    """A number with its interval in words, for those who hear the page."""
    if not math.isfinite(value.mean):
        return "not measured"
    if half_width(value) is None:
        return format_decimal(value.mean, digits)
    low, high = (format_decimal(end, digits) for end in value.ci95)
    return f"{format_decimal(value.mean, digits)}, 95 % interval {low} to {high}"


def mean(values: Sequence[float]) -> float:
    """The mean; NaN without values."""
    return sum(values) / len(values) if values else math.nan
