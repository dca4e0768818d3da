"""Measured scaling curves: least-squares lines, their fit, and tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class ScalingCurve:
    """The cost `y` in `unit` of `what` at each point `x`.

    `slope` and `fixed` (intercept) are those of the least-squares line, `r2` is the fraction of variance it explains;
    `exponent` is the slope of the log-log fit: 1 for a proportional cost, less with a fixed part. It is None if a point
    is 0 or the cost falls.
    """

    what: str
    against: str
    unit: str
    x: list[float]
    y: list[float]
    slope: float
    fixed: float
    r2: float
    exponent: float | None

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def fit_curve(what: str, against: str, unit: str, x: Sequence[float], y: Sequence[float]) -> ScalingCurve:
    """Fit a line to at least three points."""
    xs, ys = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    slope, intercept = np.polyfit(xs, ys, 1)
    residuals, deviations = ys - (slope * xs + intercept), ys - ys.mean()
    r2 = 1 - float(residuals @ residuals) / float(deviations @ deviations) if deviations.any() else 1.0
    proportional = slope > 0 and xs.min() > 0 and ys.min() > 0
    exponent = float(np.polyfit(np.log(xs), np.log(ys), 1)[0]) if proportional else None
    return ScalingCurve(
        what, against, unit, list(map(float, x)), list(map(float, y)), float(slope), float(intercept), r2, exponent
    )


def curve_table(curves: Sequence[ScalingCurve]) -> str:
    """Markdown: a row per curve, its points as `x: y`."""
    lines = ["| step | against | measured | slope | intercept | R² | exponent |", "|---|---|---|---|---|---|---|"]
    for one in curves:
        points = ", ".join(f"{_short(x)}: {_short(y)}" for x, y in zip(one.x, one.y, strict=True))
        cells = [one.what, one.against, f"{points} {one.unit}", f"{_short(one.slope)} {one.unit}",
                 f"{_short(one.fixed)} {one.unit}", f"{one.r2:.3f}",
                 "" if one.exponent is None else f"{one.exponent:.2f}"]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _short(number: float) -> str:
    """Three significant digits, without an exponent."""
    if number == 0 or not np.isfinite(number):
        return f"{number:g}"
    digits = max(0, 2 - int(np.floor(np.log10(abs(number)))))
    return f"{number:,.{digits}f}".rstrip("0").rstrip(".") if digits else f"{number:,.0f}"
