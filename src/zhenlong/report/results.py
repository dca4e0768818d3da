"""The result table of a summary: measures down, models across; on the terminal, as Markdown, and for the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

from rich.console import Group
from rich.table import Table
from rich.text import Text

from zhenlong.report.measures import (
    DOWN,
    GAIN,
    MEASURES,
    MINUS,
    UP,
    Kind,
    Measure,
    ends_of,
    mean_of,
    measure_named,
    name_of,
    significance,
    written,
    written_interval,
)

ACROSS: Final = 5  # models beside each other on a terminal
DIRECTIONS: Final = {UP: "up", DOWN: "down"}


@dataclass(frozen=True)
class Cell:
    """One model's value of one measure: its mean, its interval, for a gain what the interval says, and its n."""

    mean: str
    interval: str
    significance: str
    n: int | None
    value: Any  # as the summary has it; None where the model was not measured

    @property
    def direction(self) -> str:
        """ "up" or "down" for a gain that differs from 0, else empty."""
        return DIRECTIONS.get(self.significance, "")


@dataclass(frozen=True)
class Row:
    """One measure of all models."""

    key: str
    measure: Measure
    cells: list[Cell]
    is_gain: bool


@dataclass(frozen=True)
class Results:
    """The table: models in the summary's order; measures in the known order, unknown ones after, gains last."""

    models: list[str]
    rows: list[Row]


@dataclass(frozen=True)
class Fact:
    """A labelled number that belongs to no model in the table."""

    label: str
    text: str
    detail: str = ""


def results_of(summary: Mapping[str, Any]) -> Results:
    """The table of `summary["models"]`; empty where there is none."""
    found = summary.get("models")
    found = found if isinstance(found, Mapping) else {}
    models = {str(name): values for name, values in found.items() if isinstance(values, Mapping)}
    seen = list(dict.fromkeys(key for values in models.values() for key in values))
    known = [key for key in MEASURES if key in seen]
    others = [key for key in seen if key not in MEASURES]
    keys = known + sorted(others, key=lambda key: GAIN in key)  # stable: the order of appearance within each
    rows = [_row(key, list(models.values())) for key in keys]
    measured = [row for row in rows if any(cell.value is not None for cell in row.cells)]
    return Results([name_of(name) for name in models], measured)


def facts_of(summary: Mapping[str, Any], prefix: str = "") -> list[Fact]:
    """Every measure outside the table, such as the reward model's accuracy, labelled by the way to it."""
    facts: list[Fact] = []
    for key, value in summary.items():
        label = f"{prefix}{_label(key, bool(prefix))}"
        if isinstance(value, Mapping) and "mean" not in value:
            facts += facts_of(value, f"{label}, ") if key != "models" else []
        elif key not in ("seconds", "seed", "n") and mean_of(value) is not None:
            kind = measure_named(_kind_key(key, prefix)).kind
            text = f"{value:,}" if isinstance(value, int) else written(mean_of(value), kind)
            facts.append(Fact(label, text, _detail(value, kind)))
    return facts


def terminal_table(summary: Mapping[str, Any]) -> Group:
    """The results for a terminal of 80 columns: means and half the width of their 95 % intervals.

    More models than fit beside each other stand in several tables, one under the other.
    """
    results = results_of(summary)
    groups = -(-len(results.models) // ACROSS)
    ends = [len(results.models) * group // groups for group in range(groups + 1)]  # as even as can be
    parts = [_terminal_part(results, slice(*bounds)) for bounds in pairwise(ends)]
    return Group(*parts, Text("± half of the 95 % interval; * a significant gain or loss", style="italic"))


def _terminal_part(results: Results, models: slice) -> Table:
    table = Table(box=None, padding=(0, 0, 0, 1), pad_edge=False)
    table.add_column("", max_width=20)
    for model in results.models[models]:
        table.add_column(model, justify="right", no_wrap=True)
    for row in results.rows:
        label = row.measure.label.replace("Gold reward: g", "G")
        table.add_row(label, *[_terminal_cell(cell, row) for cell in row.cells[models]])
    return table


def markdown(summary: Mapping[str, Any]) -> str:
    """The results as a Markdown table, with the facts beside it as a list."""
    results = results_of(summary)
    lines = []
    if results.rows:
        lines += [markdown_line(["", *results.models]), markdown_line(["---", *["---:"] * len(results.models)])]
        lines += [
            markdown_line([row.measure.label, *[_markdown_cell(cell) for cell in row.cells]]) for row in results.rows
        ]
        lines += ["", "In brackets the 95 % interval."]
    facts = facts_of(summary)
    lines += [""] * bool(lines and facts)
    lines += [
        f"- {markdown_text(fact.label)}: {fact.text}" + (f" ({fact.detail})" if fact.detail else "") for fact in facts
    ]
    return "\n".join(lines) + "\n"


def markdown_line(cells: Sequence[str]) -> str:
    """A row of a Markdown table; characters that mean something there are escaped."""
    return "| " + " | ".join(markdown_text(cell) for cell in cells) + " |"


def markdown_text(text: str) -> str:
    """Text on one line of Markdown; characters that mean something there are escaped."""
    return "".join(f"\\{c}" if c in "|*_`<" else c for c in " ".join(text.splitlines()))


def _row(key: str, models: Sequence[Mapping[str, Any]]) -> Row:
    measure, is_gain = measure_named(key), GAIN in key
    return Row(key, measure, [_cell(values.get(key), measure, is_gain) for values in models], is_gain)


def _cell(value: Any, measure: Measure, is_gain: bool) -> Cell:
    mean = mean_of(value)
    n = value.get("n") if isinstance(value, Mapping) else None
    return Cell(
        mean=written(mean, measure.kind, signed=is_gain),
        interval=written_interval(value, measure.kind, signed=is_gain),
        significance=significance(value) if is_gain else "",
        n=n if isinstance(n, int) else None,
        value=None if mean is None else value,
    )


def _terminal_cell(cell: Cell, row: Row) -> Text:
    ends, mean = ends_of(cell.value), mean_of(cell.value)
    text = cell.mean
    if ends is not None and mean is not None:
        scale, digits = (100, 0) if row.measure.kind == "share" else (1, 2)
        sign = "+" if row.is_gain else ""
        text = f"{scale * mean:{sign}.{digits}f}±{scale * (ends[1] - ends[0]) / 2:.{digits}f}".replace("-", MINUS)
        text += " %" if row.measure.kind == "share" else ""
    style = {"up": "green", "down": "red"}.get(cell.direction, "")
    return Text(text + ("*" if cell.direction else ""), style=style)


def _markdown_cell(cell: Cell) -> str:
    return f"{cell.mean} [{cell.interval}]" if cell.interval else cell.mean


def _label(key: str, inner: bool) -> str:
    label = name_of(key) if name_of(key) != key else measure_named(key).label
    return label[:1].lower() + label[1:] if inner and not label.isupper() else label


def _kind_key(key: str, prefix: str) -> str:
    """Numbers kept by strength are of the measure above them, which is an accuracy."""
    return "accuracy" if "by strength" in prefix else key


def _detail(value: Any, kind: Kind) -> str:
    interval = written_interval(value, kind)
    n = value.get("n") if isinstance(value, Mapping) else None
    return "; ".join(filter(None, (interval and f"95 % interval {interval}", n and f"n = {n}")))
