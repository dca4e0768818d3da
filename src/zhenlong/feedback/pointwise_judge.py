"""A model gives an answer points, from 0 to 5: one for each of five qualities that add up (Yuan et al. 2024, Fig. 2).

The wording is our own. An answer is judged several times by drawing, and its points are the mean of what could be read.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from zhenlong.evaluate.statistics.intervals import mean_interval
from zhenlong.feedback.pairwise_judge import format_transcript
from zhenlong.feedback.pairwise_labelling import ResponseSet, require_read_verdicts
from zhenlong.inference.model_client import ModelClient
from zhenlong.inference.requests import GeneratedOutput
from zhenlong.inference.verdicts import read_output, unread_record, unread_verdicts
from zhenlong.records import Message, Messages, Ranking
from zhenlong.verify.answer_text import strip_reasoning
from zhenlong.verify.judge_parsing import Verdict, read_rating

MAX_SCORE: Final = 5.0
_PROMPT_TEMPLATE: Final = (
    "Give the assistant's answer to the last turn of the conversation below points from 0 to 5. Begin at 0 and add one "
    "for each of these that is true:\n"
    "- The answer is about what was asked and says something of use, though it may be incomplete.\n"
    "- It deals with a substantial part of what was asked, if not with all of it.\n"
    "- It answers the essence of what was asked in a useful way, whoever may have written it.\n"
    "- It is written as by an assistant who answers the person, directly, in order and completely.\n"
    "- It is made for this person by an expert, without anything superfluous, and could hardly be better.\n\n"
    "[Conversation]\n{conversation}\n[End of the conversation]\n\n[Answer]\n{answer}\n[End of the answer]\n\n"
    'Justify the points in a few sentences. Then end with the line "Score: <points>", for example "Score: 3".'
)


@dataclass(frozen=True)
class ScoredResponses:
    """A question's answers with the points of each; None where no judgement could be read."""

    response_set: ResponseSet
    scores: tuple[float | None, ...]


def read_score(text: str) -> Verdict:
    """The last `Score: x` of a reply, from 0 to 5; None with the reason where there is none."""
    return read_rating(text, 0, MAX_SCORE)


def scoring_messages(prompt: Messages, response: str) -> Messages:
    """The conversation that asks for points."""
    slots = {"conversation": format_transcript(prompt), "answer": strip_reasoning(response)}
    return (Message("user", re.sub(r"\{(\w+)\}", lambda match: slots.get(match[1], match[0]), _PROMPT_TEMPLATE)),)


@dataclass(frozen=True)
class JudgingSettings:
    """How many judgements of each answer are sampled and how, and which share of them may be unreadable."""

    judge_samples: int
    temperature: float
    max_tokens: int
    max_unparsed: float
    seed: int


def judge_responses(
    judge: ModelClient, response_sets: Sequence[ResponseSet], settings: JudgingSettings
) -> tuple[list[ScoredResponses], dict[str, Any]]:
    """The points of every answer of every question, and a report on them.

    Raises `UserError` where more than a share `settings.max_unparsed` of the judgements cannot be read.
    """
    requests = [scoring_messages(one.prompt, answer) for one in response_sets for answer in one.responses]
    replies = judge.sample_outputs(
        requests,
        samples_per_prompt=settings.judge_samples,
        max_tokens=settings.max_tokens,
        temperature=settings.temperature,
        seed=settings.seed,
    )
    outputs = [list(several) or [GeneratedOutput("")] * settings.judge_samples for several in replies]
    verdicts = [[read_output(one, read_score) for one in several] for several in outputs]
    unread = unread_verdicts(
        [unread_record(own, [one.text for one in several]) for own, several in zip(verdicts, outputs, strict=True)]
    )
    require_read_verdicts(judge.name, unread, settings.max_unparsed, "'Score: 0' to 'Score: 5'")
    scores = [[one.value for one in several] for several in verdicts]
    mean_scores = iter([_mean_of_parsed(several) for several in scores])
    scored = [ScoredResponses(one, tuple(next(mean_scores) for _ in one.responses)) for one in response_sets]
    known_scores = [value for one in scored for value in one.scores if value is not None]
    report = {
        "answers": len(requests),
        "judgements": unread.get("verdicts", 0),
        "unparsed": unread.get("unread", 0),
        "unparsed_rate": unread.get("share", 0.0),
        "unparsed_reasons": unread.get("reasons", {}),
        "scores": mean_interval(known_scores, settings.seed).as_json(),
    }
    return scored, report


def best_worst_pair(scored: ScoredResponses, annotator: str) -> Ranking | None:
    """The answer with most points above that with fewest, the first of several; None where all have the same.

    The strength is the difference in points, rounded down, from 1 to 4.
    """
    by_score = [(points, place) for place, points in enumerate(scored.scores) if points is not None]
    if not by_score:
        return None
    best, worst = max(by_score, key=lambda pair: pair[0]), min(by_score, key=lambda pair: pair[0])
    if best[0] == worst[0]:
        return None
    pair = (scored.response_set.responses[best[1]], scored.response_set.responses[worst[1]])
    meta = {"chosen_score": best[0], "rejected_score": worst[0]}
    return Ranking(
        scored.response_set.prompt, pair, (1, 2), min(4, max(1, int(best[0] - worst[0]))), annotator, meta=meta
    )


def _mean_of_parsed(values: Sequence[float | None]) -> float | None:
    read = [value for value in values if value is not None]
    return float(np.mean(read)) if read else None
