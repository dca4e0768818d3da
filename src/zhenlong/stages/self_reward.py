"""Self-rewarding: a model answers, judges its own answers, and learns from its judgement; again and again.

Every iteration has its own prompts and its own folder, `iteration-1`, `iteration-2`, ...: the answers' rankings, a
report on the judge, and a run of `dpo`, whose model makes and judges the next iteration's answers (Yuan et al. 2024).
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from shutil import copytree
from typing import Any, Literal

from typing_extensions import Unpack

from zhenlong.data import read
from zhenlong.data.options import DataOptions
from zhenlong.errors import UserError
from zhenlong.feedback.ai_feedback import label_preferences, sample_response_sets, write_rankings
from zhenlong.feedback.pairwise_labelling import validate_max_unparsed
from zhenlong.feedback.pointwise_judge import JudgingSettings, best_worst_pair, judge_responses
from zhenlong.inference.cache import RequestCache
from zhenlong.inference.model_client import ModelClient, open_model, require_models_exist
from zhenlong.inference.options import BackendSettings
from zhenlong.loop import TrainingOptions
from zhenlong.loop.atomic import atomic_folder, lock_folder, write_json, write_text
from zhenlong.loop.config import check_run_folder, resolve_config, write_config
from zhenlong.models.options import ModelOptions
from zhenlong.objectives.preference import PreferenceSettings
from zhenlong.options import take_options
from zhenlong.options.keywords import LikelihoodKwargs
from zhenlong.records import Ranking, Task
from zhenlong.stages.dpo import dpo


@dataclass(frozen=True)
class SelfRewardSettings:
    """How answers are sampled and judged: the options of `self_reward` that say so."""

    samples_per_prompt: int
    temperature: float
    max_tokens: int
    judge_mode: str
    judge_samples: int
    judge_temperature: float
    judge_max_tokens: int
    max_unparsed: float


def self_reward(
    *,
    model: str,
    data: str,
    output: str,
    heldout: str = "",
    iterations: int = 2,
    samples_per_prompt: int = 4,
    temperature: float = 1.0,
    max_tokens: int = 256,
    judge_mode: Literal["pointwise", "pairwise"] = "pointwise",
    judge_samples: int = 3,
    judge_temperature: float = 0.7,
    judge_max_tokens: int = 512,
    max_unparsed: float = 0.5,
    beta: float = 0.1,
    **options: Unpack[LikelihoodKwargs],
) -> Path:
    """Let a model judge its own answers and learn from them by DPO, iteration after iteration.

    Args:
        model: Model to start from, which has to be able to judge: pocket, a model or run folder, or a hub id.
        data: Prompts: files, hf:owner/name or world:tasks; each iteration takes its own part of them.
        output: Run folder to make; each iteration has a folder in it.
        heldout: Rankings to measure the accuracy of each iteration's implicit reward on.
        iterations: Rounds of answering, judging and training.
        samples_per_prompt: Answers sampled for each prompt; what is empty, cut off or said twice is not judged.
        temperature: Temperature of these answers.
        max_tokens: Longest of these answers.
        judge_mode: pointwise (0 to 5 each; the best is preferred to the worst) or pairwise (two answers at a time, in
            both orders).
        judge_samples: Judgements of each answer that its points are the mean of.
        judge_temperature: Temperature of these judgements.
        max_unparsed: Share of judgements without the asked form above which the run stops.
        beta: Strength of DPO's pull to the model that the iteration began with.

    Returns the run folder, whose model is the last iteration's. The shared options are those of each iteration's dpo.
    """
    config = dict(locals())
    data_options, model_options, training = take_options(
        options,
        DataOptions(),
        ModelOptions(),
        TrainingOptions(lr=1e-6, warmup_steps=0.1),
    )
    settings = SelfRewardSettings(
        samples_per_prompt,
        temperature,
        max_tokens,
        judge_mode,
        judge_samples,
        judge_temperature,
        judge_max_tokens,
        max_unparsed,
    )
    _check_options(settings, iterations)
    PreferenceSettings(beta)  # refuses a beta out of range before anything is sampled
    folder, resolved_config = Path(output), resolve_config(config, data_options, model_options, training)
    check_run_folder(folder, resolved_config, training.resume)
    if (folder / "finished.json").exists():
        print(f"{folder}: this self_reward run is finished; nothing to resume", file=sys.stderr)
        return folder
    tasks = read(data, Task, skip_bad_rows=data_options.skip_bad_rows)
    if len(tasks) < iterations:
        raise UserError(f"{data}: {len(tasks)} prompts are too few for {iterations} iterations; each has its own")
    shared = data_options.as_dict() | model_options.as_dict() | training.as_dict()
    dpo_options = {"heldout": heldout, "beta": beta, **shared, "skip_bad_rows": False, "resume": True}
    require_models_exist(model)
    lock = lock_folder(folder)
    try:
        current = model
        for number in range(1, iterations + 1):
            iteration_folder = folder / f"iteration-{number}"
            if not (iteration_folder / "rankings.jsonl").exists():
                iteration_tasks = tasks[number - 1 :: iterations]
                seed = training.seed + 7919 * number  # other draws in each iteration
                iteration_folder.mkdir(parents=True, exist_ok=True)
                with RequestCache(iteration_folder / "cache.sqlite") as cache:
                    backend = BackendSettings(data_options.template_spec, device=model_options.device)
                    client = open_model(current, cache, name="self", settings=backend)
                    rankings, report = self_judged_rankings(client, iteration_tasks, settings, seed)
                write_config(folder / "config.yaml", "self_reward", resolved_config)
                write_json(
                    iteration_folder / "report.json",
                    {"iteration": number, "model": current, "prompts": len(iteration_tasks)} | report,
                )
                write_rankings(iteration_folder / "rankings.jsonl", rankings)
            current = str(
                dpo(
                    model=current,
                    data=str(iteration_folder / "rankings.jsonl"),
                    output=str(iteration_folder / "dpo"),
                    **dpo_options,
                )
            )
        return _write_results(folder, iterations)
    finally:
        os.close(lock)


def self_judged_rankings(
    client: ModelClient, tasks: Sequence[Task], settings: SelfRewardSettings, seed: int
) -> tuple[list[Ranking], dict[str, Any]]:
    """Rankings of a model's own answers by its own judgement, and the report on them.

    Raises `UserError` where too few judgements could be read, or nothing is preferred.
    """
    questions = sample_response_sets(
        client,
        tasks,
        samples_per_prompt=settings.samples_per_prompt,
        max_tokens=settings.max_tokens,
        temperature=settings.temperature,
        seed=seed,
    )
    if settings.judge_mode == "pairwise":
        labelled = label_preferences(
            client, questions, max_tokens=settings.judge_max_tokens, max_unparsed=settings.max_unparsed
        )
        rankings, report = labelled.rankings, labelled.report
    else:
        judging = JudgingSettings(
            judge_samples=settings.judge_samples,
            temperature=settings.judge_temperature,
            max_tokens=settings.judge_max_tokens,
            max_unparsed=settings.max_unparsed,
            seed=seed,
        )
        pointed, report = judge_responses(client, questions, judging)
        every = [best_worst_pair(each, client.name) for each in pointed]
        rankings = [ranking for ranking in every if ranking is not None]
    if not rankings:
        raise UserError(
            "self_reward: the model prefers none of its answers to another; sample hotter, or begin with a better judge"
        )
    return rankings, report | {"questions": len(questions), "rankings": len(rankings)}


def _write_results(folder: Path, iterations: int) -> Path:
    """The last iteration's model as the run's own, what all iterations cost, and a line of metrics for each."""
    iteration_folders = [folder / f"iteration-{number}" for number in range(1, iterations + 1)]
    reports = [_read_json(one / "report.json") for one in iteration_folders]
    ledgers = [_read_json(one / "dpo" / "ledger.json") for one in iteration_folders]
    results = [_read_json(one / "dpo" / "finished.json")["results"] for one in iteration_folders]
    with atomic_folder(folder / "model") as made:
        copytree(iteration_folders[-1] / "dpo" / "model", made, dirs_exist_ok=True)
    totals = {name: sum(ledger[name] for ledger in ledgers) for name in ("tokens", "flops", "seconds")}
    write_json(folder / "ledger.json", {"stage": "self_reward", **totals, "versions": ledgers[-1]["versions"]})
    lines = [{"step": number, **_flat_numbers(report)} for number, report in enumerate(reports, 1)]
    write_text(folder / "metrics.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    per_iteration = [{"judging": report, "dpo": result} for report, result in zip(reports, results, strict=True)]
    write_json(folder / "finished.json", {"steps": iterations, "results": {"iterations": per_iteration}})
    return folder


def _flat_numbers(report: dict[str, Any]) -> dict[str, float]:
    """A report's plain numbers, and the means of its intervals."""
    flat = {name: value["mean"] if isinstance(value, dict) else value for name, value in report.items()
            if not isinstance(value, dict) or "mean" in value}  # fmt: skip
    return {name: value for name, value in flat.items() if isinstance(value, int | float)}


def _read_json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def _check_options(settings: SelfRewardSettings, iterations: int) -> None:
    minimums = {
        "iterations": (iterations, 1),
        "samples_per_prompt": (settings.samples_per_prompt, 2),
        "judge_samples": (settings.judge_samples, 1),
        "max_tokens": (settings.max_tokens, 1),
        "judge_max_tokens": (settings.judge_max_tokens, 1),
    }
    for name, (value, fewest) in minimums.items():
        if value < fewest:
            raise UserError(f"{name}: expected {fewest} or more, got {value}")
    if settings.judge_mode not in ("pointwise", "pairwise"):
        raise UserError(f"judge_mode: expected pointwise or pairwise, got {settings.judge_mode!r}")
    if not settings.temperature > 0:
        raise UserError(
            f"temperature: expected a number above 0, for answers have to differ, got {settings.temperature}"
        )
    if settings.judge_temperature < 0:
        raise UserError(f"judge_temperature: expected 0 or more, got {settings.judge_temperature}")
    validate_max_unparsed(settings.max_unparsed)
