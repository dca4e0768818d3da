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

from zhenlong.data import read
from zhenlong.errors import UserError
from zhenlong.evaluate.outcome import Output
from zhenlong.evaluate.runner.cache import Cache
from zhenlong.feedback.asking import Asked, asked, require_models
from zhenlong.feedback.constitution import DEFAULT, Principle, drawn, read_constitution
from zhenlong.feedback.judging import Question, check_unparsed
from zhenlong.feedback.label import label_questions, write_rankings
from zhenlong.loop.atomic import write_json, write_text
from zhenlong.records import Demonstration, Message, Messages, Ranking, Task, to_json

Preference = Literal["revision", "judge"]


@dataclass(frozen=True)
class Round:
    """One round: the principle it was by, what the model found at fault, and the answer as it is after it."""

    principle: Principle
    critique: str
    revision: str


@dataclass(frozen=True)
class Revised:
    """A prompt, the first answer, and the rounds it went through. `failed` says what of it could not be had."""

    prompt: Messages
    answer: str
    rounds: tuple[Round, ...] = ()
    failed: str = ""

    @property
    def final(self) -> str:
        """The answer as it is now."""
        return self.rounds[-1].revision if self.rounds else self.answer


def critique(
    *,
    model: str,
    data: str,
    output: str,
    constitution: str = DEFAULT,
    rounds: int = 1,
    preference: Preference = "revision",
    judge: str = "",
    temperature: float = 1.0,
    max_tokens: int = 256,
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
    """Let a model criticise and revise its own answers by the principles of a constitution.

    Args:
        model: Who answers, criticises and revises: pocket, a model or run folder, a hub id, or openai:name@url.
        data: Prompts: files, hf:owner/name or world:tasks; rankings and demonstrations give theirs.
        output: Folder for demonstrations.jsonl, rankings.jsonl, critiques.jsonl and report.json.
        constitution: YAML file of principles, or default for the one that comes with the package.
        rounds: Critiques and revisions of each answer, each by a principle drawn anew.
        preference: Which of revision and first answer is preferred: the revision, or whichever a judge prefers by the
            last round's principle.
        judge: Who judges; empty takes the model itself.
        temperature: Sampling temperature of answers, critiques and revisions.
        max_tokens: Longest of each.
        max_unparsed: Share of a judge's verdicts without the asked form above which nothing is written.
        limit: Only the first so many prompts; 0 takes all.
        skip_bad_rows: Leave bad rows out.
        chat_template: The tokenizers' own (auto), or chatml, llama2, llama3 or alpaca.
        cache: File of the answers, which makes a second run continue the first; empty puts it into the folder.
        max_rows: Answers generated at a time; fewer need less memory.
        device: Where to compute: auto, cpu, cuda, cuda:1, ...
        dtype: Type of the weights, float32, bfloat16 or float16.
        seed: Seed of the sampling and of the principles drawn.

    Returns the folder. Raises `UserError` where no revision came out.
    """
    check_unparsed(max_unparsed)
    if rounds < 1:
        raise UserError(f"rounds: expected 1 or more, got {rounds}")
    if judge and preference != "judge":
        raise UserError("judge: is asked only with preference judge; choose that, or leave the judge out")
    principles = read_constitution(constitution)
    require_models(model, judge)
    tasks = read(data, Task, limit=limit or None, skip_bad_rows=skip_bad_rows)
    folder = Path(output)
    folder.mkdir(parents=True, exist_ok=True)
    how: dict[str, Any] = {"chat_template": chat_template, "device": device, "dtype": dtype, "max_rows": max_rows}
    with Cache(cache or folder / "cache.sqlite") as answers:
        speaker = asked(model, answers, **how)
        found = revised(
            speaker,
            [one.prompt for one in tasks],
            principles,
            rounds=rounds,
            temperature=temperature,
            max_tokens=max_tokens,
            seed=seed,
        )
        done = [one for one in found if not one.failed]
        if not done:
            raise UserError(f"model {model}: no revision came out of {data}; the first: {found[0].failed}")
        changed = [one for one in done if one.final.strip() != one.answer.strip()]
        report = _counts(found, changed, rounds)
        if preference == "judge":
            one = asked(judge, answers, **how) if judge and judge != model else speaker
            questions = [
                Question(each.prompt, (each.final, each.answer), each.rounds[-1].principle.preference)
                for each in changed
            ]
            labelled = label_questions(one.judge, questions, max_tokens=2 * max_tokens, max_unparsed=max_unparsed)
            rankings, report["judge"] = labelled.rankings, {"name": judge or model} | labelled.report
            won = [ranking.ranks[0] == 1 for ranking in rankings]
            report["judge"]["revision_preferred"] = sum(won) / len(won) if won else None
        else:
            rankings = [preferred(one) for one in changed]
    write_text(folder / "critiques.jsonl", _lines([_trace(one) for one in found]))
    write_text(folder / "demonstrations.jsonl", _lines([to_json(demonstration(one)) for one in done]))
    write_rankings(folder / "rankings.jsonl", rankings)
    about = {"model": model, "data": data, "constitution": constitution}
    write_json(folder / "report.json", about | report)
    return folder


def revised(
    speaker: Asked,
    prompts: Sequence[Messages],
    principles: tuple[Principle, ...],
    *,
    rounds: int,
    temperature: float,
    max_tokens: int,
    seed: int,
) -> list[Revised]:
    """Each prompt with the model's answer and its rounds of critique and revision.

    A part that is empty, cut off, or does not fit the context ends the record: it has `failed`, and goes no further.
    """

    def say(conversations: Sequence[Messages], turn: int) -> list[tuple[Output, ...]]:
        own = seed + turn * len(prompts)  # no two turns of a record draw with the same seed
        return speaker.answers(conversations, n=1, max_tokens=max_tokens, temperature=temperature, seed=own)

    first = say(prompts, 0)
    found = [_with_answer(Revised(prompt, ""), outputs) for prompt, outputs in zip(prompts, first, strict=True)]
    for number in range(rounds):
        chosen = [drawn(principles, seed, place, number) for place in range(len(found))]
        open_ = [place for place, one in enumerate(found) if not one.failed]
        critics = [_asking(found[place], chosen[place].critique) for place in open_]
        said = dict(zip(open_, say(critics, 2 * number + 1), strict=True))
        whole = [place for place in open_ if not _problem(said[place])]
        menders = [_mending(found[place], chosen[place], said[place][0].text) for place in whole]
        mended = dict(zip(whole, say(menders, 2 * number + 2), strict=True))
        for place in open_:
            found[place] = _after(found[place], chosen[place], said[place], mended.get(place))
    return found


def demonstration(one: Revised) -> Demonstration:
    """The last revision as an answer to imitate."""
    meta = {"principles": [each.principle.name for each in one.rounds], "first_answer": one.answer}
    return Demonstration((*one.prompt, Message("assistant", one.final)), "critique", meta)


def preferred(one: Revised) -> Ranking:
    """The last revision above the first answer."""
    meta = {"principles": [each.principle.name for each in one.rounds]}
    return Ranking(one.prompt, (one.final, one.answer), (1, 2), annotator="constitution", meta=meta)


def _asking(one: Revised, request: str) -> Messages:
    return (*one.prompt, Message("assistant", one.final), Message("user", request))


def _mending(one: Revised, principle: Principle, critique: str) -> Messages:
    told = (Message("assistant", critique), Message("user", principle.revision))
    return (*_asking(one, principle.critique), *told)


def _after(
    one: Revised, principle: Principle, critique: Sequence[Output], revision: Sequence[Output] | None
) -> Revised:
    """The record after a round; `revision` is None where none was asked for, the critique having failed."""
    part, problem = ("critique", _problem(critique)) if revision is None else ("revision", _problem(revision))
    if problem or revision is None:
        return replace(one, failed=f"round {len(one.rounds) + 1}: its {part} {problem}")
    return replace(one, rounds=(*one.rounds, Round(principle, critique[0].text, revision[0].text)))


def _with_answer(one: Revised, outputs: Sequence[Output]) -> Revised:
    problem = _problem(outputs)
    return replace(one, failed=f"its answer {problem}") if problem else replace(one, answer=outputs[0].text)


def _problem(outputs: Sequence[Output]) -> str:
    """What keeps an answer from being used; empty where it can be."""
    if not outputs:
        return "could not be had: it does not fit the context, or the endpoint failed"
    if not outputs[0].text.strip():
        return "is empty"
    return "is cut off at max_tokens" if outputs[0].truncated else ""


def _counts(found: Sequence[Revised], changed: Sequence[Revised], rounds: int) -> dict[str, Any]:
    used = [each.principle.name for one in found for each in one.rounds]
    return {
        "prompts": len(found),
        "revised": sum(not one.failed for one in found),
        "changed": len(changed),
        "failed": sum(bool(one.failed) for one in found),
        "rounds": rounds,
        "principles": {name: used.count(name) for name in sorted(set(used))},
    }


def _trace(one: Revised) -> dict[str, Any]:
    """All that was said about a prompt, for a person to read."""
    rounds = [{"principle": each.principle.name, "critique": each.critique, "revision": each.revision}
              for each in one.rounds]  # fmt: skip
    prompt = [{"role": message.role, "content": message.content} for message in one.prompt]
    return {"prompt": prompt, "answer": one.answer, "rounds": rounds} | ({"failed": one.failed} if one.failed else {})


def _lines(rows: Sequence[dict[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
