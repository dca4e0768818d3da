"""How far a judge agrees with people, and with itself when the order changes: Cohen's kappa."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Final

from zhenlong.errors import UserError
from zhenlong.evaluate.metrics.registry import Measure, corpus_metric, instance_metric
from zhenlong.evaluate.results.outcome import Outcome, ScoredOutcome
from zhenlong.evaluate.statistics.intervals import Interval, mean_interval
from zhenlong.evaluate.statistics.kappa import kappa_interval
from zhenlong.verify.judge_parsing import read_pair, read_rating

UNREAD: Final = "unread"  # a class of its own: a judge that cannot be read agrees with nobody
EQUAL_RATINGS: Final = "tie"
GRADES: Final = (0, 9)  # the scale of LLMBar's protocol Rating


@corpus_metric("judge_kappa", Measure("kappa"), Measure("order_kappa"))
def judge_kappa(scored: Sequence[ScoredOutcome]) -> dict[str, Interval]:
    """Kappa of the chosen output with people's choice, and of the choices in both orders (LLMBar).

    Intervals resample pairs. Upstream's own kappa with the labels counts output 2 as a class that the judge never
    chooses (LLMEvaluator/evaluate.py), and is not computed.
    """
    chosen, right, pairs = [], [], []
    by_pair: dict[str, dict[str, str]] = defaultdict(dict)
    for one in scored:
        pair, _, order = one.outcome.instance.id.rpartition("-")
        letter = read_pair(one.outcome.text).value
        chosen.append(UNREAD if letter is None else order["ab".index(letter)])
        right.append(order[one.outcome.instance.correct_indices[0]])
        pairs.append(pair)
        by_pair[pair][order] = chosen[-1]
    whole = [one for one in by_pair.values() if len(one) == 2]
    found = {"kappa": kappa_interval(chosen, right, pairs)}
    if whole:
        found["order_kappa"] = kappa_interval([one["12"] for one in whole], [one["21"] for one in whole])
    return found


@instance_metric("output_rating", Measure("rating"), Measure("unparsed", higher_is_better=False))
def output_rating(outcome: Outcome) -> dict[str, float]:
    """The evaluated model's rating of one output, 0 to 9 (LLMBar, protocol Rating)."""
    value = read_rating(outcome.text, *GRADES).value
    return {"unparsed": 1.0} if value is None else {"unparsed": 0.0, "rating": value}


@corpus_metric(
    "rating_agreement", Measure("agreement"), Measure("rating_ties", higher_is_better=None), Measure("kappa")
)
def rating_agreement(scored: Sequence[ScoredOutcome]) -> dict[str, Interval]:
    """How often the output that people prefer has the higher rating: a tie is one half, an unread rating is wrong.

    `kappa` has ties and unread ratings as classes of their own.
    """
    ratings: dict[str, dict[str, ScoredOutcome]] = defaultdict(dict)
    for one in scored:
        pair, _, output = one.outcome.instance.id.rpartition("-")
        ratings[pair][output] = one
    chosen, right = [], []
    for several in ratings.values():
        if len(several) == 2:
            values = [several[output].scores.get("rating") for output in ("1", "2")]
            chosen.append(_higher(values))
            right.append(str(several["1"].outcome.instance.data["label"]))
    if not chosen:
        return {}
    points = [0.5 if one == EQUAL_RATINGS else float(one == label) for one, label in zip(chosen, right, strict=True)]
    return {
        "agreement": mean_interval(points),
        "rating_ties": mean_interval([float(one == EQUAL_RATINGS) for one in chosen]),
        "kappa": kappa_interval(chosen, right),
    }


@instance_metric("verdict_agreement", Measure("agreement"), Measure("unparsed", higher_is_better=False))
def verdict_agreement(outcome: Outcome) -> dict[str, float]:
    """The share of the people whose recorded verdict (`human`) is the judge's (`judge`); null is an unread verdict."""
    judge, people = _recorded_verdicts(outcome)
    agreed = sum(judge == one for one in people) / len(people)
    return {"agreement": agreed, "unparsed": float(judge == UNREAD)}


@corpus_metric("verdict_kappa", Measure("kappa"))
def verdict_kappa(scored: Sequence[ScoredOutcome]) -> dict[str, Interval]:
    """Kappa of the judge's verdict with that of each person; the interval resamples instances."""
    pairs = [(one.outcome, *_recorded_verdicts(one.outcome)) for one in scored]
    rows = [(judge, person, outcome.instance.id) for outcome, judge, several in pairs for person in several]
    if not rows:
        return {}
    judges, people, ids = (list(column) for column in zip(*rows, strict=True))
    return {"kappa": kappa_interval(judges, people, ids)}


def _higher(values: Sequence[float | None]) -> str:
    first, second = values
    if first is None or second is None:
        return UNREAD
    return EQUAL_RATINGS if first == second else "1" if first > second else "2"


def _recorded_verdicts(outcome: Outcome) -> tuple[str, list[str]]:
    missing = [name for name in ("judge", "human") if name not in outcome.metadata]
    if missing:
        raise UserError(f"instance {outcome.instance.id}: no {missing[0]} in its row of outputs")
    judge, human = (outcome.metadata[name] for name in ("judge", "human"))
    people = human if isinstance(human, list | tuple) else [human]
    if not people or any(one is None for one in people):
        raise UserError(f"instance {outcome.instance.id}: human: expected a verdict, or a list of them, got {human!r}")
    return UNREAD if judge is None else _label(judge), [_label(one) for one in people]


def _label(given: Any) -> str:
    return str(given).strip().lower()
