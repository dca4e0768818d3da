"""The numbers of an evaluation as a table for the terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from zhenlong.evaluate.results import Result
from zhenlong.evaluate.statistics import Interval

GROUPS: Final = 20  # rows of groups that are shown; more are counted


def show_results(results: Sequence[Result], console: Console | None = None) -> None:
    """Print every number but those of groups beyond the first twenty, the main measure of each scenario in bold."""
    screen = console or Console()
    if console is None and not screen.is_terminal:
        screen = Console(width=120)
    models = list(dict.fromkeys(one.model for one in results))
    table = Table(title=models[0] if len(models) == 1 else "", title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for name in ([] if len(models) == 1 else ["model"]) + ["scenario", "measure", "of"]:
        table.add_column(name, overflow="fold")
    for name in ("value [95 %]", "n", "failed"):
        table.add_column(name, justify="right")
    grouped = [one for one in results if one.group]
    shown = [one for one in results if not one.group] + (grouped if len(grouped) <= GROUPS else [])
    for one in sorted(shown, key=lambda one: models.index(one.model)):
        cells = ([] if len(models) == 1 else [one.model]) + [one.scenario, one.measure, _of(one), written(one.value)]
        table.add_row(*cells, str(one.value.n), str(one.failed or ""), style="bold" if one.main else "")
    screen.print(table)
    if len(grouped) > GROUPS:
        screen.print(f"{len(grouped)} numbers of groups are in results.json", style="dim")


def written(value: Interval) -> str:
    """A mean and its interval, with three decimals or three digits; a dash for what is not known."""
    if value.n == 0 or math.isnan(value.mean):
        return "-"
    low, high = value.ci95
    return _number(value.mean) + ("" if math.isnan(low) else f" [{_number(low)}, {_number(high)}]")


def _of(one: Result) -> str:
    """What the number is over, where that is not all instances as written."""
    parts = [f"{one.shots}-shot" if one.shots else "", one.perturbation, one.group]
    return ", ".join(part for part in parts if part)


def _number(value: float) -> str:
    return f"{value:.3f}" if abs(value) < 1000 else f"{value:.4g}"
