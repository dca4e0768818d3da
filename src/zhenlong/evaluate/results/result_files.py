"""An evaluation on disk: what was measured of which model, and every instance behind it.

E/evaluation.json     what was asked for: models, scenarios, shots, seed, limit, versions
E/results.json        a list of `Result`, one for each number
E/instances/<model>/<scenario>.jsonl   one `Record` a line: prompt, outputs, references, scores
E/report.html, E/report.md
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from zhenlong.errors import UserError
from zhenlong.evaluate.statistics.intervals import Interval
from zhenlong.loop.atomic import to_jsonable, write_json

WORST_CASE_PREFIX: Final = "worst_case/"  # before the kind of the perturbations that a result is the worst of


@dataclass(frozen=True)
class Result:
    """One number of one model on one scenario. `value` is over the instances of `group` ("name=value"; "": all)."""

    model: str
    scenario: str
    measure: str
    value: Interval
    category: str = "accuracy"
    higher_is_better: bool | None = True
    shots: int = 0
    perturbation: str = (
        ""  # "": as written; "worst_case/robustness", "worst_case/fairness": the worst of a kind; else its name
    )
    group: str = ""
    main: bool = False  # the measure that stands for its scenario
    failed: int = 0  # instances without an answer, which are in no mean

    @property
    def key(self) -> tuple[str, ...]:
        """What names the number, whichever the model."""
        return (self.scenario, str(self.shots), self.perturbation, self.group, self.category, self.measure)


@dataclass(frozen=True)
class InstanceRecord:
    """One instance as one model met it: a line of the instances' files."""

    id: str
    prompt: str
    outputs: tuple[str, ...] = ()
    turns: tuple[str, ...] = ()  # the first output's answers to further turns
    scores: Mapping[str, float] = field(default_factory=dict)
    references: tuple[Mapping[str, Any], ...] = ()  # {"text", "correct"}
    choice_log_probs: tuple[float, ...] | None = None
    predicted: int | None = None
    confidence: float | None = None  # in the answer, where a log-probability tells
    groups: Mapping[str, str] = field(default_factory=dict)
    perturbation: str = ""
    shots: int = 0
    trial: int = 0
    failed: str = ""
    cost: Mapping[str, Any] = field(default_factory=dict)
    judgement: Mapping[str, Any] = field(default_factory=dict)

    @property
    def pairing_key(self) -> tuple[str, str, int, int]:
        """What pairs it with the same question put to another model."""
        return (self.id, self.perturbation, self.shots, self.trial)


def write_results(folder: str | Path, manifest: Mapping[str, Any], results: Iterable[Result]) -> None:
    """Write `evaluation.json` and `results.json`, each whole or not at all."""
    write_json(Path(folder) / "evaluation.json", dict(manifest))
    rows = [asdict(one) | {"value": one.value.as_json()} for one in results]
    write_json(Path(folder) / "results.json", rows)


def read_manifest(folder: str | Path) -> dict[str, Any]:
    """What the evaluation in a folder was asked for. Raises `UserError` where there is none."""
    found: dict[str, Any] = _read_json(Path(folder) / "evaluation.json")
    return found


def read_results(folder: str | Path) -> list[Result]:
    """The numbers of an evaluation. Raises `UserError` where there are none."""
    found = []
    for row in _read_json(Path(folder) / "results.json"):
        value = row.pop("value")
        low, high = (float("nan") if end is None else end for end in value["ci95"])
        mean = float("nan") if value["mean"] is None else value["mean"]
        found.append(Result(value=Interval(mean, (low, high), value["n"]), **row))
    return found


def instances_path(folder: str | Path, model: str, scenario: str) -> Path:
    """Where the records of a model on a scenario are kept; a name that is no file name is quoted."""
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
