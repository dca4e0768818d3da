"""Static SVG charts: they need no script, print sharply and use the page's colours."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from zhenlong.evaluate.results.number_format import format_short
from zhenlong.report.evaluation.number_format import format_decimal

WIDTH, HEIGHT = 300.0, 210.0
LEFT, RIGHT, TOP, BOTTOM = 44.0, 18.0, 8.0, 34.0
LOG_SCALE_RATIO: Final = 30.0  # an axis is logarithmic from this ratio of largest to smallest value
MARKER_SHAPES: Final = (  # a shape per model around the origin, so that colour is not the only distinction
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
    """A data point with its intervals, if any, and its tooltip."""

    x: float
    y: float
    tooltip: str
    y_interval: tuple[float, float] | None = None
    x_interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class Series:
    """The points of one model, with the model's index on the page."""

    model_index: int
    points: Sequence[Point]
    connected: bool = True


@dataclass(frozen=True)
class Axis:
    """The range of an axis, its ticks (value, text) and its title."""

    low: float
    high: float
    ticks: list[tuple[float, str]]
    title: str
    log: bool = False

    def fraction(self, value: float) -> float:
        """The position of a value on the axis: 0 at the low end, 1 at the high end."""
        low, high, at = (math.log(v) if self.log else v for v in (self.low, self.high, value))
        return (at - low) / (high - low)


@dataclass(frozen=True)
class Marker:
    """A model's marker at a position of the chart."""

    x: float
    y: float
    model_index: int
    shape: str
    tooltip: str


@dataclass(frozen=True)
class Chart:
    """The data that the template draws. Lines are (path, colour index)."""

    title: str
    aria_label: str
    x: Axis
    y: Axis
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]
    markers: list[Marker]
    lines: list[tuple[str, int]]
    error_bars: list[tuple[str, int]]
    diagonal: str = ""
    note: str = ""
    frame: dict[str, float] = field(default_factory=lambda: FRAME)


def build_chart(
    title: str,
    series: Sequence[Series],
    axes: tuple[Axis, Axis],
    *,
    aria_label: str,
    diagonal: bool = False,
    note: str = "",
) -> Chart:
    """Build a chart of the series over the axes, x and y."""
    x, y = axes

    def at(px: float, py: float) -> tuple[float, float]:
        return _x_pixel(x, px), _y_pixel(y, py)

    markers, lines, error_bars = [], [], []
    for one in series:
        pixels = [at(point.x, point.y) for point in one.points]
        if one.connected and len(pixels) > 1:
            lines.append((_svg_path(pixels), one.model_index))
        for (px, py), point in zip(pixels, one.points, strict=True):
            markers.append(
                Marker(px, py, one.model_index, MARKER_SHAPES[one.model_index % len(MARKER_SHAPES)], point.tooltip)
            )
            if point.y_interval:
                error_bars.append((_svg_path([at(point.x, end) for end in point.y_interval]), one.model_index))
            if point.x_interval:
                error_bars.append((_svg_path([at(end, point.y) for end in point.x_interval]), one.model_index))
    corner = _svg_path([at(max(x.low, y.low), max(x.low, y.low)), at(min(x.high, y.high), min(x.high, y.high))])
    return Chart(
        title,
        aria_label,
        x,
        y,
        [(_x_pixel(x, value), text) for value, text in x.ticks],
        [(_y_pixel(y, value), text) for value, text in y.ticks],
        markers,
        lines,
        error_bars,
        corner if diagonal else "",
        note,
    )


def axis_for(values: Iterable[float], title: str, *, ticks_at_values: bool = False) -> Axis:
    """An axis that covers all values, with round ticks; logarithmic for a wide range.

    `ticks_at_values`: the ticks are the values themselves.
    """
    finite = [value for value in values if math.isfinite(value)] or [0.0, 1.0]
    low, high = min(finite), max(finite)
    if ticks_at_values:
        edge = (high - low or 1.0) * 0.06
        return Axis(low - edge, high + edge, [(v, format_short(v)) for v in sorted(set(finite))], title)
    if low > 0 and high / low > LOG_SCALE_RATIO:
        powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        ticks = [(10.0**power, _tick_label(10.0**power)) for power in powers[:: -(-len(powers) // 5)]]
        return Axis(10.0 ** powers[0], 10.0 ** powers[-1], ticks, title, log=True)
    step = _nice_step((high - low) / 4 or abs(high) or 1.0)
    first, last = math.floor(low / step), math.ceil(high / step)
    last += last == first
    ticks = [(k * step, _tick_label(k * step, step)) for k in range(first, last + 1)]
    return Axis(first * step, last * step, ticks, title)


def unit_axis(title: str) -> Axis:
    """An axis from 0 to 1."""
    return Axis(0.0, 1.0, [(v, f"{v:g}") for v in (0.0, 0.25, 0.5, 0.75, 1.0)], title)


def _nice_step(wanted: float) -> float:
    power = 10.0 ** math.floor(math.log10(wanted))
    return next(k * power for k in (1, 2, 5, 10) if k * power >= wanted * 0.999)


def _tick_label(value: float, step: float = 0.0) -> str:
    if abs(value) >= 1000 or 0 < abs(value) < 1e-3:
        return (
            format_decimal(value, 0)
            if 1000 <= abs(value) < 1e5
            else f"{value:.0e}"
            if abs(value) < 1
            else format_decimal(value, 0)
        )
    return format_decimal(value, max(0, -math.floor(math.log10(step)))) if step else format_short(value)


def _x_pixel(axis: Axis, value: float) -> float:
    return round(LEFT + axis.fraction(value) * (WIDTH - LEFT - RIGHT), 1)


def _y_pixel(axis: Axis, value: float) -> float:
    return round(HEIGHT - BOTTOM - axis.fraction(value) * (HEIGHT - TOP - BOTTOM), 1)


def _svg_path(pixels: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:g},{y:g}" for x, y in pixels)
