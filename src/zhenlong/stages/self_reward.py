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

from zhenlong.data import Overlong, read
from zhenlong.errors import UserError
from zhenlong.evaluate.runner.cache import Cache
from zhenlong.feedback.asking import asked, require_models
from zhenlong.feedback.judging import check_unparsed
from zhenlong.feedback.label import label_questions, sampled_questions, write_rankings
from zhenlong.feedback.points import best_and_worst, point_answers
from zhenlong.loop import Options
from zhenlong.loop.atomic import lock_folder, new_folder, write_json, write_text
from zhenlong.loop.config import check_folder, resolved, write_config
from zhenlong.objectives.preference import check_preference
from zhenlong.records import Ranking, Task
from zhenlong.stages.dpo import dpo


@dataclass(frozen=True)
class Judging:
    """How answers are sampled and judged: the options of `self_reward` that say so."""

    samples: int
    temperature: float
    max_tokens: int
    judge: str
    judgements: int
    judge_temperature: float
    judge_tokens: int
    max_unparsed: float


def self_reward(
    *,
    model: str,
    data: str,
    output: str,
    heldout: str = "",
    iterations: int = 2,
    samples: int = 4,
    temperature: float = 1.0,
    max_tokens: int = 256,
    judge: Literal["points", "pairs"] = "points",
    judgements: int = 3,
    judge_temperature: float = 0.7,
    judge_tokens: int = 512,
    max_unparsed: float = 0.5,
    beta: float = 0.1,
    chat_template: str = "auto",
    max_length: int = 0,
    too_long: Overlong = "error",
    skip_bad_rows: bool = False,
    lr: float = 1e-6,
    warmup_steps: float = 0.1,
    **training: Any,
) -> Path:
    """Let a model judge its own answers and learn from them by DPO, iteration after iteration.

    Args:
        model: Model to start from, which has to be able to judge: pocket, a model or run folder, or a hub id.
        data: Prompts: files, hf:owner/name or world:tasks; each iteration takes its own part of them.
        output: Run folder to make; each iteration has a folder in it.
        heldout: Rankings to measure the accuracy of each iteration's implicit reward on.
        iterations: Rounds of answering, judging and training.
        samples: Answers sampled for each prompt; what is empty, cut off or said twice is not judged.
        temperature: Temperature of these answers.
        max_tokens: Longest of these answers.
        judge: points (0 to 5 for each answer; the best is preferred to the worst) or pairs (two answers at a time, in
            both orders).
        judgements: Judgements of each answer that its points are the mean of.
        judge_temperature: Temperature of these judgements.
        judge_tokens: Longest reply of the judge.
        max_unparsed: Share of judgements without the asked form above which the run stops.
        beta: Strength of DPO's pull to the model that the iteration began with.
        chat_template: The tokenizer's own (auto), or chatml, llama2, llama3 or alpaca.
        max_length: Tokens of the longest prompt with response; 0 takes the model's context.
        too_long: What to do with a longer one: stop with an error, truncate the responses, or drop the ranking.
        skip_bad_rows: Leave bad rows of the prompts out.
        lr: Peak learning rate of each iteration.
        warmup_steps: Steps of linear warm-up; below 1 a fraction of an iteration's steps.

    Returns the run folder, whose model is the last iteration's. The shared options are those of each iteration's dpo.
    """
    config = dict(locals())
    options = Options(lr=lr, warmup_steps=warmup_steps, **training)
    how = Judging(samples, temperature, max_tokens, judge, judgements, judge_temperature, judge_tokens, max_unparsed)
    _check(how, iterations)
    check_preference(beta, "sigmoid", 0.0, 0.0, 0.0)
    folder, saved = Path(output), resolved(config, options)
    check_folder(folder, saved, options.resume)
    if (folder / "finished.json").exists():
        print(f"{folder}: this self_reward run is finished; nothing to resume", file=sys.stderr)
        return folder
    tasks = read(data, Task, skip_bad_rows=skip_bad_rows)
    if len(tasks) < iterations:
        raise UserError(f"{data}: {len(tasks)} prompts are too few for {iterations} iterations; each has its own")
    trained = {"heldout": heldout, "beta": beta, "chat_template": chat_template, "max_length": max_length,
               "too_long": too_long, **options.as_dict(), "resume": True}  # fmt: skip
    require_models(model)
    lock = lock_folder(folder)
    try:
        current = model
        for number in range(1, iterations + 1):
            own = folder / f"iteration-{number}"
            if not (own / "rankings.jsonl").exists():
                part = tasks[number - 1 :: iterations]
                seed = options.seed + 7919 * number  # other draws in each iteration
                found, report = judged_by_itself(
                    current, part, how, own / "cache.sqlite", chat_template, options.device, seed
                )
                write_config(folder / "config.yaml", "self_reward", saved)
                write_json(own / "report.json", {"iteration": number, "model": current, "prompts": len(part)} | report)
                write_rankings(own / "rankings.jsonl", found)
            current = str(dpo(model=current, data=str(own / "rankings.jsonl"), output=str(own / "dpo"), **trained))
        return _finish(folder, iterations)
    finally:
        os.close(lock)


def judged_by_itself(
    model: str, tasks: Sequence[Task], how: Judging, cache: Path, chat_template: str, device: str, seed: int
) -> tuple[list[Ranking], dict[str, Any]]:
    """Rankings of a model's own answers by its own judgement, and the report on them.

    Raises `UserError` where too few judgements could be read, or nothing is preferred.
    """
    cache.parent.mkdir(parents=True, exist_ok=True)
    with Cache(cache) as kept:
        one = asked(model, kept, name="self", chat_template=chat_template, device=device)
        questions = sampled_questions(
            one, tasks, n=how.samples, max_tokens=how.max_tokens, temperature=how.temperature, seed=seed
        )
        if how.judge == "pairs":
            labelled = label_questions(one.judge, questions, max_tokens=how.judge_tokens, max_unparsed=how.max_unparsed)
            rankings, report = labelled.rankings, labelled.report
        else:
            pointed, report = point_answers(
                one,
                questions,
                judgements=how.judgements,
                temperature=how.judge_temperature,
                max_tokens=how.judge_tokens,
                max_unparsed=how.max_unparsed,
                seed=seed,
            )
            every = [best_and_worst(each, one.name) for each in pointed]
            rankings = [ranking for ranking in every if ranking is not None]
    if not rankings:
        raise UserError(
            "self_reward: the model prefers none of its answers to another; sample hotter, or begin with a better judge"
        )
    return rankings, report | {"questions": len(questions), "rankings": len(rankings)}


def _finish(folder: Path, iterations: int) -> Path:
    """The last iteration's model as the run's own, what all iterations cost, and a line of metrics for each."""
    own = [folder / f"iteration-{number}" for number in range(1, iterations + 1)]
    reports = [_json(one / "report.json") for one in own]
    ledgers = [_json(one / "dpo" / "ledger.json") for one in own]
    results = [_json(one / "dpo" / "finished.json")["results"] for one in own]
    with new_folder(folder / "model") as made:
        copytree(own[-1] / "dpo" / "model", made, dirs_exist_ok=True)
    totals = {name: sum(ledger[name] for ledger in ledgers) for name in ("tokens", "flops", "seconds")}
    write_json(folder / "ledger.json", {"stage": "self_reward", **totals, "versions": ledgers[-1]["versions"]})
    lines = [{"step": number, **_numbers(report)} for number, report in enumerate(reports, 1)]
    write_text(folder / "metrics.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    told = [{"judging": report, "dpo": result} for report, result in zip(reports, results, strict=True)]
    write_json(folder / "finished.json", {"steps": iterations, "results": {"iterations": told}})
    return folder


def _numbers(report: dict[str, Any]) -> dict[str, float]:
    """A report's plain numbers, and the means of its intervals."""
    flat = {name: value["mean"] if isinstance(value, dict) else value for name, value in report.items()
            if not isinstance(value, dict) or "mean" in value}  # fmt: skip
    return {name: value for name, value in flat.items() if isinstance(value, int | float)}


def _json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def _check(how: Judging, iterations: int) -> None:
    least = {"iterations": (iterations, 1), "samples": (how.samples, 2), "judgements": (how.judgements, 1),
             "max_tokens": (how.max_tokens, 1), "judge_tokens": (how.judge_tokens, 1)}  # fmt: skip
    for name, (value, fewest) in least.items():
        if value < fewest:
            raise UserError(f"{name}: expected {fewest} or more, got {value}")
    if how.judge not in ("points", "pairs"):
        raise UserError(f"judge: expected points or pairs, got {how.judge!r}")
    if not how.temperature > 0:
        raise UserError(f"temperature: expected a number above 0, for answers have to differ, got {how.temperature}")
    if how.judge_temperature < 0:
        raise UserError(f"judge_temperature: expected 0 or more, got {how.judge_temperature}")
    check_unparsed(how.max_unparsed)
