"""The folder of an evaluation over several runs: what may be added to it, and what a run leaves as it was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from zhenlong.errors import UserError
from zhenlong.evaluate.results.result_files import (
    InstanceRecord,
    Result,
    instances_path,
    read_manifest,
    read_results,
    record_to_json,
    write_results,
)
from zhenlong.loop.atomic import to_jsonable, write_text
from zhenlong.loop.config import package_versions

# A scenario's own shots, limit and perturbations are compared scenario by scenario.
FIXED_SETTINGS: Final = (
    "seed", "trials", "as_chat", "max_tokens", "chat_template", "judge", "data", "examples", "baseline_outputs",
    "reference_answers", "metric_option",
)  # fmt: skip


class EvaluationFolder:
    """What is in the folder already, and what this run adds. Other models and scenarios stay as they are."""

    def __init__(self, path: Path, manifest: Mapping[str, Any]) -> None:
        self.path = path
        before: dict[str, Any] = read_manifest(path) if (path / "evaluation.json").exists() else {}
        self.results: list[Result] = read_results(path) if (path / "results.json").exists() else []
        for name in FIXED_SETTINGS:
            if before and before.get(name) != to_jsonable(manifest.get(name)):
                raise UserError(
                    f"{path}: holds an evaluation with {name} {before.get(name)!r}, asked is {manifest.get(name)!r}; "
                    "choose another --output, or ask the same of more models or scenarios"
                )
        self.manifest: dict[str, Any] = {
            **to_jsonable(manifest),
            "models": before.get("models", {}),
            "scenarios": before.get("scenarios", {}),
            "failed": before.get("failed", []),
            "notes": before.get("notes", []),
            "unread_verdicts": before.get("unread_verdicts", {}),  # of judges: model -> scenario -> counts by reason
            "ledger": before.get("ledger", {}),  # of each model's last run: requests, cached ones, tokens, seconds
            "versions": package_versions(),
        }

    def add_scenario(self, scenario: str, settings: Mapping[str, Any]) -> None:
        """Note a scenario. Raises `UserError` where the folder holds it with other settings."""
        before = self.manifest["scenarios"].get(scenario)
        for name, value in (before or {}).items():
            if name in settings and to_jsonable(settings[name]) != value:
                raise UserError(
                    f"{self.path}: holds {scenario} with {name} {value!r}, asked is {settings[name]!r}; "
                    "choose another --output"
                )
        self.manifest["scenarios"][scenario] = {**(before or {}), **to_jsonable(settings)}

    def add_results(
        self, model: str, scenario: str, results: Sequence[Result], records: Sequence[InstanceRecord]
    ) -> None:
        """Write what came of a model and a scenario; what was there of these two goes."""
        lines = "".join(record_to_json(one) + "\n" for one in records)
        write_text(instances_path(self.path, model, scenario), lines)
        self.results = [one for one in self.results if (one.model, one.scenario) != (model, scenario)] + list(results)
        self.clear_failure(model, scenario)
        self.write()

    def add_unread_verdicts(self, model: str, scenario: str, found: Mapping[str, Any]) -> None:
        """Note how many verdicts of the judge could not be read; nothing for a scenario without verdicts."""
        self.manifest["unread_verdicts"].setdefault(model, {}).pop(scenario, None)
        if found:
            self.manifest["unread_verdicts"][model][scenario] = dict(found)

    def add_failure(self, model: str, scenario: str, reason: str) -> None:
        """Note that a scenario could not be run with a model ("": with none)."""
        self.clear_failure(model, scenario)
        self.manifest["failed"].append({"model": model, "scenario": scenario, "reason": reason})
        self.write()

    def clear_failure(self, model: str, scenario: str) -> None:
        """Take back what was noted of a failure, for it may go well now."""
        gone = ({"model": model, "scenario": scenario}, {"model": "", "scenario": scenario})
        kept = [one for one in self.manifest["failed"] if {k: one[k] for k in ("model", "scenario")} not in gone]
        self.manifest["failed"] = kept

    def add_note(self, line: str) -> None:
        """Keep a remark, once."""
        if line not in self.manifest["notes"]:
            self.manifest["notes"].append(line)

    def write(self) -> None:
        """Write evaluation.json and results.json, models and scenarios in the order they were asked for."""
        order = {name: place for place, name in enumerate(self.manifest["models"])}
        scenarios = {name: place for place, name in enumerate(self.manifest["scenarios"])}
        last = len(self.results)
        self.results.sort(key=lambda one: (scenarios.get(one.scenario, last), order.get(one.model, last)))
        write_results(self.path, self.manifest, self.results)
