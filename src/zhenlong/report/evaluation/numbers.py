"""How measured numbers are written: as many digits as their interval is worth."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from statistics import median

from zhenlong.evaluate.statistics import Interval
from zhenlong.report.costs import scaled
from zhenlong.report.measures import MINUS, NONE

LARGE = 1e5  # from here a number is written with a prefix


def half_width(value: Interval) -> float | None:
    """Half the width of an interval; None where there is none."""
    half = (value.ci95[1] - value.ci95[0]) / 2
    return half if math.isfinite(half) else None


def digits_for(values: Iterable[Interval]) -> int:
    """Decimals for numbers that stand in a row: two significant ones of their typical half-width, three at most.

    Numbers below 0.1 have as many more as they need.
    """
    several = [one for one in values if math.isfinite(one.mean)]
    halves = [half for half in map(half_width, several) if half]
    largest = max((abs(one.mean) for one in several), default=1.0)
    most = 3 if largest >= 0.1 or largest == 0 else 4 if largest >= 0.01 else 5
    wanted = 1 - math.floor(math.log10(median(halves))) if halves else most - math.floor(math.log10(max(largest, 1.0)))
    return min(max(wanted, 0), most)


def number(value: float | None, digits: int, *, signed: bool = False) -> str:
    """A number with its decimals; a large one with a prefix (12.3 k), none as a dash."""
    if value is None or not math.isfinite(value):
        return NONE
    text = scaled(value) if abs(value) >= LARGE else f"{value:,.{digits}f}"
    if text.startswith("-") and float(text.replace(",", "")[1:].split()[0]) == 0:
        text = text[1:]  # no minus before a number that is 0 as written
    sign = "+" if signed and value > 0 else ""
    return sign + text.replace("-", MINUS)


def with_half(value: Interval, digits: int, *, signed: bool = False) -> tuple[str, str]:
    """A number, and half the width of its interval or nothing."""
    half = half_width(value)
    return number(value.mean, digits, signed=signed), "" if half is None else number(half, digits)


def spoken(value: Interval, digits: int) -> str:
    """A number with its interval in words, for those who hear the page."""
    if not math.isfinite(value.mean):
        return "not measured"
    if half_width(value) is None:
        return number(value.mean, digits)
    low, high = (number(end, digits) for end in value.ci95)
    return f"{number(value.mean, digits)}, 95 % interval {low} to {high}"


def mean(values: Sequence[float]) -> float:
    """The mean; NaN without values."""
    return sum(values) / len(values) if values else math.nan
