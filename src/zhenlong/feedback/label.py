"""AI feedback: a model says which of two answers is better, in both orders, and how much (RLAIF; Lee et al. 2023)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zhenlong.data import read
from zhenlong.errors import UserError
from zhenlong.evaluate.outcome import Judge
from zhenlong.evaluate.runner.cache import Cache
from zhenlong.feedback.agreement import agreement, judge_report
from zhenlong.feedback.asking import Asked, asked, file_and_cache, require_models, whole
from zhenlong.feedback.constitution import Principle, drawn, read_constitution
from zhenlong.feedback.judging import (
    JudgedPair,
    Question,
    check_unparsed,
    judge_pairs,
    ranking_of,
    require_verdicts,
)
from zhenlong.loop.atomic import write_json, write_text
from zhenlong.records import Ranking, Task, to_json


@dataclass(frozen=True)
class Labelled:
    """What a judge made of questions: the rankings that came out, and all its verdicts, question by question."""

    rankings: list[Ranking]
    judged: list[list[JudgedPair]]
    report: dict[str, Any]


def label(
    *,
    judge: str,
    data: str,
    output: str,
    policy: str = "",
    samples: int = 4,
    temperature: float = 1.0,
    sample_tokens: int = 256,
    reasoning: bool = True,
    constitution: str = "",
    max_tokens: int = 512,
    max_unparsed: float = 0.5,
    limit: int = 0,
    skip_bad_rows: bool = False,
    chat_template: str = "auto",
    cache: str = "",
    max_rows: int = 64,
    device: str = "auto",
    dtype: str = "float32",
    seed: int = 0,
) -> Path:
    """Let a model label preferences: which of two answers is better, and how much.

    Args:
        judge: Who judges: pocket, a model or run folder, a hub id, or openai:name@url.
        data: Rankings to label (their own labels become the report's agreement); with `policy` prompts to answer.
        output: File for the rankings (.jsonl), or a folder for rankings.jsonl; the report is beside it.
        policy: Model whose answers to the prompts are judged; empty takes the answers that are in the data.
        samples: Answers sampled for each prompt; what is empty, cut off or said twice is not shown.
        temperature: Temperature of these answers; the judge itself answers greedily.
        sample_tokens: Longest of these answers.
        reasoning: Let the judge compare the answers in words before its verdict; false asks for the verdict alone.
        constitution: YAML file of principles, one of which is drawn for each prompt, or default; empty judges quality.
        max_tokens: Longest reply of the judge.
        max_unparsed: Share of verdicts without the asked form above which nothing is written.
        limit: Only the first so many rows of the data; 0 takes all.
        skip_bad_rows: Leave bad rows out.
        chat_template: The tokenizers' own (auto), or chatml, llama2, llama3 or alpaca.
        cache: File of the answers, which makes a second run continue the first; empty puts it beside the output.
        max_rows: Answers generated at a time; fewer need less memory.
        device: Where to compute: auto, cpu, cuda, cuda:1, ...
        dtype: Type of the weights, float32, bfloat16 or float16.
        seed: Seed of the sampling and of the principles drawn.

    Returns the file. Raises `UserError` where no preference came out, or too few verdicts could be read.
    """
    check_unparsed(max_unparsed)
    if policy and samples < 2:
        raise UserError(f"samples: expected 2 or more, since answers are compared, got {samples}")
    principles = read_constitution(constitution) if constitution else ()
    require_models(judge, policy)
    most = limit or None
    rankings = [] if policy else read(data, Ranking, limit=most, skip_bad_rows=skip_bad_rows)
    tasks = read(data, Task, limit=most, skip_bad_rows=skip_bad_rows) if policy else []
    how: dict[str, Any] = {"chat_template": chat_template, "device": device, "dtype": dtype, "max_rows": max_rows}
    path, kept = file_and_cache(output, "rankings.jsonl", cache)
    with Cache(kept) as answers:
        one = asked(judge, answers, **how)
        questions = [Question(each.prompt, each.responses) for each in rankings]
        if policy:
            speaker = one if policy == judge else asked(policy, answers, **how)
            questions = sampled_questions(
                speaker, tasks, n=samples, max_tokens=sample_tokens, temperature=temperature, seed=seed
            )
        questions = with_criteria(questions, principles, seed)
        found = label_questions(
            one.judge, questions, rankings, reasoning=reasoning, max_tokens=max_tokens, max_unparsed=max_unparsed
        )
        about = {"judge": judge, "data": data, "policy": policy, "constitution": constitution, "prompts": len(tasks)}
        facts = {"judge_facts": dict(one.backend.facts)}
    if not found.rankings:
        raise UserError(f"judge {judge}: no preference came out of {data}: every pair is a tie, or was not judged")
    write_rankings(path, found.rankings)
    write_json(path.with_suffix(".report.json"), about | found.report | facts)
    print(summary(found.report))
    return path


def summary(report: Mapping[str, Any]) -> str:
    """A report in one line: what came out, what could not be read, and how far the judge agrees with people."""
    line = (
        f"{report['rankings']:,} rankings of {report['pairs']:,} pairs; {report['ties']:,} ties, "
        f"{report['unparsed_pairs']:,} pairs whose verdict cannot be read"
    )
    people = report.get("agreement")
    if people and people["accuracy"]["n"]:
        accuracy = people["accuracy"]
        low, high = accuracy["ci95"]
        line += (
            f"; agreement with people {accuracy['mean']:.3f} [{low:.3f}, {high:.3f}] on the {accuracy['n']:,} decided, "
            f"kappa {people['kappa']:.2f}"
        )
    return line


def label_questions(
    judge: Judge,
    questions: Sequence[Question],
    people: Sequence[Ranking] = (),
    *,
    reasoning: bool = True,
    max_tokens: int = 512,
    max_unparsed: float = 0.5,
) -> Labelled:
    """Rankings of the questions' answers by a judge, and the report on it.

    `people` are the human rankings of the same questions, where there are any: the report has the agreement with them.
    Raises `UserError` where more than `max_unparsed` of the verdicts cannot be read.
    """
    judged = judge_pairs(judge, questions, reasoning=reasoning, max_tokens=max_tokens)
    every = [pair for pairs in judged for pair in pairs]
    require_verdicts(judge.name, every, max_unparsed)
    rankings = [ranking_of(one, pairs, judge.name) for one, pairs in zip(questions, judged, strict=True)]
    kept = [one for one in rankings if one is not None]
    report = {"questions": len(questions), "rankings": len(kept)} | judge_report(every)
    if people:
        report["agreement"] = agreement(people, judged)
    return Labelled(kept, judged, report)


def sampled_questions(
    speaker: Asked, tasks: Sequence[Task], *, n: int, max_tokens: int, temperature: float, seed: int
) -> list[Question]:
    """The tasks whose sampled answers can be compared: two at least that are different, whole and not empty."""
    prompts = [one.prompt for one in tasks]
    outputs = speaker.answers(prompts, n=n, max_tokens=max_tokens, temperature=temperature, seed=seed)
    every = [Question(prompt, whole(several)) for prompt, several in zip(prompts, outputs, strict=True)]
    found = [one for one in every if len(one.answers) > 1]
    if not found:
        raise UserError(f"policy {speaker.name}: its answers could not be told apart; sample hotter or longer")
    return found


def with_criteria(questions: Sequence[Question], principles: tuple[Principle, ...], seed: int) -> list[Question]:
    """The questions, each to be judged by a principle drawn for it; as they are where there are no principles."""
    if not principles:
        return list(questions)
    return [
        Question(one.prompt, one.answers, drawn(principles, seed, place).preference)
        for place, one in enumerate(questions)
    ]


def write_rankings(path: Path, rankings: Sequence[Ranking]) -> None:
    """The rankings as one JSON object a line, all or none."""
    write_text(path, "".join(json.dumps(to_json(one), ensure_ascii=False) + "\n" for one in rankings))
