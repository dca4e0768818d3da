"""report.html: all results of a folder as one self-contained page.

The page embeds its style, its script and plotly, so it can be mailed, printed and read without a network. All text from
a run is escaped, because model output is untrusted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from markupsafe import Markup
from plotly.offline import get_plotlyjs

from zhenlong.errors import UserError
from zhenlong.loop.atomic import write_text
from zhenlong.report.cost_table import cost_table, format_duration
from zhenlong.report.curves import Curve, training_curves
from zhenlong.report.evaluation import is_evaluation, write_evaluation_report
from zhenlong.report.evaluation.evaluation_data import read_evaluation_data
from zhenlong.report.evaluation.page import SCRIPTS, STYLE_SHEETS
from zhenlong.report.evaluation.sections import EvaluationSections, build_sections
from zhenlong.report.examples import ResponseComparison, compare_responses, responses_over_training
from zhenlong.report.labels import display_name, interval_ends, mean_value
from zhenlong.report.overoptimization import proxy_gold_scatter, reward_gains, training_rewards, verifier_note
from zhenlong.report.render_page import read_asset, render_page
from zhenlong.report.report_data import ReportData, RunData, read_report_data
from zhenlong.report.summary_table import ScalarResult, SummaryTable, scalar_results, summary_table

SHOWN_OPTIONS: Final = ("model", "data", "heldout", "reward", "lr", "batch_size", "seed")


@dataclass(frozen=True)
class Headline:
    """One gain, shown at the top of the page."""

    model: str
    label: str
    gain: str
    interval: str
    significance: str
    direction: str


@dataclass(frozen=True)
class RunSection:
    """One training run on the page."""

    name: str
    stage: str
    steps: int
    settings: dict[str, str]
    config: str
    scalars: list[ScalarResult]
    curves: list[Curve]
    samples: list[ResponseComparison]


def write_report(folder: str | Path) -> Path:
    """Write `folder/report.html` and return its path.

    The folder is a run's, an evaluation's, or one with run folders, summary.json and evaluation/ in it. Missing parts
    are left out. Raises `UserError` if the folder is none of these, or cannot be read or written.

    Args:
        folder: Folder of a run, an evaluation or a recipe.
    """
    if is_evaluation(folder):
        return write_evaluation_report(folder)
    path = Path(folder) / "report.html"
    data = read_report_data(folder)
    write_text(path, render_report(data, _evaluation_sections(Path(folder) / "evaluation", data.notes)))
    return path


def render_report(data: ReportData, evaluation: EvaluationSections | None = None) -> str:
    """The page as text, including the sections of an evaluation."""
    results = summary_table(data.summary)
    rewards = training_rewards(data.runs)
    scatter = proxy_gold_scatter(data.summary, rewards)
    stages = [_run_section(run) for run in data.runs]
    return render_page(
        "report.html.j2",
        STYLE_SHEETS if evaluation else STYLE_SHEETS[:1],
        [Markup(get_plotlyjs()), read_asset("report.js"), *(read_asset(name) for name in SCRIPTS if evaluation)],
        title=data.title,
        about=_subtitle_parts(data, results),
        versions=_versions(data.runs),
        headlines=_headlines(results),
        results=results,
        dots=_dot_charts(results),
        scalars=scalar_results(data.summary),
        proxy=scatter,
        gains=reward_gains(data.evaluations, data.summary, rewards),
        verifier_note=verifier_note(data.evaluations, rewards),
        examples=compare_responses(data.evaluations),
        stages=stages,
        settings=[key for key in SHOWN_OPTIONS if any(key in stage.settings for stage in stages)],
        costs=cost_table(data.runs),
        evaluation=evaluation,
        notes=data.notes + (evaluation.notes if evaluation else []),
    )


def _evaluation_sections(folder: Path, notes: list[str]) -> EvaluationSections | None:
    """The sections of an evaluation; None if there is none, or if it cannot be read (then `notes` says why)."""
    try:
        return build_sections(read_evaluation_data(folder)) if is_evaluation(folder) else None
    except UserError as error:
        notes.append(f"{error}.")
        return None


def _subtitle_parts(data: ReportData, results: SummaryTable) -> list[str]:
    """The parts of the subtitle: number of models and runs, seed, time."""
    seeds = dict.fromkeys(str(run.config["seed"]) for run in data.runs if "seed" in run.config)
    seed = data.summary.get("seed", ", ".join(seeds))
    seconds = mean_value(data.summary.get("seconds"))
    parts = [
        f"{len(results.models)} models" if results.models else "",
        f"{len(data.runs)} training run{'s' if len(data.runs) > 1 else ''}" if data.runs else "",
        f"seed {seed}" if str(seed) else "",
        f"{format_duration(seconds)} in all" if seconds is not None else "",
    ]
    return [part for part in parts if part]


def _versions(runs: Sequence[RunData]) -> list[str]:
    """The package versions of the runs; a package appears twice if they differ."""
    version_maps = [run.ledger["versions"] for run in runs if isinstance(run.ledger.get("versions"), dict)]
    return list(
        dict.fromkeys(f"{package} {version}" for versions in version_maps for package, version in versions.items())
    )


def _headlines(results: SummaryTable) -> list[Headline]:
    return [
        Headline(model, row.measure.label, cell.mean, cell.interval, cell.significance, cell.direction)
        for row in results.rows
        if row.is_gain
        for model, cell in zip(results.models, row.cells, strict=True)
        if cell.value is not None
    ]


def _dot_charts(results: SummaryTable) -> list[dict[str, Any]]:
    """For each measure with intervals, the models' means and intervals, for the page's script."""
    charts = []
    for row in results.rows:
        named = [
            (model, cell) for model, cell in zip(results.models, row.cells, strict=True) if interval_ends(cell.value)
        ]
        if row.is_gain or len(named) < 2:
            continue
        ends = [interval_ends(cell.value) or (0.0, 0.0) for _, cell in named]
        values_text = ", ".join(f"{model} {cell.mean}" for model, cell in named)
        chart = {
            "kind": "dots",
            "names": [model for model, _ in named],
            "means": [mean_value(cell.value) for _, cell in named],
            "low": [low for low, _ in ends],
            "high": [high for _, high in ends],
            "fraction": row.measure.kind == "fraction",
        }
        charts.append({"title": row.measure.label, "aria_label": f"{row.measure.label}: {values_text}", "chart": chart})
    return charts


def _run_section(run: RunData) -> RunSection:
    last = run.metrics[-1] if run.metrics else {}
    settings = {key: str(run.config[key]) for key in SHOWN_OPTIONS if run.config.get(key) not in (None, "")}
    return RunSection(
        name=display_name(run.name),
        stage=run.stage,
        steps=int(mean_value(last.get("step")) or len(run.metrics)),
        settings=settings,
        config=run.config_text,
        scalars=scalar_results(run.results),
        curves=training_curves(run),
        samples=responses_over_training(run.samples),
    )
