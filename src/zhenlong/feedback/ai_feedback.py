"""AI feedback: a model says which of two answers is better, in both orders, and how much (RLAIF; Lee et al. 2023)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from typing_extensions import Unpack

from zhenlong.data import read
from zhenlong.data.options import PromptOptions
from zhenlong.errors import UserError
from zhenlong.feedback.constitution import Principle, read_constitution, sample_principle
from zhenlong.feedback.judge_agreement import human_agreement, judge_report
from zhenlong.feedback.pairwise_labelling import (
    JudgedPair,
    ResponseSet,
    judge_pairs,
    ranking_from_pairs,
    require_parsed_verdicts,
    validate_max_unparsed,
)
from zhenlong.inference.cache import RequestCache
from zhenlong.inference.model_client import Judge, ModelClient, open_model, require_models_exist
from zhenlong.inference.options import InferenceOptions
from zhenlong.inference.requests import GeneratedOutput
from zhenlong.loop.atomic import write_json, write_text
from zhenlong.options import take_options
from zhenlong.options.keywords import FeedbackKwargs
from zhenlong.records import Ranking, Task, to_json


@dataclass(frozen=True)
class PreferenceLabels:
    """What a judge made of questions: the rankings that came out, and all its verdicts, question by question."""

    rankings: list[Ranking]
    judged_pairs: list[list[JudgedPair]]
    report: dict[str, Any]


def ai_feedback(
    *,
    judge: str,
    data: str,
    output: str,
    policy: str = "",
    samples_per_prompt: int = 4,
    temperature: float = 1.0,
    policy_max_tokens: int = 256,
    reasoning: bool = True,
    constitution: str = "",
    judge_max_tokens: int = 512,
    max_unparsed: float = 0.5,
    limit: int = 0,
    seed: int = 0,
    **options: Unpack[FeedbackKwargs],
) -> Path:
    """Let a model label preferences: which of two answers is better, and how much.

    Args:
        judge: Who judges: pocket, a model or run folder, a hub id, or openai:name@url.
        data: Rankings to label (their own labels become the report's agreement); with `policy` prompts to answer.
        output: File for the rankings (.jsonl), or a folder for rankings.jsonl; the report is beside it.
        policy: Model whose answers to the prompts are judged; empty takes the answers that are in the data.
        temperature: Temperature of these answers; the judge itself answers greedily.
        policy_max_tokens: Longest of these answers.
        reasoning: Let the judge compare the answers in words before its verdict; false asks for the verdict alone.
        constitution: YAML file of principles, one of which is drawn for each prompt, or default; empty judges quality.
        max_unparsed: Share of verdicts without the asked form above which nothing is written.
        limit: Only the first so many rows of the data; 0 takes all.
        seed: Seed of the sampling and of the principles drawn.

    Returns the file. Raises `UserError` where no preference came out, or too few verdicts could be read.
    """
    prompt_options, inference = take_options(options, PromptOptions(), InferenceOptions())
    validate_max_unparsed(max_unparsed)
    if policy and samples_per_prompt < 2:
        raise UserError(f"samples_per_prompt: expected 2 or more, since answers are compared, got {samples_per_prompt}")
    principles = read_constitution(constitution) if constitution else ()
    require_models_exist(judge, policy)
    row_limit = limit or None
    rankings = [] if policy else read(data, Ranking, limit=row_limit, skip_bad_rows=prompt_options.skip_bad_rows)
    tasks = read(data, Task, limit=row_limit, skip_bad_rows=prompt_options.skip_bad_rows) if policy else []
    settings = inference.backend_settings(prompt_options.template_spec)
    path, cache_path = _output_and_cache_paths(output, inference.cache)
    with RequestCache(cache_path) as output_cache:
        judge_model = open_model(judge, output_cache, settings=settings)
        response_sets = [ResponseSet(each.prompt, each.responses) for each in rankings]
        if policy:
            policy_model = judge_model if policy == judge else open_model(policy, output_cache, settings=settings)
            response_sets = sample_response_sets(
                policy_model,
                tasks,
                samples_per_prompt=samples_per_prompt,
                max_tokens=policy_max_tokens,
                temperature=temperature,
                seed=seed,
            )
        response_sets = assign_criteria(response_sets, principles, seed)
        labels = label_preferences(
            judge_model,
            response_sets,
            rankings,
            reasoning=reasoning,
            max_tokens=judge_max_tokens,
            max_unparsed=max_unparsed,
        )
        about = {"judge": judge, "data": data, "policy": policy, "constitution": constitution, "prompts": len(tasks)}
        facts = {"judge_facts": dict(judge_model.backend.metadata)}
    if not labels.rankings:
        raise UserError(f"judge {judge}: no preference came out of {data}: every pair is a tie, or was not judged")
    write_rankings(path, labels.rankings)
    write_json(path.with_suffix(".report.json"), about | labels.report | facts)
    print(report_summary(labels.report))
    return path


def report_summary(report: Mapping[str, Any]) -> str:
    """A report in one line: what came out, what could not be read, and how far the judge agrees with people."""
    line = (
        f"{report['rankings']:,} rankings of {report['pairs']:,} pairs; {report['ties']:,} ties, "
        f"{report['unparsed_pairs']:,} pairs whose verdict cannot be read"
    )
    human = report.get("agreement")
    if human and human["accuracy"]["n"]:
        accuracy = human["accuracy"]
        low, high = accuracy["ci95"]
        line += (
            f"; agreement with people {accuracy['mean']:.3f} [{low:.3f}, {high:.3f}] on the {accuracy['n']:,} decided, "
            f"kappa {human['kappa']:.2f}"
        )
    return line


def label_preferences(
    judge: Judge,
    response_sets: Sequence[ResponseSet],
    human_rankings: Sequence[Ranking] = (),
    *,
    reasoning: bool = True,
    max_tokens: int = 512,
    max_unparsed: float = 0.5,
) -> PreferenceLabels:
    """Rankings of the questions' answers by a judge, and the report on it.

    `human_rankings` are those of the same questions, where there are any: the report has the agreement with them.
    Raises `UserError` where more than `max_unparsed` of the verdicts cannot be read.
    """
    judged_pairs = judge_pairs(judge, response_sets, reasoning=reasoning, max_tokens=max_tokens)
    all_pairs = [pair for pairs in judged_pairs for pair in pairs]
    require_parsed_verdicts(judge.name, all_pairs, max_unparsed)
    rankings = [
        ranking_from_pairs(one, pairs, judge.name) for one, pairs in zip(response_sets, judged_pairs, strict=True)
    ]
    kept = [one for one in rankings if one is not None]
    report = {"questions": len(response_sets), "rankings": len(kept)} | judge_report(all_pairs)
    if human_rankings:
        report["agreement"] = human_agreement(human_rankings, judged_pairs)
    return PreferenceLabels(kept, judged_pairs, report)


def sample_response_sets(
    policy: ModelClient,
    tasks: Sequence[Task],
    *,
    samples_per_prompt: int,
    max_tokens: int,
    temperature: float,
    seed: int,
) -> list[ResponseSet]:
    """The tasks whose sampled answers can be compared: two at least that are different, whole and not empty."""
    prompts = [one.prompt for one in tasks]
    outputs = policy.sample_outputs(
        prompts, samples_per_prompt=samples_per_prompt, max_tokens=max_tokens, temperature=temperature, seed=seed
    )
    response_sets = [
        ResponseSet(prompt, unique_complete_texts(several)) for prompt, several in zip(prompts, outputs, strict=True)
    ]
    comparable = [one for one in response_sets if len(one.responses) > 1]
    if not comparable:
        raise UserError(f"policy {policy.name}: its answers could not be told apart; sample hotter or longer")
    return comparable


def unique_complete_texts(outputs: Sequence[GeneratedOutput]) -> tuple[str, ...]:
    """The different answers that say something and were not cut off."""
    return tuple(dict.fromkeys(one.text for one in outputs if one.text.strip() and not one.truncated))


def assign_criteria(
    response_sets: Sequence[ResponseSet], principles: tuple[Principle, ...], seed: int
) -> list[ResponseSet]:
    """The questions, each to be judged by a principle drawn for it; as they are where there are no principles."""
    if not principles:
        return list(response_sets)
    return [
        ResponseSet(one.prompt, one.responses, sample_principle(principles, seed, place).preference)
        for place, one in enumerate(response_sets)
    ]


def write_rankings(path: Path, rankings: Sequence[Ranking]) -> None:
    """The rankings as one JSON object a line, all or none."""
    write_text(path, "".join(json.dumps(to_json(one), ensure_ascii=False) + "\n" for one in rankings))


def _output_and_cache_paths(output: str, cache: str) -> tuple[Path, Path]:
    """The file of rankings that `output` means, and the file of the answers. The folder is made."""
    path = Path(output) if output.endswith(".jsonl") else Path(output) / "rankings.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path, Path(cache) if cache else path.with_suffix(".cache.sqlite")
