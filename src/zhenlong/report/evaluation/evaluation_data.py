"""Reading of an evaluation's folder for its report."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from zhenlong.errors import UserError
from zhenlong.evaluate.results.result_files import (
    InstanceRecord,
    Result,
    instances_path,
    read_manifest,
    read_records,
    read_results,
)
from zhenlong.report.labels import distinct_model_names, measure_label

ACRONYMS: Final = {"ece", "f1", "mc1", "mc2", "bleu", "rouge", "mrr", "ndcg", "map", "kl"}  # in upper case
ScenarioShots = tuple[str, int]  # a scenario and its number of examples in the prompt
RecordsByModel = dict[str, list[InstanceRecord]]  # of one scenario, by model


@dataclass
class EvaluationData:
    """The results of an evaluation; its records are read one scenario at a time. `notes` collects damaged files."""

    folder: Path
    manifest: dict[str, Any]
    results: list[Result]
    models: list[str]
    scenarios: list[str]
    notes: list[str] = field(default_factory=list)

    @cached_property
    def model_names(self) -> dict[str, str]:
        """The display name of each model, which tells it from the others."""
        return distinct_model_names(self.models)

    @property
    def scenario_shots(self) -> list[ScenarioShots]:
        """Every scenario with each of its numbers of shots."""
        return [
            (s, shots) for s in self.scenarios for shots in sorted({r.shots for r in self.results if r.scenario == s})
        ]

    def main_measure(self, scenario: str) -> str:
        """The main measure of a scenario; the first measure if none is declared."""
        own = [one for one in self.results if one.scenario == scenario and not one.group and not one.perturbation]
        return next((one.measure for one in own if one.main), own[0].measure if own else "")

    def results_by_model(
        self, scenario_shots: ScenarioShots, measure: str, perturbation: str = "", group: str = ""
    ) -> dict[str, Result]:
        """One result per model, for the models that have it."""
        wanted = (*scenario_shots, measure, perturbation, group)
        return {
            one.model: one
            for one in self.results
            if (one.scenario, one.shots, one.measure, one.perturbation, one.group) == wanted
        }

    def scenario_title(self, scenario_shots: ScenarioShots) -> str:
        """The display name of a scenario, with the number of shots if there are several."""
        scenario, shots = scenario_shots
        several = len({one.shots for one in self.results if one.scenario == scenario}) > 1
        return f"{scenario}, {shots}-shot" if several else scenario


def is_evaluation(folder: str | Path) -> bool:
    """Whether a folder was written by `zhenlong evaluate`."""
    return (Path(folder) / "evaluation.json").is_file() and (Path(folder) / "results.json").is_file()


def read_evaluation_data(folder: str | Path) -> EvaluationData:
    """Read an evaluation's results. Raises `UserError` for a folder without them, or with another format."""
    manifest = read_manifest(folder)
    try:
        results = read_results(folder)
    except (TypeError, KeyError, AttributeError, ValueError) as error:
        raise UserError(f"{Path(folder) / 'results.json'}: not the results of an evaluation ({error!r})") from None
    if not isinstance(manifest, dict) or not results:
        raise UserError(f"{folder}: nothing to report; expected results in results.json (zhenlong evaluate --output)")
    models = _in_manifest_order(manifest.get("models"), (one.model for one in results))
    scenarios = _in_manifest_order(manifest.get("scenarios"), (one.scenario for one in results))
    return EvaluationData(Path(folder), manifest, results, models, scenarios, _manifest_notes(manifest))


def read_scenario_records(evaluation: EvaluationData, scenario: str) -> RecordsByModel:
    """The records of every model on a scenario, with equal prompts shared. Unreadable parts are listed in `notes`."""
    records_by_model: RecordsByModel = {}
    prompts: dict[str, str] = {}
    for model in evaluation.models:
        path = instances_path(evaluation.folder, model, scenario)
        if not path.exists():
            continue
        records_by_model[model] = []
        try:
            for record in read_records(evaluation.folder, model, scenario):
                records_by_model[model].append(replace(record, prompt=prompts.setdefault(record.prompt, record.prompt)))
        except (UserError, OSError, UnicodeDecodeError) as error:
            evaluation.notes.append(f"{error}; the rest of that file is left out.")
    return records_by_model


def measure_title(measure: str) -> str:
    """The display name of a measure."""
    label = measure_label(measure).label
    return " ".join(word.upper() if word.lower() in ACRONYMS else word for word in label.split())


def _manifest_notes(manifest: Mapping[str, Any]) -> list[str]:
    """The evaluation's own notes, and the scenarios that could not run."""
    lists = {name: list(manifest[name]) for name in ("notes", "failed") if isinstance(manifest.get(name), list)}
    found = [str(note) for note in lists.get("notes", [])]
    for one in lists.get("failed", []):
        if isinstance(one, Mapping):
            by = f" with {one['model']}" if one.get("model") else ""
            found.append(f"{one.get('scenario', '')}{by} could not be run: {one.get('reason', '')}")
    return found


def _in_manifest_order(listed: Any, measured: Iterable[str]) -> list[str]:
    """The names with results: those in the manifest in its order, then the others in order of appearance."""
    names = list(dict.fromkeys(measured))
    order: list[Any] = list(listed) if isinstance(listed, (Mapping, list, tuple)) else []
    listed_names = [one.get("name") if isinstance(one, Mapping) else one for one in order]
    first = [str(one) for one in listed_names if isinstance(one, str) and one in names]
    return list(dict.fromkeys([*first, *names]))
