"""Models x scenarios x shots x trials x perturbations: asked once, measured, written to a folder."""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from typing_extensions import Unpack

from zhenlong.data.template_sources import parse_template_spec
from zhenlong.errors import UserError
from zhenlong.evaluate.metrics.registry import get_metric
from zhenlong.evaluate.perturb import PERTURBATIONS
from zhenlong.evaluate.perturb.code_attack import read_template
from zhenlong.evaluate.results.outcome import Outcome
from zhenlong.evaluate.results.result_files import Result
from zhenlong.evaluate.run.aggregate import aggregate
from zhenlong.evaluate.run.console import print_warning, progress_bars, progress_callback, unscored_notes
from zhenlong.evaluate.run.folder import EvaluationFolder
from zhenlong.evaluate.run.options import EvaluationOptions, NamedFiles
from zhenlong.evaluate.run.prepare import PreparedScenario, prepare_scenario
from zhenlong.evaluate.run.reading_shares import reading_notes
from zhenlong.evaluate.run.run_plans import ITEM_AMONG_EXAMPLES, run_plans
from zhenlong.evaluate.run.suites import SuiteEntry, select_entries
from zhenlong.evaluate.scenarios.scenario import Scenario
from zhenlong.inference.cache import RequestCache
from zhenlong.inference.model_client import Judge, ModelClient, ProgressCallback, open_model
from zhenlong.inference.requests import Backend
from zhenlong.inference.verdicts import unread_notes, unread_verdicts
from zhenlong.loop.atomic import lock_folder
from zhenlong.models.model_argument import ModelLike
from zhenlong.options import take_options
from zhenlong.options.keywords import EvaluationKwargs

SCENARIO_FILES: Final[tuple[NamedFiles, ...]] = ("data", "examples", "baseline_outputs", "reference_answers")


@dataclass(frozen=True)
class Evaluation:
    """A finished run: its folder, all numbers in it, and what could not be run, as (model, scenario, reason)."""

    folder: Path
    results: Sequence[Result]
    failed: Sequence[tuple[str, str, str]]

    @property
    def exit_code(self) -> int:
        """What the command ends with: 1 where a scenario could not be run."""
        return 1 if self.failed else 0


def evaluate(
    models: Sequence[ModelLike | Backend] | Mapping[str, ModelLike | Backend],
    output: str | Path,
    *,
    judge_backend: Backend | None = None,
    **options: Unpack[EvaluationKwargs],
) -> Evaluation:
    """Evaluate models on a suite, on scenarios, or on both; see docs/evaluation/running.md for the options.

    A model is a name, a loaded pair, or a `Backend`; a mapping gives them names of their own. A scenario that cannot be
    run (its data is not there) is told in `failed`, and the others run. Into a folder with results the run adds models
    and scenarios; raises `UserError` where it asks otherwise than what is there was asked. `judge_backend` is a judge
    that has no name to load it by.
    """
    (evaluation_options,) = take_options(options, EvaluationOptions())
    return run_evaluation(models, output, evaluation_options, judge_backend)


def run_evaluation(
    models: Sequence[ModelLike | Backend] | Mapping[str, ModelLike | Backend],
    output: str | Path,
    options: EvaluationOptions,
    judge_backend: Backend | None = None,
) -> Evaluation:
    """`evaluate` with its options as one object."""
    named = dict(models) if isinstance(models, Mapping) else {_name(one): one for one in models}
    if not named or (not isinstance(models, Mapping) and len(named) < len(models)):
        raise UserError("models: expected one at least, and each once")
    suite_entries = select_entries(options.suite, options.scenario)
    _check_names(options, [one.scenario for one in suite_entries])
    output = Path(output)
    judge = judge_backend or options.judge
    lock = lock_folder(output)
    try:
        folder = EvaluationFolder(output, options.asked() | {"judge": str(judge and _name(judge))})
        with (
            RequestCache(options.cache or output / "cache.sqlite") as cache,
            progress_bars(options.progress) as bars,
        ):
            prepared_scenarios = _prepare_scenarios(suite_entries, options, folder)
            settings = options.backend_settings(options.template_spec)
            of_judge = options.backend_settings(parse_template_spec(options.chat_template)[0])
            judge_client = open_model(judge, cache, settings=of_judge, refresh=options.refresh) if judge else None
            for name, model in named.items():
                client = open_model(model, cache, name=name, settings=settings, refresh=options.refresh)
                folder.manifest["models"][name] = {"fingerprint": client.backend.fingerprint, **client.backend.metadata}
                for prepared in prepared_scenarios:
                    label = f"{name} · {prepared.scenario.name}"
                    _evaluate_scenario(
                        name, client, prepared, options, folder, judge_client, progress_callback(bars, label)
                    )
                folder.manifest["models"][name] |= client.backend.metadata
                folder.manifest["ledger"][name] = client.ledger.as_dict()
            if judge_client:
                folder.manifest["judge_ledger"] = judge_client.ledger.as_dict()
            folder.write()
    finally:
        os.close(lock)
    failed = [(one["model"], one["scenario"], one["reason"]) for one in folder.manifest["failed"]]
    return Evaluation(output, folder.results, failed)


def _prepare_scenarios(
    suite_entries: Sequence[SuiteEntry], options: EvaluationOptions, folder: EvaluationFolder
) -> list[PreparedScenario]:
    """The scenarios whose data can be read; the others are noted as failed."""
    prepared = []
    for entry in suite_entries:
        try:
            one = prepare_scenario(entry, options)
        except UserError as error:
            folder.add_failure("", entry.scenario.name, str(error))
            continue
        folder.add_scenario(entry.scenario.name, one.settings())
        for line in one.notes:
            print_warning(line)
            folder.add_note(line)
        prepared.append(one)
    return prepared


def _evaluate_scenario(
    name: str,
    model: ModelClient,
    prepared: PreparedScenario,
    options: EvaluationOptions,
    folder: EvaluationFolder,
    judge: Judge | None,
    on_progress: ProgressCallback | None,
) -> None:
    """One model on one scenario, from its requests to its files."""
    scenario = prepared.scenario
    kinds = {one: PERTURBATIONS[one].category for one in prepared.perturbations}
    try:
        if scenario.judge and judge is None:
            raise UserError(f"scenario {scenario.name}: needs a judge; give --judge MODEL")
        outcomes = run_plans(list(prepared.request_plans(model.backend, options)), model, on_progress)
        results, records = aggregate(
            scenario, outcomes, model=name, judge=judge, perturbation_kinds=kinds, seed=options.seed
        )
    except UserError as error:
        folder.add_failure(name, scenario.name, str(error))
        return
    unread = unread_verdicts([one.judgement for one in records])
    unscored = unscored_notes(name, scenario.name, records)
    unread_lines = unread_notes(name, scenario.name, unread)
    reading_lines = reading_notes(name, scenario.name, records)
    for line in [*_outcome_notes(name, scenario.name, outcomes), *unscored, *unread_lines, *reading_lines]:
        print_warning(line)
        folder.add_note(line)
    folder.add_unread_verdicts(name, scenario.name, unread)
    folder.add_results(name, scenario.name, results, records)


def _outcome_notes(model: str, scenario: str, outcomes: Sequence[Outcome]) -> list[str]:
    """What was left out of prompts so that they fit, and what failed: a line each."""
    found = []
    for shots in sorted({one.shots for one in outcomes}):
        own = [one for one in outcomes if one.shots == shots]
        dropped = [one for one in own if one.metadata.get("examples_dropped")]
        cut = [one for one in own if one.metadata.get("input_cut")]
        itself = [one for one in own if one.metadata.get(ITEM_AMONG_EXAMPLES)]
        failed = [one for one in own if one.failed]
        place = f"{model}, {scenario}, {shots}-shot"
        if dropped:
            most = max(int(one.metadata["examples_dropped"]) for one in dropped)
            found.append(
                f"{place}: {len(dropped)} of {len(own)} prompts did not fit with all examples; up to the last {most} "
                f"were dropped ({_ids(dropped)})"
            )
        if itself:
            found.append(
                f"{place}: {len(itself)} of {len(own)} items were among their own examples and left out there "
                f"({_ids(itself)}); they saw fewer examples"
            )
        if cut:
            found.append(f"{place}: {len(cut)} of {len(own)} inputs were cut from the right to fit ({_ids(cut)})")
        if failed:
            found.append(f"{place}: {len(failed)} of {len(own)} have no answer ({_ids(failed)}: {failed[0].failed})")
    return found


def _ids(outcomes: Sequence[Outcome]) -> str:
    ids = list(dict.fromkeys(one.instance.id for one in outcomes))
    return f"id {', '.join(ids[:3])}{', ...' if len(ids) > 3 else ''}"


def _name(model: Any) -> str:
    if isinstance(model, str | Path):
        return str(model)
    return str(getattr(model, "name", "model"))


def _check_names(options: EvaluationOptions, scenarios: Sequence[Scenario]) -> None:
    names = list(dict.fromkeys(name for one in scenarios for name in (one.name, one.base_scenario) if name))
    for kind in SCENARIO_FILES:
        unknown = sorted(set(options.files(kind)) - set(names))
        if unknown:
            raise UserError(f"{kind}: {unknown[0]!r} is none of the scenarios asked for ({', '.join(names)})")
    attacks = sorted({one.attack for one in scenarios if one.attack})
    templates = options.files("attack_template")
    unknown = sorted(set(templates) - set(attacks))
    if unknown:
        raise UserError(
            f"attack_template: {unknown[0]!r} is none of the attacks of the scenarios asked for "
            f"({', '.join(attacks) or 'there are none'})"
        )
    for name, file in templates.items():
        read_template(name, file)  # before anything is written
    metrics = {one["name"] if isinstance(one, Mapping) else one for each in scenarios for one in each.metrics}
    taken = {name for one in metrics for name in inspect.signature(get_metric(one).function).parameters}
    own_options = {"scorer": options.toxicity_classifier, "judge_max_tokens": options.judge_max_tokens}
    unknown = sorted(set(options.metric_options) - taken - {name for name, value in own_options.items() if value})
    if unknown:
        raise UserError(
            f"metric_option: no metric of the scenarios asked for has the option {unknown[0]!r}; leave it out"
        )
