"""The evaluation's report as Markdown: the tables of the page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from zhenlong.report.evaluation.heat_table import HeatCell, HeatRow
from zhenlong.report.evaluation.sections import EvaluationSections
from zhenlong.report.summary_table import escape_markdown, markdown_row


def evaluation_markdown(title: str, about: Sequence[str], sections: EvaluationSections) -> str:
    """The evaluation's tables: the seven categories, win rates, differences, worst cases and groups."""
    lines = [f"# {escape_markdown(title)}", "", escape_markdown(", ".join(about)) + ".", ""]
    lines += ["Each number is a mean over instances ± half the width of its 95 % interval.", ""]
    models = [name for _, name, _ in sections.models]
    for category in sections.categories:
        lines += [f"## {category.name.capitalize()}", "", *_rows(models, [*category.rows, *category.other_rows]), ""]
    lines += [*_win_rates(sections), *_differences(sections), *_worst_case(sections), *_group_tables(sections, models)]
    lines += [line for note in sections.notes for line in (escape_markdown(note), "")]
    return "\n".join(lines).rstrip() + "\n"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]], num_text_columns: int = 1) -> list[str]:
    """A table with `num_text_columns` text columns, followed by numeric ones."""
    rule = "| " + " | ".join(["---"] * num_text_columns + ["---:"] * (len(heads) - num_text_columns)) + " |"
    return [markdown_row(heads), rule, *map(markdown_row, rows)]


def _rows(models: Sequence[str], rows: Sequence[HeatRow]) -> list[str]:
    table = [[row.scenario, f"{row.label} {row.arrow}".strip(), row.n, *map(_cell, row.cells)] for row in rows]
    return _table(["Scenario", "Measure", "Instances", *models], table, 3)


def _cell(cell: HeatCell | None) -> str:
    if cell is None:
        return "–"
    return (
        cell.text
        + (f" ± {cell.half_width}" if cell.half_width else "")
        + (f" ({cell.failed} failed)" if cell.failed else "")
        + (f" ({cell.reading})" if cell.reading else "")
    )


def _win_rates(sections: EvaluationSections) -> Iterator[str]:
    if sections.win_rates:
        yield from ("## Mean win rates", "")
        rows = [[model, *(text for text, _ in rates)] for model, rates in sections.win_rates.rows]
        yield from (*_table(["Model", *(name.capitalize() for name in sections.win_rates.categories)], rows), "")


def _differences(sections: EvaluationSections) -> Iterator[str]:
    if sections.differences:
        yield from ("## Paired differences", "")
        rows = [
            [pair.title, row.scenario, row.label, row.text, row.interval_text, row.p_holm_text, f"{row.value.n:,}"]
            for pair in sections.differences
            for row in pair.rows
        ]
        yield from (
            *_table(["Models", "Scenario", "Measure", "Difference", "95 % interval", "p (Holm)", "n"], rows, 3),
            "",
        )


def _worst_case(sections: EvaluationSections) -> Iterator[str]:
    if sections.worst_case:
        yield from ("## Worst case", "")
        heads = ["Scenario", "Model", "Unperturbed", "Worst, robustness", "Change", "Worst, fairness", "Change"]
        rows = []
        for fall in [fall for several in sections.worst_case for fall in several]:
            pairs = [
                (c.value, c.change + (f" ± {c.half_width}" if c.half_width else "")) if c else ("–", "–")
                for c in fall.worst_case
            ]
            rows.append([fall.scenario, fall.model, fall.original, *(text for pair in pairs for text in pair)])
        yield from (*_table(heads, rows, 2), "")


def _group_tables(sections: EvaluationSections, models: Sequence[str]) -> Iterator[str]:
    for one in sections.group_tables:
        yield from (f"## {escape_markdown(f'{one.scenario} by {one.name}')}", "")
        rows = [[value, *map(_cell, cells)] for value, cells in one.rows]
        rows += [["All", *one.overall], ["Gap", *one.gaps]]
        yield from (*_table([f"{one.label} {one.arrow}".strip(), *models], rows), "")
