"""What an evaluation's folder holds, in the order in which the page tells of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from zhenlong.errors import UserError
from zhenlong.evaluate.results import Record, Result, instances_path, read_asked, read_records, read_results
from zhenlong.report.measures import measure_named, name_of

WORST: Final = "worst "
SHORTENED: Final = {"ece", "f1", "mc1", "mc2", "bleu", "rouge", "mrr", "ndcg", "map", "kl"}  # written in capitals
Place = tuple[str, int]  # a scenario and its number of examples in the prompt
Records = dict[str, list[Record]]  # of one scenario, by model


@dataclass
class Evaluation:
    """The numbers of an evaluation; the records behind them are read scenario by scenario. `notes` grows with what is
    found damaged."""

    folder: Path
    asked: dict[str, Any]
    results: list[Result]
    models: list[str]
    scenarios: list[str]
    notes: list[str] = field(default_factory=list)

    @property
    def places(self) -> list[Place]:
        """Every scenario with each of its numbers of shots."""
        return [
            (s, shots) for s in self.scenarios for shots in sorted({r.shots for r in self.results if r.scenario == s})
        ]

    def main_measure(self, scenario: str) -> str:
        """The measure that stands for a scenario; the first one measured where none is said to."""
        own = [one for one in self.results if one.scenario == scenario and not one.group and not one.perturbation]
        return next((one.measure for one in own if one.main), own[0].measure if own else "")

    def find(self, place: Place, measure: str, perturbation: str = "", group: str = "") -> dict[str, Result]:
        """One number of each model that has it."""
        wanted = (*place, measure, perturbation, group)
        return {
            one.model: one
            for one in self.results
            if (one.scenario, one.shots, one.measure, one.perturbation, one.group) == wanted
        }

    def named(self, place: Place) -> str:
        """A scenario as the page calls it; the number of shots where there are several."""
        scenario, shots = place
        several = len({one.shots for one in self.results if one.scenario == scenario}) > 1
        return f"{scenario}, {shots}-shot" if several else scenario


def is_evaluation(folder: str | Path) -> bool:
    """Whether a folder is one that `zhenlong evaluate` wrote."""
    return (Path(folder) / "evaluation.json").is_file() and (Path(folder) / "results.json").is_file()


def read_evaluation(folder: str | Path) -> Evaluation:
    """Read an evaluation's numbers. Raises `UserError` for a folder without them, or of another shape."""
    asked = read_asked(folder)
    try:
        results = read_results(folder)
    except (TypeError, KeyError, AttributeError, ValueError) as error:
        raise UserError(f"{Path(folder) / 'results.json'}: not the numbers of an evaluation ({error!r})") from None
    if not isinstance(asked, dict) or not results:
        raise UserError(f"{folder}: nothing to report; expected numbers in results.json (zhenlong evaluate --output)")
    models = _ordered(asked.get("models"), (one.model for one in results))
    scenarios = _ordered(asked.get("scenarios"), (one.scenario for one in results))
    return Evaluation(Path(folder), asked, results, models, scenarios, _told(asked))


def read_scenario(evaluation: Evaluation, scenario: str) -> Records:
    """The records of every model on a scenario; equal prompts are held once. What cannot be read is told in `notes`."""
    found: Records = {}
    prompts: dict[str, str] = {}
    for model in evaluation.models:
        path = instances_path(evaluation.folder, model, scenario)
        if not path.exists():
            continue
        found[model] = []
        try:
            for record in read_records(evaluation.folder, model, scenario):
                found[model].append(replace(record, prompt=prompts.setdefault(record.prompt, record.prompt)))
        except (UserError, OSError, UnicodeDecodeError) as error:
            evaluation.notes.append(f"{error}; what follows in that file is left out.")
    return found


def label_of(measure: str) -> str:
    """A measure's name for reading."""
    label = measure_named(measure).label
    return " ".join(word.upper() if word.lower() in SHORTENED else word for word in label.split())


def model_name(model: str) -> str:
    """A model's name for reading: of a folder's path its last two parts."""
    parts = [part for part in model.split("/") if part]
    return name_of(model if len(parts) <= 2 else "…/" + "/".join(parts[-2:]))


def _told(asked: Mapping[str, Any]) -> list[str]:
    """What the evaluation itself noted, and what it could not run."""
    lists = {name: list(asked[name]) for name in ("notes", "failed") if isinstance(asked.get(name), list)}
    found = [str(note) for note in lists.get("notes", [])]
    for one in lists.get("failed", []):
        if isinstance(one, Mapping):
            by = f" with {one['model']}" if one.get("model") else ""
            found.append(f"{one.get('scenario', '')}{by} could not be run: {one.get('reason', '')}")
    return found


def _ordered(asked: Any, found: Iterable[str]) -> list[str]:
    """The names with results: those asked for in that order, then the others as they appear."""
    names = list(dict.fromkeys(found))
    order: list[Any] = list(asked) if isinstance(asked, (Mapping, list, tuple)) else []
    told = [one.get("name") if isinstance(one, Mapping) else one for one in order]
    first = [str(one) for one in told if isinstance(one, str) and one in names]
    return list(dict.fromkeys([*first, *names]))
