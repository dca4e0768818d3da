"""The result table of a summary, measures by models, for terminal, Markdown and page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

from rich.console import Group
from rich.table import Table
from rich.text import Text

from zhenlong.report.labels import (
    FALL,
    GAIN_INFIX,
    MEASURE_LABELS,
    MINUS_SIGN,
    RISE,
    MeasureLabel,
    NumberKind,
    display_name,
    format_interval,
    format_measure,
    interval_ends,
    mean_value,
    measure_label,
    significance,
)

MODELS_PER_TABLE: Final = 5  # columns of a terminal table
DIRECTION_CLASSES: Final = {RISE: "up", FALL: "down"}


@dataclass(frozen=True)
class ResultCell:
    """One model's value of one measure: mean, interval, n, and for a gain its significance."""

    mean: str
    interval: str
    significance: str
    n: int | None
    value: Any  # as in the summary; None if not measured

    @property
    def direction(self) -> str:
        """ "up" or "down" for a gain that differs from 0, else empty."""
        return DIRECTION_CLASSES.get(self.significance, "")


@dataclass(frozen=True)
class ResultRow:
    """One measure for all models."""

    key: str
    measure: MeasureLabel
    cells: list[ResultCell]
    is_gain: bool


@dataclass(frozen=True)
class SummaryTable:
    """Models in the summary's order; known measures first, then unknown ones, gains last."""

    models: list[str]
    rows: list[ResultRow]


@dataclass(frozen=True)
class ScalarResult:
    """A labelled number that belongs to no model of the table."""

    label: str
    text: str
    detail: str = ""


def summary_table(summary: Mapping[str, Any]) -> SummaryTable:
    """The table of `summary["models"]`; empty if there is none."""
    found = summary.get("models")
    found = found if isinstance(found, Mapping) else {}
    models = {str(name): values for name, values in found.items() if isinstance(values, Mapping)}
    seen = list(dict.fromkeys(key for values in models.values() for key in values))
    known = [key for key in MEASURE_LABELS if key in seen]
    others = [key for key in seen if key not in MEASURE_LABELS]
    keys = known + sorted(others, key=lambda key: GAIN_INFIX in key)  # stable sort: keeps the order of appearance
    rows = [_row(key, list(models.values())) for key in keys]
    measured = [row for row in rows if any(cell.value is not None for cell in row.cells)]
    return SummaryTable([display_name(name) for name in models], measured)


def scalar_results(summary: Mapping[str, Any], prefix: str = "") -> list[ScalarResult]:
    """Every measure outside the table, such as the reward model's accuracy, labelled by its path."""
    scalars: list[ScalarResult] = []
    for key, value in summary.items():
        label = f"{prefix}{_scalar_label(key, bool(prefix))}"
        if isinstance(value, Mapping) and "mean" not in value:
            scalars += scalar_results(value, f"{label}, ") if key != "models" else []
        elif key not in ("seconds", "seed", "n") and mean_value(value) is not None:
            kind = measure_label(_measure_key(key, prefix)).kind
            text = f"{value:,}" if isinstance(value, int) else format_measure(mean_value(value), kind)
            scalars.append(ScalarResult(label, text, _detail(value, kind)))
    return scalars


def terminal_table(summary: Mapping[str, Any]) -> Group:
    """The results for a terminal of 80 columns: means with the half-width of their 95 % intervals.

    If the models do not fit into one table, several are printed below each other.
    """
    results = summary_table(summary)
    num_tables = -(-len(results.models) // MODELS_PER_TABLE)
    boundaries = [len(results.models) * group // num_tables for group in range(num_tables + 1)]  # as equal as possible
    parts = [_terminal_block(results, slice(*bounds)) for bounds in pairwise(boundaries)]
    return Group(*parts, Text("± half of the 95 % interval; * a significant gain or loss", style="italic"))


def _terminal_block(results: SummaryTable, models: slice) -> Table:
    table = Table(box=None, padding=(0, 0, 0, 1), pad_edge=False)
    table.add_column("", max_width=20)
    for model in results.models[models]:
        table.add_column(model, justify="right", no_wrap=True)
    for row in results.rows:
        label = row.measure.label.replace("Gold reward: g", "G")
        table.add_row(label, *[_terminal_cell(cell, row) for cell in row.cells[models]])
    return table


def summary_markdown(summary: Mapping[str, Any]) -> str:
    """The results as a Markdown table, followed by a list of the other numbers."""
    results = summary_table(summary)
    lines = []
    if results.rows:
        lines += [markdown_row(["", *results.models]), markdown_row(["---", *["---:"] * len(results.models)])]
        lines += [
            markdown_row([row.measure.label, *[_markdown_cell(cell) for cell in row.cells]]) for row in results.rows
        ]
        lines += ["", "Brackets: 95 % interval."]
    scalars = scalar_results(summary)
    lines += [""] * bool(lines and scalars)
    lines += [
        f"- {escape_markdown(fact.label)}: {fact.text}" + (f" ({fact.detail})" if fact.detail else "")
        for fact in scalars
    ]
    return "\n".join(lines) + "\n"


def markdown_row(cells: Sequence[str]) -> str:
    """A row of a Markdown table with escaped cells."""
    return "| " + " | ".join(escape_markdown(cell) for cell in cells) + " |"


def escape_markdown(text: str) -> str:
    """Text as one escaped line of Markdown."""
    return "".join(f"\\{c}" if c in "|*_`<" else c for c in " ".join(text.splitlines()))


def _row(key: str, models: Sequence[Mapping[str, Any]]) -> ResultRow:
    measure, is_gain = measure_label(key), GAIN_INFIX in key
    return ResultRow(key, measure, [_cell(values.get(key), measure, is_gain) for values in models], is_gain)


def _cell(value: Any, measure: MeasureLabel, is_gain: bool) -> ResultCell:
    mean = mean_value(value)
    n = value.get("n") if isinstance(value, Mapping) else None
    return ResultCell(
        mean=format_measure(mean, measure.kind, signed=is_gain),
        interval=format_interval(value, measure.kind, signed=is_gain),
        significance=significance(value) if is_gain else "",
        n=n if isinstance(n, int) else None,
        value=None if mean is None else value,
    )


def _terminal_cell(cell: ResultCell, row: ResultRow) -> Text:
    ends, mean = interval_ends(cell.value), mean_value(cell.value)
    text = cell.mean
    if ends is not None and mean is not None:
        scale, digits = (100, 0) if row.measure.kind == "fraction" else (1, 2)
        sign = "+" if row.is_gain else ""
        text = f"{scale * mean:{sign}.{digits}f}±{scale * (ends[1] - ends[0]) / 2:.{digits}f}".replace("-", MINUS_SIGN)
        text += " %" if row.measure.kind == "fraction" else ""
    style = {"up": "green", "down": "red"}.get(cell.direction, "")
    return Text(text + ("*" if cell.direction else ""), style=style)


def _markdown_cell(cell: ResultCell) -> str:
    return f"{cell.mean} [{cell.interval}]" if cell.interval else cell.mean


def _scalar_label(key: str, nested: bool) -> str:
    label = display_name(key) if display_name(key) != key else measure_label(key).label
    return label[:1].lower() + label[1:] if nested and not label.isupper() else label


def _measure_key(key: str, prefix: str) -> str:
    """The key of the measure; numbers by strength belong to the measure above them, an accuracy."""
    return "accuracy" if "by strength" in prefix else key


def _detail(value: Any, kind: NumberKind) -> str:
    interval = format_interval(value, kind)
    n = value.get("n") if isinstance(value, Mapping) else None
    return "; ".join(filter(None, (interval and f"95 % interval {interval}", n and f"n = {n}")))
