"""Reading of a folder for the report: its runs and its evaluation, as far as present.

Missing files are ignored; damaged files or lines are left out and listed in `notes`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from zhenlong.api.folder_format import require_json_format, require_run_format
from zhenlong.errors import UserError
from zhenlong.registry import stages

REPORTED_FILES: Final = ("config.yaml", "metrics.jsonl", "ledger.json", "samples.jsonl", "finished.json")
STAGE_ORDER: Final = ("base", *stages())
JsonRows = list[dict[str, Any]]


@dataclass(frozen=True)
class RunData:
    """One training run: its folder's name, its stage, and the content of its files."""

    name: str
    stage: str
    config_text: str
    config: dict[str, Any]
    metrics: JsonRows
    ledger: dict[str, Any]
    samples: JsonRows
    results: dict[str, Any]


@dataclass(frozen=True)
class ReportData:
    """The content of a folder: its runs in training order, the summary, and each model's evaluated rows."""

    title: str
    runs: list[RunData]
    summary: dict[str, Any]
    evaluations: dict[str, JsonRows]
    notes: list[str] = field(default_factory=list)


def read_report_data(folder: str | Path) -> ReportData:
    """Read a run's folder, or a folder of run folders with summary.json and evaluation/<model>.jsonl.

    Raises `UserError` if the folder is missing, cannot be read, contains no run, or was written by another version.
    """
    folder = Path(folder)
    notes: list[str] = []
    try:
        if not folder.is_dir():
            raise UserError(f"{folder}: no such folder; expected a run's folder, or a folder of runs")
        run_folders = [folder] if _is_run_folder(folder) else []
        run_folders += sorted((p for p in folder.iterdir() if p.is_dir() and _is_run_folder(p)), key=_stage_order)
        for place in run_folders:
            require_run_format(place)
        progress = _read_json_object(folder / "progress.json", [])
        if progress:
            require_json_format(folder, progress)
        runs = [_read_run(place, notes) for place in run_folders]
        summary = _read_json_object(folder / "summary.json", notes)
        evaluation_files = sorted(
            (folder / "evaluation").glob("*.jsonl"), key=lambda path: _stage_order(path.with_suffix(""))
        )
        evaluations = {path.stem: rows for path in evaluation_files if (rows := _read_json_rows(path, notes))}
    except OSError as error:
        raise UserError(f"{error.filename or folder}: cannot be read ({error.strerror or error})") from None
    if not (runs or summary or evaluations):
        raise UserError(
            f"{folder}: nothing to report; expected {', '.join(REPORTED_FILES)} or summary.json there, "
            "or folders with them"
        )
    return ReportData(folder.resolve().name, runs, summary, evaluations, notes)


def _is_run_folder(folder: Path) -> bool:
    return any((folder / name).is_file() for name in REPORTED_FILES)


def _stage_order(path: Path) -> tuple[int, str]:
    """Sort key: known stages in training order, then others by name."""
    return (STAGE_ORDER.index(path.name) if path.name in STAGE_ORDER else len(STAGE_ORDER), path.name)


def _read_run(folder: Path, notes: list[str]) -> RunData:
    text = _read_text(folder / "config.yaml", notes)
    config = _parse_mapping(folder / "config.yaml", text, yaml.safe_load, notes)
    ledger = _read_json_object(folder / "ledger.json", notes)
    name = folder.resolve().name
    return RunData(
        name=name,
        stage=str(ledger.get("stage") or name),
        config_text=text,
        config=config,
        metrics=_read_json_rows(folder / "metrics.jsonl", notes),
        ledger=ledger,
        samples=_read_json_rows(folder / "samples.jsonl", notes),
        results=_mapping_or_empty(_read_json_object(folder / "finished.json", notes).get("results")),
    )


def _read_json_object(path: Path, notes: list[str]) -> dict[str, Any]:
    return _parse_mapping(path, _read_text(path, notes), json.loads, notes)


def _parse_mapping(path: Path, text: str, parse: Callable[[str], Any], notes: list[str]) -> dict[str, Any]:
    """The mapping in a file; empty if there is none."""
    if not text.strip():
        return {}
    try:
        value = parse(text)
    except (ValueError, yaml.YAMLError):
        value = None
    if not isinstance(value, dict):
        notes.append(f"{_short_path(path)} does not hold an object and was left out.")
    return _mapping_or_empty(value)


def _read_json_rows(path: Path, notes: list[str]) -> JsonRows:
    """The objects of a JSON Lines file. The last line may be incomplete while a run is in progress."""
    lines = _read_text(path, notes).split("\n")
    rows, damaged = [], 0
    for line in lines:
        try:
            row = json.loads(line) if line.strip() else {}
        except ValueError:
            row = None
        if isinstance(row, dict):
            rows += [row] if row else []
        elif line is not lines[-1]:
            damaged += 1
    if damaged:
        notes.append(f"{_short_path(path)}: {damaged} damaged line{'s were' if damaged > 1 else ' was'} left out.")
    return rows


def _read_text(path: Path, notes: list[str]) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    except UnicodeDecodeError:
        notes.append(f"{_short_path(path)} is not UTF-8 text and was left out.")
        return ""


def _mapping_or_empty(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _short_path(path: Path) -> str:
    return "/".join(path.parts[-2:])
