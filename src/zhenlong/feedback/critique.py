"""Constitutional AI: a model criticises its own answer by a written principle and revises it (Bai et al. 2022, §3.1).

answer -> critique -> revision, in one conversation; the revision is the answer of the next round. The last revision is
a demonstration to imitate (SL-CAI). Revision and first answer make a preference: taken to be the revision, or left to a
judge that compares them by the principle, in both orders (as for RL-CAI, §4.1).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from typing_extensions import Unpack

from zhenlong.data import read
from zhenlong.data.options import PromptOptions
from zhenlong.errors import UserError
from zhenlong.feedback.ai_feedback import label_preferences, write_rankings
from zhenlong.feedback.constitution import DEFAULT_CONSTITUTION, Principle, read_constitution, sample_principle
from zhenlong.feedback.pairwise_labelling import ResponseSet, validate_max_unparsed
from zhenlong.inference.cache import RequestCache
from zhenlong.inference.model_client import ModelClient, open_model, require_models_exist
from zhenlong.inference.options import InferenceOptions
from zhenlong.inference.requests import GeneratedOutput
from zhenlong.loop.atomic import write_json, write_text
from zhenlong.options import take_options
from zhenlong.options.keywords import FeedbackKwargs
from zhenlong.records import Demonstration, Message, Messages, Ranking, Task, to_json

PreferenceSource = Literal["revision", "judge"]


@dataclass(frozen=True)
class CritiqueRevision:
    """One round: the principle it was by, what the model found at fault, and the answer as it is after it."""

    principle: Principle
    critique: str
    revision: str


@dataclass(frozen=True)
class RevisedResponse:
    """A prompt, the first answer, and the rounds it went through. `failure` says what of it could not be had."""

    prompt: Messages
    initial_response: str
    steps: tuple[CritiqueRevision, ...] = ()
    failure: str = ""

    @property
    def final_response(self) -> str:
        """The answer as it is now."""
        return self.steps[-1].revision if self.steps else self.initial_response


@dataclass(frozen=True)
class CritiqueSettings:
    """How many rounds of critique and revision there are, and how each part is sampled."""

    num_revisions: int
    temperature: float
    max_tokens: int
    seed: int


def critique(
    *,
    model: str,
    data: str,
    output: str,
    constitution: str = DEFAULT_CONSTITUTION,
    num_revisions: int = 1,
    preference_source: PreferenceSource = "revision",
    judge: str = "",
    temperature: float = 1.0,
    max_tokens: int = 256,
    max_unparsed: float = 0.5,
    limit: int = 0,
    seed: int = 0,
    **options: Unpack[FeedbackKwargs],
) -> Path:
    """Let a model criticise and revise its own answers by the principles of a constitution.

    Args:
        model: Who answers, criticises and revises: pocket, a model or run folder, a hub id, or openai:name@url.
        data: Prompts: files, hf:owner/name or world:tasks; rankings and demonstrations give theirs.
        output: Folder for demonstrations.jsonl, rankings.jsonl, critiques.jsonl and report.json.
        constitution: YAML file of principles, or default for the one that comes with the package.
        num_revisions: Critiques and revisions of each answer, each by a principle drawn anew.
        preference_source: Which of revision and first answer is preferred: the revision, or whichever a judge prefers
            by the last round's principle.
        judge: Who judges; empty takes the model itself.
        temperature: Sampling temperature of answers, critiques and revisions.
        max_tokens: Longest of each.
        max_unparsed: Share of a judge's verdicts without the asked form above which nothing is written.
        limit: Only the first so many prompts; 0 takes all.
        seed: Seed of the sampling and of the principles drawn in each round.

    Returns the folder. Raises `UserError` where no revision came out.
    """
    prompt_options, inference = take_options(options, PromptOptions(), InferenceOptions())
    validate_max_unparsed(max_unparsed)
    if num_revisions < 1:
        raise UserError(f"num_revisions: expected 1 or more, got {num_revisions}")
    if judge and preference_source != "judge":
        raise UserError("judge: is asked only with preference_source judge; choose that, or leave the judge out")
    principles = read_constitution(constitution)
    require_models_exist(model, judge)
    tasks = read(data, Task, limit=limit or None, skip_bad_rows=prompt_options.skip_bad_rows)
    folder = Path(output)
    folder.mkdir(parents=True, exist_ok=True)
    backend = inference.backend_settings(prompt_options.template_spec)
    with RequestCache(inference.cache or folder / "cache.sqlite") as output_cache:
        client = open_model(model, output_cache, settings=backend)
        settings = CritiqueSettings(num_revisions, temperature, max_tokens, seed)
        results = critique_and_revise(client, [one.prompt for one in tasks], principles, settings)
        succeeded = [one for one in results if not one.failure]
        if not succeeded:
            raise UserError(f"model {model}: no revision came out of {data}; the first: {results[0].failure}")
        changed = [one for one in succeeded if one.final_response.strip() != one.initial_response.strip()]
        report = _report(results, changed, num_revisions)
        if preference_source == "judge":
            one = open_model(judge, output_cache, settings=backend) if judge and judge != model else client
            response_sets = [
                ResponseSet(
                    each.prompt, (each.final_response, each.initial_response), each.steps[-1].principle.preference
                )
                for each in changed
            ]
            labelled = label_preferences(one, response_sets, max_tokens=2 * max_tokens, max_unparsed=max_unparsed)
            rankings, report["judge"] = labelled.rankings, {"name": judge or model} | labelled.report
            won = [ranking.ranks[0] == 1 for ranking in rankings]
            report["judge"]["revision_preferred"] = sum(won) / len(won) if won else None
        else:
            rankings = [to_ranking(one) for one in changed]
    write_text(folder / "critiques.jsonl", _jsonl([_trace_row(one) for one in results]))
    write_text(folder / "demonstrations.jsonl", _jsonl([to_json(to_demonstration(one)) for one in succeeded]))
    write_rankings(folder / "rankings.jsonl", rankings)
    about = {"model": model, "data": data, "constitution": constitution}
    write_json(folder / "report.json", about | report)
    return folder


def critique_and_revise(
    client: ModelClient,
    prompts: Sequence[Messages],
    principles: tuple[Principle, ...],
    settings: CritiqueSettings,
) -> list[RevisedResponse]:
    """Each prompt with the model's answer and its rounds of critique and revision.

    A part that is empty, cut off, or does not fit the context ends the record: it has a `failure`, and goes no further.
    """

    def generate(conversations: Sequence[Messages], turn: int) -> list[tuple[GeneratedOutput, ...]]:
        return client.sample_outputs(
            conversations,
            samples_per_prompt=1,
            max_tokens=settings.max_tokens,
            temperature=settings.temperature,
            seed=settings.seed + turn * len(prompts),  # no two turns of a record draw with the same seed
        )

    initial_outputs = generate(prompts, 0)
    results = [
        _with_initial_response(RevisedResponse(prompt, ""), outputs)
        for prompt, outputs in zip(prompts, initial_outputs, strict=True)
    ]
    for number in range(settings.num_revisions):
        step_principles = [sample_principle(principles, settings.seed, place, number) for place in range(len(results))]
        active = [place for place, one in enumerate(results) if not one.failure]
        critique_requests = [_critique_messages(results[place], step_principles[place].critique) for place in active]
        critiques = dict(zip(active, generate(critique_requests, 2 * number + 1), strict=True))
        critiqued = [place for place in active if not _output_failure(critiques[place])]
        revision_requests = [
            _revision_messages(results[place], step_principles[place], critiques[place][0].text) for place in critiqued
        ]
        revisions = dict(zip(critiqued, generate(revision_requests, 2 * number + 2), strict=True))
        for place in active:
            results[place] = _with_step(results[place], step_principles[place], critiques[place], revisions.get(place))
    return results


def to_demonstration(result: RevisedResponse) -> Demonstration:
    """The last revision as an answer to imitate."""
    meta = {"principles": [each.principle.name for each in result.steps], "initial_response": result.initial_response}
    return Demonstration((*result.prompt, Message("assistant", result.final_response)), "critique", meta)


def to_ranking(result: RevisedResponse) -> Ranking:
    """The last revision above the first answer."""
    meta = {"principles": [each.principle.name for each in result.steps]}
    return Ranking(
        result.prompt, (result.final_response, result.initial_response), (1, 2), annotator="constitution", meta=meta
    )


def _critique_messages(result: RevisedResponse, request: str) -> Messages:
    return (*result.prompt, Message("assistant", result.final_response), Message("user", request))


def _revision_messages(result: RevisedResponse, principle: Principle, critique: str) -> Messages:
    revision_turns = (Message("assistant", critique), Message("user", principle.revision))
    return (*_critique_messages(result, principle.critique), *revision_turns)


def _with_step(
    result: RevisedResponse,
    principle: Principle,
    critique: Sequence[GeneratedOutput],
    revision: Sequence[GeneratedOutput] | None,
) -> RevisedResponse:
    """The record after a round; `revision` is None where none was asked for, the critique having failed."""
    part, problem = (
        ("critique", _output_failure(critique)) if revision is None else ("revision", _output_failure(revision))
    )
    if problem or revision is None:
        return replace(result, failure=f"step {len(result.steps) + 1}: its {part} {problem}")
    return replace(result, steps=(*result.steps, CritiqueRevision(principle, critique[0].text, revision[0].text)))


def _with_initial_response(result: RevisedResponse, outputs: Sequence[GeneratedOutput]) -> RevisedResponse:
    problem = _output_failure(outputs)
    return (
        replace(result, failure=f"its answer {problem}")
        if problem
        else replace(result, initial_response=outputs[0].text)
    )


def _output_failure(outputs: Sequence[GeneratedOutput]) -> str:
    """What keeps an answer from being used; empty where it can be."""
    if not outputs:
        return "could not be had: it does not fit the context, or the endpoint failed"
    if not outputs[0].text.strip():
        return "is empty"
    return "is cut off at max_tokens" if outputs[0].truncated else ""


def _report(
    results: Sequence[RevisedResponse], changed: Sequence[RevisedResponse], num_revisions: int
) -> dict[str, Any]:
    used = [each.principle.name for one in results for each in one.steps]
    return {
        "prompts": len(results),
        "revised": sum(not one.failure for one in results),
        "changed": len(changed),
        "failed": sum(bool(one.failure) for one in results),
        "num_revisions": num_revisions,
        "principles": {name: used.count(name) for name in sorted(set(used))},
    }


def _trace_row(result: RevisedResponse) -> dict[str, Any]:
    """All that was said about a prompt, for a person to read."""
    steps = [{"principle": each.principle.name, "critique": each.critique, "revision": each.revision}
              for each in result.steps]  # fmt: skip
    prompt = [{"role": message.role, "content": message.content} for message in result.prompt]
    return {"prompt": prompt, "initial_response": result.initial_response, "steps": steps} | (
        {"failure": result.failure} if result.failure else {}
    )


def _jsonl(rows: Sequence[dict[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
