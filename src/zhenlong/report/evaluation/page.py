"""An evaluation's report: report.html, a self-contained page, and report.md."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from zhenlong.loop.atomic import write_text
from zhenlong.report.evaluation.evaluation_data import EvaluationData, read_evaluation_data
from zhenlong.report.evaluation.markdown import evaluation_markdown
from zhenlong.report.evaluation.sections import build_sections, subtitle_parts
from zhenlong.report.render_page import read_asset, render_page

STYLE_SHEETS: Final = ("report.css", "evaluation.css")
SCRIPTS: Final = ("instance_browser.js",)


def write_evaluation_report(folder: str | Path) -> Path:
    """Write `report.html` and `report.md` into an evaluation's folder; returns the path of the first.

    Raises `UserError` if the folder is not an evaluation, or cannot be read or written.

    Args:
        folder: Folder that `zhenlong evaluate --output` wrote.
    """
    evaluation = read_evaluation_data(folder)
    sections = build_sections(evaluation)
    title, about = Path(folder).resolve().name, subtitle_parts(evaluation, sections)
    path = Path(folder) / "report.html"
    scripts = [read_asset(name) for name in SCRIPTS]
    page = render_page("evaluation.html.j2", STYLE_SHEETS, scripts, title=title, about=about, evaluation=sections,
                    versions=_versions(evaluation))  # fmt: skip
    write_text(path, page)
    write_text(path.with_suffix(".md"), evaluation_markdown(title, about, sections))
    return path


def _versions(evaluation: EvaluationData) -> list[str]:
    found = evaluation.manifest.get("versions")
    return [f"{name} {value}" for name, value in found.items()] if isinstance(found, dict) else []
