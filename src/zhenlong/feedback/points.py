"""A model gives an answer points, from 0 to 5: one for each of five qualities that add up (Yuan et al. 2024, Fig. 2).

The wording is our own. An answer is judged several times by drawing, and its points are the mean of what could be read.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from zhenlong.errors import UserError
from zhenlong.evaluate.statistics import interval
from zhenlong.feedback.asking import Asked
from zhenlong.feedback.judging import Question
from zhenlong.feedback.verdicts import transcript
from zhenlong.records import Message, Messages, Ranking
from zhenlong.verify.thinking import without_thinking

MOST: Final = 5.0
SCORE: Final = re.compile(r"\bscore\W{0,4}(\d+(?:\.\d+)?)(?![\d.]*\d)", re.IGNORECASE)
_ASK: Final = (
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
class Pointed:
    """A question's answers with the points of each; None where no judgement could be read."""

    question: Question
    points: tuple[float | None, ...]


def score(text: str) -> float | None:
    """The last `Score: x` of a reply; None where there is none, or it is not from 0 to 5."""
    found = SCORE.findall(without_thinking(text))
    value = float(found[-1]) if found else -1.0
    return value if 0 <= value <= MOST else None


def rating_request(prompt: Messages, answer: str) -> Messages:
    """The conversation that asks for points."""
    slots = {"conversation": transcript(prompt), "answer": answer}
    return (Message("user", re.sub(r"\{(\w+)\}", lambda match: slots.get(match[1], match[0]), _ASK)),)


def point_answers(
    judge: Asked,
    questions: Sequence[Question],
    *,
    judgements: int,
    temperature: float,
    max_tokens: int,
    max_unparsed: float,
    seed: int,
) -> tuple[list[Pointed], dict[str, Any]]:
    """The points of every answer of every question, and a report on them.

    Raises `UserError` where more than a share `max_unparsed` of the judgements cannot be read.
    """
    asked = [rating_request(one.prompt, answer) for one in questions for answer in one.answers]
    replies = judge.answers(asked, n=judgements, max_tokens=max_tokens, temperature=temperature, seed=seed)
    texts = [[output.text for output in several] or [""] * judgements for several in replies]
    values = [[score(text) for text in several] for several in texts]
    _require_scores(judge.name, values, texts, max_unparsed)
    means = iter([_mean(several) for several in values])
    found = [Pointed(one, tuple(next(means) for _ in one.answers)) for one in questions]
    given = [value for one in found for value in one.points if value is not None]
    unread = sum(value is None for several in values for value in several)
    report = {
        "answers": len(asked),
        "judgements": sum(map(len, values)),
        "unparsed": unread,
        "unparsed_rate": unread / max(1, sum(map(len, values))),
        "points": interval(given, seed).as_json(),
    }
    return found, report


def best_and_worst(one: Pointed, annotator: str) -> Ranking | None:
    """The answer with most points above that with fewest, the first of several; None where all have the same.

    The strength is the difference in points, rounded down, from 1 to 4.
    """
    known = [(points, place) for place, points in enumerate(one.points) if points is not None]
    if not known:
        return None
    best, worst = max(known, key=lambda pair: pair[0]), min(known, key=lambda pair: pair[0])
    if best[0] == worst[0]:
        return None
    pair = (one.question.answers[best[1]], one.question.answers[worst[1]])
    meta = {"chosen_points": best[0], "rejected_points": worst[0]}
    return Ranking(one.question.prompt, pair, (1, 2), min(4, max(1, int(best[0] - worst[0]))), annotator, meta=meta)


def _mean(values: Sequence[float | None]) -> float | None:
    read = [value for value in values if value is not None]
    return float(np.mean(read)) if read else None


def _require_scores(
    name: str, values: Sequence[Sequence[float | None]], texts: Sequence[Sequence[str]], max_unparsed: float
) -> None:
    flat = [value for several in values for value in several]
    said = [text for several in texts for text in several]
    unread = [text for value, text in zip(flat, said, strict=True) if value is None]
    if len(unread) > max_unparsed * len(flat):
        shown = " ".join(unread[0].split())[-80:]
        raise UserError(
            f"judge {name}: {len(unread)} of {len(flat)} judgements cannot be read, more than max_unparsed "
            f"{max_unparsed:g}; expected 'Score: 0' to 'Score: 5' in each reply, got for example {shown!r}; choose a "
            "model that follows the form"
        )
