"""Charts as lines and marks in an SVG's own units: they need no script, print sharply and take the page's colours."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from zhenlong.report.evaluation.numbers import number

WIDTH, HEIGHT = 300.0, 210.0
LEFT, RIGHT, TOP, BOTTOM = 44.0, 18.0, 8.0, 34.0
LOG_FROM: Final = 30.0  # largest over smallest value from which an axis is logarithmic
MARKS: Final = (  # a shape for each model, about the origin, so that colour is not all that tells them apart
    "M-4,0a4,4 0 1,0 8,0a4,4 0 1,0 -8,0Z",
    "M-3.5,-3.5H3.5V3.5H-3.5Z",
    "M0,-4.8L4.6,3.4H-4.6Z",
    "M0,-5L5,0L0,5L-5,0Z",
    "M0,4.8L4.6,-3.4H-4.6Z",
    "M-4.5,-1.5H-1.5V-4.5H1.5V-1.5H4.5V1.5H1.5V4.5H-1.5V1.5H-4.5Z",
    "M0,-5L4.8,-1.5L3,4.2H-3L-4.8,-1.5Z",
    "M-4.5,-4.5L0,-2L4.5,-4.5L2,0L4.5,4.5L0,2L-4.5,4.5L-2,0Z",
)


FRAME: Final[dict[str, float]] = {
    "width": WIDTH, "height": HEIGHT, "left": LEFT, "right": WIDTH - RIGHT, "top": TOP, "bottom": HEIGHT - BOTTOM,
}  # fmt: skip


@dataclass(frozen=True)
class Point:
    """A value at a place, with the ends of the intervals that it has; `says` is told where the pointer rests."""

    x: float
    y: float
    says: str
    y_ends: tuple[float, float] | None = None
    x_ends: tuple[float, float] | None = None


@dataclass(frozen=True)
class Series:
    """The points of one model, which is the `place`-th on the page."""

    place: int
    points: Sequence[Point]
    joined: bool = True


@dataclass(frozen=True)
class Axis:
    """The range of an axis, its ticks (value, text) and its title."""

    low: float
    high: float
    ticks: list[tuple[float, str]]
    title: str
    log: bool = False

    def share(self, value: float) -> float:
        """Where on the axis a value lies: 0 at its low end, 1 at its high end."""
        low, high, at = (math.log(v) if self.log else v for v in (self.low, self.high, value))
        return (at - low) / (high - low)


@dataclass(frozen=True)
class Mark:
    """A model's shape at a place of the chart."""

    x: float
    y: float
    place: int
    shape: str
    says: str


@dataclass(frozen=True)
class Chart:
    """What the template draws. Lines are (path, colour's number)."""

    title: str
    spoken: str
    x: Axis
    y: Axis
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]
    marks: list[Mark]
    lines: list[tuple[str, int]]
    bars: list[tuple[str, int]]
    diagonal: str = ""
    note: str = ""
    frame: dict[str, float] = field(default_factory=lambda: FRAME)


def drawn(
    title: str, series: Sequence[Series], x: Axis, y: Axis, *, spoken: str, diagonal: bool = False, note: str = ""
) -> Chart:
    """A chart of the series."""

    def at(px: float, py: float) -> tuple[float, float]:
        return _along(x, px), _up(y, py)

    marks, lines, bars = [], [], []
    for one in series:
        places = [at(point.x, point.y) for point in one.points]
        if one.joined and len(places) > 1:
            lines.append((_path(places), one.place))
        for (px, py), point in zip(places, one.points, strict=True):
            marks.append(Mark(px, py, one.place, MARKS[one.place % len(MARKS)], point.says))
            if point.y_ends:
                bars.append((_path([at(point.x, end) for end in point.y_ends]), one.place))
            if point.x_ends:
                bars.append((_path([at(end, point.y) for end in point.x_ends]), one.place))
    corner = _path([at(max(x.low, y.low), max(x.low, y.low)), at(min(x.high, y.high), min(x.high, y.high))])
    return Chart(
        title,
        spoken,
        x,
        y,
        [(_along(x, value), text) for value, text in x.ticks],
        [(_up(y, value), text) for value, text in y.ticks],
        marks,
        lines,
        bars,
        corner if diagonal else "",
        note,
    )


def axis_over(values: Iterable[float], title: str, *, whole: bool = False) -> Axis:
    """An axis that all values fit on, with round ticks; logarithmic where they span much.

    `whole`: the ticks are the values themselves.
    """
    finite = [value for value in values if math.isfinite(value)] or [0.0, 1.0]
    low, high = min(finite), max(finite)
    if whole:
        edge = (high - low or 1.0) * 0.06
        return Axis(low - edge, high + edge, [(v, f"{v:g}") for v in sorted(set(finite))], title)
    if low > 0 and high / low > LOG_FROM:
        powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        ticks = [(10.0**power, _short(10.0**power)) for power in powers[:: -(-len(powers) // 5)]]
        return Axis(10.0 ** powers[0], 10.0 ** powers[-1], ticks, title, log=True)
    step = _round_step((high - low) / 4 or abs(high) or 1.0)
    first, last = math.floor(low / step), math.ceil(high / step)
    last += last == first
    ticks = [(k * step, _short(k * step, step)) for k in range(first, last + 1)]
    return Axis(first * step, last * step, ticks, title)


def unit_axis(title: str) -> Axis:
    """An axis from 0 to 1."""
    return Axis(0.0, 1.0, [(v, f"{v:g}") for v in (0.0, 0.25, 0.5, 0.75, 1.0)], title)


def _round_step(wanted: float) -> float:
    power = 10.0 ** math.floor(math.log10(wanted))
    return next(k * power for k in (1, 2, 5, 10) if k * power >= wanted * 0.999)


def _short(value: float, step: float = 0.0) -> str:
    if abs(value) >= 1000 or 0 < abs(value) < 1e-3:
        return number(value, 0) if 1000 <= abs(value) < 1e5 else f"{value:.0e}" if abs(value) < 1 else number(value, 0)
    return number(value, max(0, -math.floor(math.log10(step)))) if step else f"{value:g}"


def _along(axis: Axis, value: float) -> float:
    return round(LEFT + axis.share(value) * (WIDTH - LEFT - RIGHT), 1)


def _up(axis: Axis, value: float) -> float:
    return round(HEIGHT - BOTTOM - axis.share(value) * (HEIGHT - TOP - BOTTOM), 1)


def _path(places: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:g},{y:g}" for x, y in places)
