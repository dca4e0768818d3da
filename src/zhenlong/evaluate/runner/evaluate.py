"""Models x scenarios x shots x trials x perturbations: asked once, measured, written to a folder."""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from zhenlong.errors import UserError
from zhenlong.evaluate.attacks import read_template
from zhenlong.evaluate.metrics.registry import metric
from zhenlong.evaluate.outcome import Judge, Outcome
from zhenlong.evaluate.perturbations import PERTURBATIONS
from zhenlong.evaluate.results import Result
from zhenlong.evaluate.runner.backend import Backend, backend_of
from zhenlong.evaluate.runner.cache import Cache
from zhenlong.evaluate.runner.drive import Told, drive
from zhenlong.evaluate.runner.folder import Folder
from zhenlong.evaluate.runner.judge import ModelJudge
from zhenlong.evaluate.runner.prepare import Asked, Prepared, perturbation_names, prepare
from zhenlong.evaluate.runner.progress import bars, told_to, warn
from zhenlong.evaluate.runner.suites import Entry, entries
from zhenlong.evaluate.scenarios.scenario import Scenario
from zhenlong.evaluate.subject import Subject
from zhenlong.evaluate.tally import tally
from zhenlong.loop.atomic import lock_folder


@dataclass(frozen=True)
class Evaluation:
    """A finished run: its folder, all numbers in it, and what could not be run, as (model, scenario, reason)."""

    folder: Path
    results: Sequence[Result]
    failed: Sequence[tuple[str, str, str]]


def evaluate(
    models: Sequence[Subject | Backend] | Mapping[str, Subject | Backend],
    output: str | Path,
    *,
    suite: str = "",
    scenarios: Sequence[str] = (),
    shots: Sequence[int] = (),
    trials: int = 1,
    limit: int | None = None,
    seed: int = 0,
    perturbations: str = "",
    judge: str | Backend = "",
    data: Mapping[str, str] | None = None,
    examples: Mapping[str, str] | None = None,
    baselines: Mapping[str, str] | None = None,
    references: Mapping[str, str] | None = None,
    options: Mapping[str, Any] | None = None,
    attack_templates: Mapping[str, str] | None = None,
    chat_template: str = "auto",
    as_chat: bool = False,
    max_tokens: int | None = None,
    cache: str | Path = "",
    tokens_per_microbatch: int = 8192,
    max_rows: int = 64,
    device: str = "auto",
    dtype: str = "float32",
    progress: bool = True,
) -> Evaluation:
    """Evaluate models on a suite, on scenarios, or on both; see docs/evaluation/running.md for the options.

    A model is a name, a loaded pair, or a `Backend`; a mapping gives them names of their own. A scenario that cannot be
    run (its data is not there) is told in `failed`, and the others run. Into a folder with results the run adds models
    and scenarios; raises `UserError` where it asks otherwise than what is there was asked.
    """
    named = dict(models) if isinstance(models, Mapping) else {_name(one): one for one in models}
    if not named or (not isinstance(models, Mapping) and len(named) < len(models)):
        raise UserError("models: expected one at least, and each once")
    if trials < 1 or any(count < 0 for count in shots) or (limit is not None and limit < 1):
        raise UserError("expected trials >= 1, shots >= 0 and limit >= 1")
    todo = entries(suite, scenarios)
    asked = Asked(
        tuple(shots),
        trials,
        limit,
        seed,
        perturbation_names(perturbations),
        dict(data or {}),
        dict(examples or {}),
        dict(baselines or {}),
        dict(references or {}),
        dict(options or {}),
        as_chat,
        max_tokens,
        dict(attack_templates or {}),
    )
    _require_known(asked, [one.scenario for one in todo])
    output = Path(output)
    lock = lock_folder(output)
    try:
        told = {"suite": suite, **asdict(asked), "chat_template": chat_template, "judge": str(judge and _name(judge))}
        folder = Folder(output, told)
        how: dict[str, Any] = {
            "chat_template": chat_template,
            "tokens_per_microbatch": tokens_per_microbatch,
            "max_rows": max_rows,
            "device": device,
            "dtype": dtype,
        }
        with Cache(cache or output / "cache.sqlite") as kept, bars(progress) as shown:
            ready = _prepared(todo, asked, folder)
            one = ModelJudge(backend_of(judge, kept, **how), kept) if judge else None
            for name, model in named.items():
                backend = backend_of(model, kept, name=name, **how)
                folder.asked["models"][name] = {"fingerprint": backend.fingerprint, **backend.facts}
                for each in ready:
                    label = f"{name} · {each.scenario.name}"
                    _run(name, backend, each, asked, folder, kept, one, told_to(shown, label))
                folder.asked["models"][name] |= backend.facts
            folder.write()
    finally:
        os.close(lock)
    failed = [(one["model"], one["scenario"], one["reason"]) for one in folder.asked["failed"]]
    return Evaluation(output, folder.results, failed)


def _prepared(todo: Sequence[Entry], asked: Asked, folder: Folder) -> list[Prepared]:
    """The scenarios whose data can be read; the others are noted as failed."""
    ready = []
    for entry in todo:
        try:
            one = prepare(entry, asked)
        except UserError as error:
            folder.fail("", entry.scenario.name, str(error))
            continue
        folder.admit(entry.scenario.name, one.settings())
        for line in one.notes:
            warn(line)
            folder.note(line)
        ready.append(one)
    return ready


def _run(
    name: str,
    backend: Backend,
    prepared: Prepared,
    asked: Asked,
    folder: Folder,
    cache: Cache,
    judge: Judge | None,
    told: Told | None,
) -> None:
    """One model on one scenario, from its requests to its files."""
    scenario = prepared.scenario
    kinds = {one: PERTURBATIONS[one].category for one in prepared.perturbations}
    try:
        if scenario.judge and judge is None:
            raise UserError(f"scenario {scenario.name}: needs a judge; give --judge MODEL")
        outcomes = drive(list(prepared.askings(backend, asked)), backend, cache, told)
        results, records = tally(scenario, outcomes, model=name, judge=judge, kinds=kinds, seed=asked.seed)
    except UserError as error:
        folder.fail(name, scenario.name, str(error))
        return
    for line in _remarks(name, scenario.name, outcomes):
        warn(line)
        folder.note(line)
    folder.put(name, scenario.name, results, records)


def _remarks(model: str, scenario: str, outcomes: Sequence[Outcome]) -> list[str]:
    """What was left out of prompts so that they fit, and what failed: a line each."""
    found = []
    for shots in sorted({one.shots for one in outcomes}):
        own = [one for one in outcomes if one.shots == shots]
        dropped = [one for one in own if one.recorded.get("examples_dropped")]
        cut = [one for one in own if one.recorded.get("input_cut")]
        failed = [one for one in own if one.failed]
        place = f"{model}, {scenario}, {shots}-shot"
        if dropped:
            most = max(int(one.recorded["examples_dropped"]) for one in dropped)
            found.append(
                f"{place}: {len(dropped)} of {len(own)} prompts did not fit with all examples; up to the last {most} "
                f"were dropped ({_ids(dropped)})"
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


def _require_known(asked: Asked, scenarios: Sequence[Scenario]) -> None:
    names = list(dict.fromkeys(name for one in scenarios for name in (one.name, one.base) if name))
    for kind in ("data", "examples", "baselines", "references"):
        unknown = sorted(set(getattr(asked, kind)) - set(names))
        if unknown:
            raise UserError(f"{kind}: {unknown[0]!r} is none of the scenarios asked for ({', '.join(names)})")
    attacks = sorted({one.attack for one in scenarios if one.attack})
    unknown = sorted(set(asked.attack_templates) - set(attacks))
    if unknown:
        raise UserError(
            f"attack_templates: {unknown[0]!r} is none of the attacks of the scenarios asked for "
            f"({', '.join(attacks) or 'there are none'})"
        )
    for name, file in asked.attack_templates.items():
        read_template(name, file)  # before anything is written
    metrics = {one["name"] if isinstance(one, Mapping) else one for each in scenarios for one in each.metrics}
    taken = {name for one in metrics for name in inspect.signature(metric(one).function).parameters}
    unknown = sorted(set(asked.options) - taken)
    if unknown:
        raise UserError(f"options: no metric of the scenarios asked for has the option {unknown[0]!r}; leave it out")
