"""report.html: everything a folder tells, as one page that needs nothing but itself.

The page holds its style, its script and plotly, so it can be mailed, printed and read without a network. All text that
comes from a run is escaped, for a model may say anything.
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
from zhenlong.report.costs import costs_of, duration
from zhenlong.report.curves import Curve, curves_of
from zhenlong.report.evaluation import is_evaluation, write_evaluation_report
from zhenlong.report.evaluation.folder import read_evaluation
from zhenlong.report.evaluation.page import SCRIPTS, STYLES, Sections, sections_of
from zhenlong.report.examples import Example, over_time, side_by_side
from zhenlong.report.folder import RunStory, Story, read_story
from zhenlong.report.measures import ends_of, mean_of, name_of
from zhenlong.report.optimisation import gains_of, proxy_against_gold
from zhenlong.report.results import Fact, Results, facts_of, results_of
from zhenlong.report.shell import own, rendered

SETTINGS: Final = ("model", "data", "heldout", "reward", "lr", "batch_size", "seed")


@dataclass(frozen=True)
class Headline:
    """One gain, as the page opens with it."""

    model: str
    label: str
    gain: str
    interval: str
    significance: str
    direction: str


@dataclass(frozen=True)
class Stage:
    """One run as the page shows it."""

    name: str
    stage: str
    steps: int
    settings: dict[str, str]
    config: str
    facts: list[Fact]
    curves: list[Curve]
    samples: list[Example]


def write_report(folder: str | Path) -> Path:
    """Write `folder/report.html` from what the folder holds; returns its path.

    The folder is a run's, an evaluation's, or one with run folders, summary.json and evaluation/ in it. What is not
    there is not shown. Raises `UserError` when the folder tells of neither, or cannot be read or written.

    Args:
        folder: Folder of a run, of an evaluation, or of a recipe with the folders of its runs in it.
    """
    if is_evaluation(folder):
        return write_evaluation_report(folder)
    path = Path(folder) / "report.html"
    story = read_story(folder)
    write_text(path, page_of(story, _evaluation(Path(folder) / "evaluation", story.notes)))
    return path


def page_of(story: Story, evaluation: Sections | None = None) -> str:
    """The page as text, with the sections of an evaluation among the story's own."""
    results = results_of(story.summary)
    proxy = proxy_against_gold(story.summary)
    stages = [_stage(run) for run in story.runs]
    return rendered(
        "report.html.j2",
        STYLES if evaluation else STYLES[:1],
        [Markup(get_plotlyjs()), own("report.js"), *(own(name) for name in SCRIPTS if evaluation)],
        title=story.title,
        about=_about(story, results),
        versions=_versions(story.runs),
        headlines=_headlines(results),
        results=results,
        dots=_dots(results),
        facts=facts_of(story.summary),
        proxy=proxy,
        gains=gains_of(story.evaluations, story.summary),
        examples=side_by_side(story.evaluations),
        stages=stages,
        settings=[key for key in SETTINGS if any(key in stage.settings for stage in stages)],
        costs=costs_of(story.runs),
        evaluation=evaluation,
        notes=story.notes + (evaluation.notes if evaluation else []),
    )


def _evaluation(folder: Path, notes: list[str]) -> Sections | None:
    """The sections of an evaluation; None where there is none, or none that can be read, which `notes` then tells."""
    try:
        return sections_of(read_evaluation(folder)) if is_evaluation(folder) else None
    except UserError as error:
        notes.append(f"{error}.")
        return None


def _about(story: Story, results: Results) -> list[str]:
    """What the page is about, in a few words each."""
    seeds = dict.fromkeys(str(run.config["seed"]) for run in story.runs if "seed" in run.config)
    seed = story.summary.get("seed", ", ".join(seeds))
    seconds = mean_of(story.summary.get("seconds"))
    parts = [
        f"{len(results.models)} models" if results.models else "",
        f"{len(story.runs)} training run{'s' if len(story.runs) > 1 else ''}" if story.runs else "",
        f"seed {seed}" if str(seed) else "",
        f"{duration(seconds)} in all" if seconds is not None else "",
    ]
    return [part for part in parts if part]


def _versions(runs: Sequence[RunStory]) -> list[str]:
    """The versions that the runs were made with; a package twice if they differ."""
    told = [run.ledger["versions"] for run in runs if isinstance(run.ledger.get("versions"), dict)]
    return list(dict.fromkeys(f"{package} {version}" for versions in told for package, version in versions.items()))


def _headlines(results: Results) -> list[Headline]:
    return [
        Headline(model, row.measure.label, cell.mean, cell.interval, cell.significance, cell.direction)
        for row in results.rows
        if row.is_gain
        for model, cell in zip(results.models, row.cells, strict=True)
        if cell.value is not None
    ]


def _dots(results: Results) -> list[dict[str, Any]]:
    """For each measure that has intervals, the models' means with them, as the page's script draws them."""
    charts = []
    for row in results.rows:
        named = [(model, cell) for model, cell in zip(results.models, row.cells, strict=True) if ends_of(cell.value)]
        if row.is_gain or len(named) < 2:
            continue
        ends = [ends_of(cell.value) or (0.0, 0.0) for _, cell in named]
        spoken = ", ".join(f"{model} {cell.mean}" for model, cell in named)
        chart = {
            "kind": "dots",
            "names": [model for model, _ in named],
            "means": [mean_of(cell.value) for _, cell in named],
            "low": [low for low, _ in ends],
            "high": [high for _, high in ends],
            "share": row.measure.kind == "share",
        }
        charts.append({"title": row.measure.label, "spoken": f"{row.measure.label}: {spoken}", "chart": chart})
    return charts


def _stage(run: RunStory) -> Stage:
    last = run.metrics[-1] if run.metrics else {}
    settings = {key: str(run.config[key]) for key in SETTINGS if run.config.get(key) not in (None, "")}
    return Stage(
        name=name_of(run.name),
        stage=run.stage,
        steps=int(mean_of(last.get("step")) or len(run.metrics)),
        settings=settings,
        config=run.config_text,
        facts=facts_of(run.results),
        curves=curves_of(run),
        samples=over_time(run.samples),
    )
