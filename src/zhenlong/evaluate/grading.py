"""`zhenlong score`: grade outputs made elsewhere, without a model, by the rules of a scenario."""

from __future__ import annotations

import inspect
import json as json_format
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import yaml

from zhenlong.errors import UserError
from zhenlong.evaluate.metrics.registry import metric
from zhenlong.evaluate.recorded import read_outcomes
from zhenlong.evaluate.results import (
    Record,
    Result,
    instances_path,
    read_asked,
    read_results,
    record_line,
    write_results,
)
from zhenlong.evaluate.runner import table
from zhenlong.evaluate.runner.suites import entries
from zhenlong.evaluate.scenarios.instances import instances_of
from zhenlong.evaluate.scenarios.scenario import Scenario
from zhenlong.evaluate.tally import tally
from zhenlong.loop.atomic import plain, write_text
from zhenlong.loop.config import versions


def score(
    scenario: str,
    *,
    data: str = "",
    outputs: str,
    output: str = "",
    model: str = "",
    json: bool = False,
    allow_missing: bool = False,
    unsafe: bool = False,
    option: Sequence[str] = (),
    baseline: str = "",
    seed: int = 0,
) -> None:
    """Grade outputs made elsewhere.

    Args:
        scenario: Name of the scenario whose rules grade, such as gsm8k.
        data: The data set, as the scenario reads it; empty takes the scenario's own source.
        outputs: JSONL file of the outputs, rows of id and output, outputs, choice_log_probs or recorded verdicts.
        output: Folder of the evaluation to make, or to add this scenario to.
        model: Name of what made the outputs; empty takes the file's name.
        json: Print JSON in place of the table.
        allow_missing: Count instances without a row as failed instead of refusing.
        unsafe: Run programs that models wrote without isolation, where there is none.
        option: Option of the scenario's metrics, as name=value, such as "k=[1, 10]". Give it again for each.
        baseline: Answers that the outputs were judged against, rows of id and output, where lengths or style count.
        seed: Seed of generated data and of resampling.

    See docs/evaluation/scoring.md for the rows, and for what each scenario's ids are.
    """
    chosen = _one(scenario)
    for one, value in [*([("unsafe", True)] if unsafe else []), *map(_option, option)]:
        chosen = with_option(chosen, one, value)
    if baseline:
        chosen = replace(chosen, baseline=baseline)
    name = model or Path(outputs).name.split(".")[0]
    instances = instances_of(chosen, data=data, seed=seed)
    outcomes = read_outcomes(chosen, instances, outputs, allow_missing=allow_missing)
    results, records = tally(chosen, outcomes, model=name, seed=seed)
    if output:
        facts = {"data": data or chosen.source, "outputs": outputs, "seed": seed}
        add_to_folder(output, name, chosen.name, facts, results, records)
    if json:
        rows = [asdict(one) | {"value": one.value.as_json()} for one in results]
        whole = {"model": name, "scenario": chosen.name, "results": rows}
        print(json_format.dumps(plain(whole), indent=2, ensure_ascii=False))
        return
    print(table(results, full=True))


def with_option(scenario: Scenario, option: str, value: Any) -> Scenario:
    """The scenario with an option given to each of its metrics that has it. Raises `UserError` where none has."""
    metrics, taken = [], False
    for one in scenario.metrics:
        given = dict(one) if isinstance(one, Mapping) else {"name": one}
        if option in inspect.signature(metric(given["name"]).function).parameters:
            given, taken = given | {option: value}, True
        metrics.append(given)
    if not taken:
        raise UserError(f"scenario {scenario.name}: none of its metrics has the option {option}; leave it out")
    return replace(scenario, metrics=tuple(metrics))


def add_to_folder(
    folder: str | Path,
    model: str,
    scenario: str,
    facts: Mapping[str, Any],
    results: Sequence[Result],
    records: Iterable[Record],
) -> None:
    """Write one model's results on one scenario to an evaluation's folder, in place of older ones of the same.

    `facts` says where data and outputs are from. Raises `UserError` for a folder that holds something else.
    """
    path = Path(folder)
    if path.is_dir() and any(path.iterdir()) and not (path / "evaluation.json").exists():
        raise UserError(f"{path}: holds other files and no evaluation; choose another output")
    asked: dict[str, Any] = {"models": {}, "scenarios": {}, "failed": [], "notes": [], "versions": versions()}
    kept: list[Result] = []
    if (path / "evaluation.json").exists():
        asked = {**asked, **read_asked(path)}
        kept = [one for one in read_results(path) if (one.model, one.scenario) != (model, scenario)]
    scored = {**asked["models"].get(model, {}).get("scored", {}), scenario: dict(facts)}
    asked["models"] = {**asked["models"], model: {**asked["models"].get(model, {}), "scored": scored}}
    asked["scenarios"] = {**asked["scenarios"], scenario: asked["scenarios"].get(scenario, {})}
    write_text(instances_path(path, model, scenario), "".join(record_line(one) + "\n" for one in records))
    write_results(path, asked, [*kept, *results])


def _option(given: str) -> tuple[str, Any]:
    name, sign, value = given.partition("=")
    if not (name and sign):
        raise UserError(f"option {given!r}: expected name=value")
    try:
        return name, yaml.safe_load(value)
    except yaml.YAMLError:
        raise UserError(f"option {given!r}: the value is not valid YAML") from None


def _one(name: str) -> Scenario:
    found = [entry.scenario for entry in entries("", [name])]
    if len(found) != 1:
        raise UserError(f"{name}: stands for {len(found)} scenarios; expected the name of one")
    return found[0]
