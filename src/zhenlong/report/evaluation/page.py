"""An evaluation's report: report.html, one page that needs nothing but itself, and report.md.

The sections are the same whether the evaluation stands by itself or in the report of the recipe that made it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from zhenlong.loop.atomic import write_text
from zhenlong.report.evaluation.browser import BYTES, RECORDS, Chunk, chunk_of, shares_of, sizes_of
from zhenlong.report.evaluation.calibration import confidences, diagram
from zhenlong.report.evaluation.cost import costs_of, shots_of
from zhenlong.report.evaluation.differences import Difference, Pair, compared, differences_of
from zhenlong.report.evaluation.drawing import MARKS, Chart
from zhenlong.report.evaluation.folder import Evaluation, model_name, read_evaluation, read_scenario
from zhenlong.report.evaluation.groups import Grouping, groupings_of
from zhenlong.report.evaluation.markdown import markdown_of
from zhenlong.report.evaluation.table import Block, Category, categories_of, overview_of
from zhenlong.report.evaluation.wins import Wins, wins_of
from zhenlong.report.evaluation.worst import Fall, falls_of
from zhenlong.report.shell import own, rendered

STYLES: Final = ("report.css", "evaluation.css")
SCRIPTS: Final = ("browser.js",)
ASKED: Final = ("suite", "tasks", "limit", "seed", "judge")  # of evaluation.json, told at the head where they are


@dataclass(frozen=True)
class Sections:
    """All that the sections show. Models are in the order of their colours."""

    models: list[tuple[str, str, str]]  # name, name for reading, shape
    categories: list[Category]
    overview: list[Block]
    wins: Wins | None
    falls: list[list[Fall]]  # of each scenario that was perturbed
    diagrams: list[Chart]
    groupings: list[Grouping]
    costs: list[Chart]
    shots: list[Chart]
    differences: list[Pair]
    chunks: list[Chunk]
    failed: int
    notes: list[str]

    @property
    def browser(self) -> dict[str, Any]:
        """What the page's script knows before it unpacks a scenario."""
        return {
            "models": [{"name": name, "title": title} for name, title, _ in self.models],
            "scenarios": [{"name": one.scenario, "main": one.main} for one in self.chunks],
        }


def write_evaluation_report(folder: str | Path) -> Path:
    """Write `report.html` and `report.md` into an evaluation's folder; returns the path of the first.

    Raises `UserError` when the folder holds no evaluation, or cannot be read or written.

    Args:
        folder: Folder that `zhenlong evaluate --output` wrote.
    """
    evaluation = read_evaluation(folder)
    sections = sections_of(evaluation)
    title, about = Path(folder).resolve().name, about_of(evaluation, sections)
    path = Path(folder) / "report.html"
    scripts = [own(name) for name in SCRIPTS]
    page = rendered("evaluation.html.j2", STYLES, scripts, title=title, about=about, evaluation=sections,
                    versions=_versions(evaluation))  # fmt: skip
    write_text(path, page)
    write_text(path.with_suffix(".md"), markdown_of(title, about, sections))
    return path


def sections_of(evaluation: Evaluation, most_records: int = RECORDS, most_bytes: int = BYTES) -> Sections:
    """Everything that the page shows of an evaluation, reading its records once, one scenario at a time."""
    categories = categories_of(evaluation)
    sizes = sizes_of(evaluation)
    limits = zip(
        shares_of([n for n, _ in sizes], most_records), shares_of([b for _, b in sizes], most_bytes), strict=True
    )
    falls: list[list[Fall]] = []
    diagrams: list[Chart] = []
    chunks: list[Chunk] = []
    differences: dict[tuple[str, str], list[Difference]] = {}
    for scenario, (records_share, bytes_share) in zip(evaluation.scenarios, limits, strict=True):
        records = read_scenario(evaluation, scenario)
        for place in [one for one in evaluation.places if one[0] == scenario]:
            fallen = falls_of(evaluation, place, records)
            falls += [fallen] if fallen else []
            chart = diagram(evaluation, place, confidences(evaluation, place, records))
            diagrams += [chart] if chart else []
            for pair, difference in differences_of(evaluation, place, records):
                differences.setdefault(pair, []).append(difference)
        if any(records.values()):
            chunks.append(chunk_of(evaluation, scenario, records, records_share, bytes_share))
    return Sections(
        models=[(one, model_name(one), MARKS[at % len(MARKS)]) for at, one in enumerate(evaluation.models)],
        categories=categories,
        overview=overview_of(evaluation, categories),
        wins=wins_of(evaluation, categories),
        falls=falls,
        diagrams=diagrams,
        groupings=[one for place in evaluation.places for one in groupings_of(evaluation, place)],
        costs=costs_of(evaluation),
        shots=shots_of(evaluation),
        differences=compared([Pair(*pair, rows) for pair, rows in differences.items()]),
        chunks=chunks,
        failed=sum(one.failed for one in evaluation.results if one.main),
        notes=evaluation.notes,
    )


def about_of(evaluation: Evaluation, sections: Sections) -> list[str]:
    """What was evaluated, in a few words each."""
    models, scenarios = len(evaluation.models), len(evaluation.scenarios)
    prompts = sum(chunk.questions for chunk in sections.chunks)  # perturbed copies, shots and trials included
    parts = [
        f"{models} model{'s' * (models > 1)}",
        f"{scenarios} scenario{'s' * (scenarios > 1)}",
        f"{prompts:,} prompts" if prompts else "",
    ]
    told = [(name, evaluation.asked.get(name)) for name in ASKED]
    parts += [f"{name} {value}" for name, value in told if isinstance(value, (str, int)) and value != ""]
    return [part for part in parts if part]


def _versions(evaluation: Evaluation) -> list[str]:
    found = evaluation.asked.get("versions")
    return [f"{name} {value}" for name, value in found.items()] if isinstance(found, dict) else []
