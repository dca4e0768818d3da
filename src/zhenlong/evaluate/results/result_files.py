"""The files of an evaluation: its manifest, its results, and the record of every instance.

E/evaluation.json     the manifest: models, scenarios, shots, seed, limit, versions
E/results.json        a list of `Result`, one per measure and slice
E/instances/<model>/<scenario>.jsonl   one `InstanceRecord` per line: prompt, outputs, references, scores
E/report.html, E/report.md
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from zhenlong.api.folder_format import FORMAT, require_json_format
from zhenlong.errors import UserError
from zhenlong.evaluate.statistics.intervals import Interval
from zhenlong.loop.atomic import to_jsonable, write_json

WORST_CASE_PREFIX: Final = "worst_case/"  # before the kind of the perturbations that a result is the worst of

METRIC_FAILED: Final = "metric "  # how the reason begins where a metric could not score an answer


@dataclass(frozen=True)
class Result:
    """One measure of one model on one scenario, over the instances of `group` ("name=value"; "": all)."""

    model: str
    scenario: str
    measure: str
    value: Interval
    category: str = "accuracy"
    higher_is_better: bool | None = True
    shots: int = 0
    perturbation: str = (
        ""  # "": unperturbed; "worst_case/robustness", "worst_case/fairness"; else the perturbation's name
    )
    group: str = ""
    main: bool = False  # whether it is the scenario's main measure
    failed: int = 0  # instances that failed; they enter no mean
    reading: Mapping[str, float] = field(default_factory=dict)  # shares of answers: unread, empty, truncated, failed

    @property
    def key(self) -> tuple[str, ...]:
        """The identity of the result apart from the model."""
        return (self.scenario, str(self.shots), self.perturbation, self.group, self.category, self.measure)


@dataclass(frozen=True)
class InstanceRecord:
    """One instance with one model's outputs and scores: a line of the instances' files."""

    id: str
    prompt: str
    outputs: tuple[str, ...] = ()
    turns: tuple[str, ...] = ()  # the first output's responses to later turns
    scores: Mapping[str, float] = field(default_factory=dict)
    references: tuple[Mapping[str, Any], ...] = ()  # {"text", "correct"}
    choice_log_probs: tuple[float, ...] | None = None
    predicted: int | None = None
    confidence: float | None = None  # probability of the answer, if log-probabilities are known
    groups: Mapping[str, str] = field(default_factory=dict)
    cluster: str = ""  # instances of one cluster share a passage, a conversation or a template
    perturbation: str = ""
    shots: int = 0
    trial: int = 0
    failed: str = ""
    reading: Mapping[str, Any] = field(default_factory=dict)  # of the answer, where it was not simply read: `Reading`
    cost: Mapping[str, Any] = field(default_factory=dict)
    judgement: Mapping[str, Any] = field(default_factory=dict)

    @property
    def pairing_key(self) -> tuple[str, str, int, int]:
        """The key that pairs it with another model's record of the same instance."""
        return (self.id, self.perturbation, self.shots, self.trial)


def write_results(folder: str | Path, manifest: Mapping[str, Any], results: Iterable[Result]) -> None:
    """Write `evaluation.json` and `results.json`, each whole or not at all."""
    write_json(Path(folder) / "evaluation.json", {"format": FORMAT, **manifest})
    rows = [asdict(one) | {"value": one.value.as_json()} for one in results]
    write_json(Path(folder) / "results.json", rows)


def read_manifest(folder: str | Path) -> dict[str, Any]:
    """The manifest of the evaluation in a folder. Raises `UserError` if there is none, or of another format."""
    found: dict[str, Any] = _read_json(Path(folder) / "evaluation.json")
    if isinstance(found, dict):
        require_json_format(folder, found)
    return found


def read_results(folder: str | Path) -> list[Result]:
    """The results of an evaluation. Raises `UserError` if there are none, or of another format."""
    read_manifest(folder)
    found = []
    for row in _read_json(Path(folder) / "results.json"):
        value = row.pop("value")
        low, high = (float("nan") if end is None else end for end in value["ci95"])
        if low == high:  # of an earlier version: an interval of width 0 is an unknown one
            low = high = float("nan")
        mean = float("nan") if value["mean"] is None else value["mean"]
        found.append(Result(value=Interval(mean, (low, high), value["n"], value.get("clusters", 0)), **row))
    return found


def instances_path(folder: str | Path, model: str, scenario: str) -> Path:
    """The file of a model's records on a scenario; names are percent-encoded where needed."""
    return Path(folder) / "instances" / quote(model, safe=" @+=") / f"{quote(scenario, safe=' ')}.jsonl"


def record_to_json(record: InstanceRecord) -> str:
    """A record as a line of JSON; fields at their default are left out."""
    row = {}
    for item in fields(record):
        value = getattr(record, item.name)
        if value not in (None, "", (), {}) and not (item.name in ("shots", "trial") and value == 0):
            row[item.name] = to_jsonable(value)
    return json.dumps(row, ensure_ascii=False)


def read_records(folder: str | Path, model: str, scenario: str) -> Iterator[InstanceRecord]:
    """The records of a model on a scenario, in the order they were written."""
    path = instances_path(folder, model, scenario)
    if not path.exists():
        raise UserError(f"{path}: not found; expected the instances of {model} on {scenario}")
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            try:
                row = json.loads(line)
                for name in ("outputs", "turns", "references", "choice_log_probs"):
                    if row.get(name) is not None:
                        row[name] = tuple(row[name])
                yield InstanceRecord(**{"prompt": ""} | row)
            except (ValueError, TypeError) as error:
                raise UserError(f"{path}, line {number}: not a record ({error})") from None


def _read_json(path: Path) -> Any:
    if not path.exists():
        raise UserError(f"{path}: not found; expected the folder of an evaluation (zhenlong evaluate --output)")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path}: not valid JSON ({error})") from None
