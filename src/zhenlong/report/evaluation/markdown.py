"""An evaluation as Markdown: the tables of the page, for places where only text goes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from zhenlong.report.evaluation.table import Cell, Row
from zhenlong.report.results import markdown_line, markdown_text

if TYPE_CHECKING:
    from zhenlong.report.evaluation.page import Sections


def markdown_of(title: str, about: Sequence[str], sections: Sections) -> str:
    """The evaluation's tables: the seven categories, win rates, differences, worst cases and groups."""
    lines = [f"# {markdown_text(title)}", "", markdown_text(", ".join(about)) + ".", ""]
    lines += ["Each number is a mean over instances with half the width of its 95 % interval.", ""]
    models = [name for _, name, _ in sections.models]
    for category in sections.categories:
        lines += [f"## {category.name.capitalize()}", "", *_rows(models, [*category.rows, *category.others]), ""]
    lines += [*_wins(sections), *_differences(sections), *_falls(sections), *_groups(sections, models)]
    lines += [line for note in sections.notes for line in (markdown_text(note), "")]
    return "\n".join(lines).rstrip() + "\n"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]], texts: int = 1) -> list[str]:
    """A table whose first columns, `texts` of them, are text and the others numbers."""
    rule = "| " + " | ".join(["---"] * texts + ["---:"] * (len(heads) - texts)) + " |"
    return [markdown_line(heads), rule, *map(markdown_line, rows)]


def _rows(models: Sequence[str], rows: Sequence[Row]) -> list[str]:
    table = [[row.scenario, f"{row.label} {row.arrow}".strip(), row.n, *map(_cell, row.cells)] for row in rows]
    return _table(["Scenario", "Measure", "Instances", *models], table, 3)


def _cell(cell: Cell | None) -> str:
    if cell is None:
        return "–"
    return cell.text + (f" ± {cell.half}" if cell.half else "") + (f" ({cell.failed} failed)" if cell.failed else "")


def _wins(sections: Sections) -> Iterator[str]:
    if sections.wins:
        yield from ("## Mean win rates", "")
        rows = [[model, *(text for text, _ in rates)] for model, rates in sections.wins.rows]
        yield from (*_table(["Model", *(name.capitalize() for name in sections.wins.categories)], rows), "")


def _differences(sections: Sections) -> Iterator[str]:
    if sections.differences:
        yield from ("## Paired differences", "")
        rows = [
            [pair.title, row.scenario, row.label, row.text, row.ends, row.chance, f"{row.value.n:,}"]
            for pair in sections.differences
            for row in pair.rows
        ]
        yield from (
            *_table(["Models", "Scenario", "Measure", "Difference", "95 % interval", "p (Holm)", "n"], rows, 3),
            "",
        )


def _falls(sections: Sections) -> Iterator[str]:
    if sections.falls:
        yield from ("## Worst case", "")
        heads = ["Scenario", "Model", "As written", "Worst, robustness", "Change", "Worst, fairness", "Change"]
        rows = []
        for fall in [fall for several in sections.falls for fall in several]:
            pairs = [(c.value, c.change + (f" ± {c.half}" if c.half else "")) if c else ("–", "–") for c in fall.worst]
            rows.append([fall.scenario, fall.model, fall.original, *(text for pair in pairs for text in pair)])
        yield from (*_table(heads, rows, 2), "")


def _groups(sections: Sections, models: Sequence[str]) -> Iterator[str]:
    for one in sections.groupings:
        yield from (f"## {markdown_text(f'{one.scenario} by {one.name}')}", "")
        rows = [[value, *map(_cell, cells)] for value, cells in one.rows]
        rows += [["All", *one.overall], ["Gap", *one.gaps]]
        yield from (*_table([f"{one.label} {one.arrow}".strip(), *models], rows), "")
