"""Numbers as a terminal, an axis and a table show them: no exponents, no digits that say nothing."""

from __future__ import annotations

import math


def format_short(value: float | None, digits: int = 3) -> str:
    """About `digits` significant digits, thousands with commas, never an exponent; a dash for an unknown value."""
    if value is None or not math.isfinite(value):
        return "-"
    if abs(value) < 1e-12:
        return "0"
    decimals = digits - 1 - math.floor(math.log10(abs(value)))
    rounded = round(value, decimals) if decimals > 0 else value
    text = f"{rounded:,.{max(0, decimals)}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
