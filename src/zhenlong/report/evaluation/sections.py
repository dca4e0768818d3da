"""The sections of an evaluation's report, for its own page, a recipe's page, and Markdown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from zhenlong.report.evaluation.calibration import confidences_by_model, reliability_diagram
from zhenlong.report.evaluation.cost_quality import cost_quality_charts, shot_charts
from zhenlong.report.evaluation.differences import (
    DifferenceRow,
    ModelPair,
    apply_holm,
    pair_title,
    scenario_differences,
)
from zhenlong.report.evaluation.evaluation_data import (
    EvaluationData,
    read_scenario_records,
)
from zhenlong.report.evaluation.groups import GroupTable, group_tables
from zhenlong.report.evaluation.heat_table import CategoryTable, ScenarioBlock, category_tables, overview_blocks
from zhenlong.report.evaluation.instance_browser import (
    MAX_BYTES,
    MAX_RECORDS,
    ScenarioChunk,
    max_min_fair_shares,
    pack_scenario,
    record_and_byte_counts,
)
from zhenlong.report.evaluation.svg_charts import MARKER_SHAPES, Chart
from zhenlong.report.evaluation.win_rates import WinRates, win_rate_table
from zhenlong.report.evaluation.worst_case import PerturbationDrop, perturbation_drops

MANIFEST_FIELDS: Final = (
    "suite",
    "tasks",
    "limit",
    "seed",
    "judge",
)  # keys of evaluation.json shown in the subtitle


@dataclass(frozen=True)
class EvaluationSections:
    """The data of all sections. Models are in the order of their colours."""

    models: list[tuple[str, str, str]]  # name, display name, marker shape
    categories: list[CategoryTable]
    overview: list[ScenarioBlock]
    win_rates: WinRates | None
    worst_case: list[list[PerturbationDrop]]  # one list per perturbed scenario
    reliability_diagrams: list[Chart]
    group_tables: list[GroupTable]
    cost_charts: list[Chart]
    shot_charts: list[Chart]
    differences: list[ModelPair]
    chunks: list[ScenarioChunk]
    num_failed: int
    notes: list[str]

    @property
    def browser_index(self) -> dict[str, Any]:
        """The data that the page's script needs before it unpacks a scenario."""
        return {
            "models": [{"name": name, "title": title} for name, title, _ in self.models],
            "scenarios": [{"name": one.scenario, "main": one.main_measure} for one in self.chunks],
        }


def build_sections(
    evaluation: EvaluationData, max_records: int = MAX_RECORDS, max_bytes: int = MAX_BYTES
) -> EvaluationSections:
    """Build all sections of the page, reading the records once, one scenario at a time."""
    categories = category_tables(evaluation)
    sizes = record_and_byte_counts(evaluation)
    limits = zip(
        max_min_fair_shares([n for n, _ in sizes], max_records),
        max_min_fair_shares([b for _, b in sizes], max_bytes),
        strict=True,
    )
    worst_case: list[list[PerturbationDrop]] = []
    reliability_diagrams: list[Chart] = []
    chunks: list[ScenarioChunk] = []
    differences: dict[tuple[str, str], list[DifferenceRow]] = {}
    for scenario, (records_share, bytes_share) in zip(evaluation.scenarios, limits, strict=True):
        records = read_scenario_records(evaluation, scenario)
        for place in [one for one in evaluation.scenario_shots if one[0] == scenario]:
            drops = perturbation_drops(evaluation, place, records)
            worst_case += [drops] if drops else []
            chart = reliability_diagram(evaluation, place, confidences_by_model(evaluation, place, records))
            reliability_diagrams += [chart] if chart else []
            for pair, difference in scenario_differences(evaluation, place, records):
                differences.setdefault(pair, []).append(difference)
        if any(records.values()):
            chunks.append(pack_scenario(evaluation, scenario, records, records_share, bytes_share))
    return EvaluationSections(
        models=[
            (one, evaluation.model_names[one], MARKER_SHAPES[at % len(MARKER_SHAPES)])
            for at, one in enumerate(evaluation.models)
        ],
        categories=categories,
        overview=overview_blocks(evaluation, categories),
        win_rates=win_rate_table(evaluation, categories),
        worst_case=worst_case,
        reliability_diagrams=reliability_diagrams,
        group_tables=[one for place in evaluation.scenario_shots for one in group_tables(evaluation, place)],
        cost_charts=cost_quality_charts(evaluation),
        shot_charts=shot_charts(evaluation),
        differences=apply_holm([ModelPair(pair_title(evaluation, *pair), rows) for pair, rows in differences.items()]),
        chunks=chunks,
        num_failed=sum(one.failed for one in evaluation.results if one.main),
        notes=evaluation.notes,
    )


def subtitle_parts(evaluation: EvaluationData, sections: EvaluationSections) -> list[str]:
    """The parts of the subtitle: numbers of models and scenarios, settings."""
    models, scenarios = len(evaluation.models), len(evaluation.scenarios)
    prompts = sum(chunk.questions for chunk in sections.chunks)  # perturbed copies, shots and trials included
    parts = [
        f"{models} model{'s' * (models > 1)}",
        f"{scenarios} scenario{'s' * (scenarios > 1)}",
        f"{prompts:,} prompts" if prompts else "",
    ]
    shown_options = [(name, evaluation.manifest.get(name)) for name in MANIFEST_FIELDS]
    parts += [f"{name} {value}" for name, value in shown_options if isinstance(value, (str, int)) and value != ""]
    return [part for part in parts if part]
