"""`zhenlong score`: score recorded outputs by a scenario's metrics, without loading a model."""

from __future__ import annotations

import inspect
import json as json_format
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final, Literal

import yaml

from zhenlong.errors import UserError
from zhenlong.evaluate.metrics.registry import get_metric
from zhenlong.evaluate.results.instance import Instance
from zhenlong.evaluate.results.result_files import (
    InstanceRecord,
    Result,
    instances_path,
    read_manifest,
    read_results,
    record_to_json,
    write_results,
)
from zhenlong.evaluate.run import results_table
from zhenlong.evaluate.run.aggregate import aggregate
from zhenlong.evaluate.run.console import print_note, print_warning, unscored_notes
from zhenlong.evaluate.run.reading_shares import reading_notes
from zhenlong.evaluate.run.recorded_outputs import MatchingOptions, read_recorded_outputs
from zhenlong.evaluate.run.suites import select_entries
from zhenlong.evaluate.scenarios.instances import RECORDED_PREFIX, load_instances, recorded_instances
from zhenlong.evaluate.scenarios.scenario import Scenario
from zhenlong.evaluate.transcripts.formats import file_rows
from zhenlong.inference.verdicts import unread_notes, unread_verdicts
from zhenlong.loop.atomic import to_jsonable, write_text
from zhenlong.loop.config import package_versions

OUTPUT_ENDINGS: Final = (".json", ".jsonl", ".gz", ".csv", ".tsv", ".parquet", ".eval", ".txt", ".zip")


def score(
    scenario: str,
    *,
    data: str = "",
    outputs: str,
    output: str = "",
    model: str = "",
    json: bool = False,
    allow_missing: bool = False,
    allow_extra: bool = False,
    sandbox: Literal["auto", "none"] = "auto",
    toxicity_classifier: str = "",
    metric_option: Sequence[str] = (),
    baseline_outputs: str = "",
    seed: int = 0,
) -> Sequence[Result]:
    """Score recorded outputs by a scenario's metrics.

    Args:
        scenario: Name of the scenario, such as gsm8k.
        data: The data set in the scenario's format; empty: the scenario's own source.
        outputs: File of the outputs: rows of id and output, outputs, choice_log_probs or recorded verdicts, or a
            file of FastChat, AlpacaEval, Arena-Hard, lm-evaluation-harness, inspect or tau-bench as these write it.
        output: Folder of the evaluation to create, or to add this scenario to.
        model: Name of the model that made the outputs, and the one to read in a file of several; empty: the model that
            the file names, else the file's name.
        allow_missing: Count instances without a row as failed; otherwise they are an error.
        allow_extra: Leave out rows that belong to no instance; otherwise they are an error.
        sandbox: auto isolates the programs in the outputs, and refuses where it cannot; none does not isolate them.
        toxicity_classifier: Scorer of toxicity metrics: a classifier's folder or hub id, or FOLDER:LABEL; empty: the
            lexicon, which finds about half of what is toxic.
        metric_option: Option of the scenario's metrics, as name=value, such as "k=[1, 10]"; may be repeated.
        baseline_outputs: Responses that the outputs were judged against, rows of id and output, for length or style
            control.
        seed: Seed of generated data and of resampling.

    See docs/evaluation/scoring.md for the row formats and each scenario's ids.
    """
    selected = _single_scenario(scenario)
    own_options: list[tuple[str, Any]] = [("sandbox", sandbox)] if sandbox != "auto" else []
    own_options += [("scorer", toxicity_classifier)] if toxicity_classifier else []
    for one, value in [*own_options, *map(_parse_option, metric_option)]:
        selected = with_metric_option(selected, one, value)
    if baseline_outputs:
        selected = replace(selected, baseline_outputs=baseline_outputs)
    options = MatchingOptions(allow_missing, allow_extra, model)
    instances = _instances(selected, data, outputs, seed)
    recorded = read_recorded_outputs(selected, instances, outputs, options)
    name = model or recorded.model or file_model_name(outputs)
    for note in recorded.notes:
        print_note(f"{Path(outputs).name}: {note}")
    results, records = aggregate(selected, recorded.outcomes, model=name, seed=seed)
    unread = unread_notes(name, selected.name, unread_verdicts([one.judgement for one in records]))
    for line in [*unscored_notes(name, selected.name, records), *unread, *reading_notes(name, selected.name, records)]:
        print_warning(line)
    if output:
        provenance = {"data": data or selected.source, "outputs": outputs, "seed": seed, "format": recorded.format}
        add_to_evaluation(output, name, selected.name, provenance | dict(recorded.counts), results, records)
    if json:
        rows = [asdict(one) | {"value": one.value.as_json()} for one in results]
        whole = {"model": name, "scenario": selected.name, "results": rows}
        print(json_format.dumps(to_jsonable(whole), indent=2, ensure_ascii=False))
    else:
        print(results_table(results, full=True))
    return results


def file_model_name(outputs: str) -> str:
    """The model that a file of outputs is named after: its name without the endings of its format."""
    path = Path(outputs)
    while path.suffix.lower() in OUTPUT_ENDINGS:
        path = path.with_suffix("")
    return path.name


def with_metric_option(scenario: Scenario, option: str, value: Any) -> Scenario:
    """The scenario with an option set on each of its metrics that has it. Raises `UserError` if none has."""
    metrics, taken = [], False
    for one in scenario.metrics:
        given = dict(one) if isinstance(one, Mapping) else {"name": one}
        if option in inspect.signature(get_metric(given["name"]).function).parameters:
            given, taken = given | {option: value}, True
        metrics.append(given)
    if not taken:
        raise UserError(f"scenario {scenario.name}: none of its metrics has the option {option}; leave it out")
    return replace(scenario, metrics=tuple(metrics))


def add_to_evaluation(
    folder: str | Path,
    model: str,
    scenario: str,
    provenance: Mapping[str, Any],
    results: Sequence[Result],
    records: Sequence[InstanceRecord],
) -> None:
    """Write one model's results on one scenario to an evaluation's folder, replacing older ones.

    `provenance` records the source of data and outputs. Raises `UserError` for a folder that is not an evaluation.
    """
    path = Path(folder)
    if path.is_dir() and any(path.iterdir()) and not (path / "evaluation.json").exists():
        raise UserError(f"{path}: is not an evaluation but has other files; choose another output")
    manifest: dict[str, Any] = {
        "models": {},
        "scenarios": {},
        "failed": [],
        "notes": [],
        "versions": package_versions(),
    }
    other_results: list[Result] = []
    if (path / "evaluation.json").exists():
        manifest = {**manifest, **read_manifest(path)}
        other_results = [one for one in read_results(path) if (one.model, one.scenario) != (model, scenario)]
    scored = {**manifest["models"].get(model, {}).get("scored", {}), scenario: dict(provenance)}
    manifest["models"] = {**manifest["models"], model: {**manifest["models"].get(model, {}), "scored": scored}}
    manifest["scenarios"] = {**manifest["scenarios"], scenario: manifest["scenarios"].get(scenario, {})}
    notes = reading_notes(model, scenario, records)
    manifest["notes"] = [*manifest["notes"], *(one for one in notes if one not in manifest["notes"])]
    write_text(instances_path(path, model, scenario), "".join(record_to_json(one) + "\n" for one in records))
    write_results(path, manifest, [*other_results, *results])


def _instances(scenario: Scenario, data: str, outputs: str, seed: int) -> list[Instance]:
    """The scenario's instances; those of a scenario that is only recorded are in the file of outputs."""
    if scenario.source.startswith(RECORDED_PREFIX) and not data:
        return recorded_instances(scenario, file_rows(Path(outputs)))
    return load_instances(scenario, data=data, seed=seed)


def _parse_option(given: str) -> tuple[str, Any]:
    name, sign, value = given.partition("=")
    if not (name and sign):
        raise UserError(f"metric_option {given!r}: expected name=value")
    try:
        return name, yaml.safe_load(value)
    except yaml.YAMLError:
        raise UserError(f"metric_option {given!r}: the value is not valid YAML") from None


def _single_scenario(name: str) -> Scenario:
    found = [entry.scenario for entry in select_entries("", [name])]
    if len(found) != 1:
        raise UserError(f"{name}: matches {len(found)} scenarios; expected the name of one")
    return found[0]
