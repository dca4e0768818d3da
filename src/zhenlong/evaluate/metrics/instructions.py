"""Were the instructions followed? IFEval's four accuracies, and the accuracy of each kind of instruction."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Final

from zhenlong.evaluate.metrics.maths import answers
from zhenlong.evaluate.metrics.registry import Measure, corpus_metric, instance_metric
from zhenlong.evaluate.outcome import Outcome, Scored
from zhenlong.evaluate.statistics import Interval, ratio
from zhenlong.verify.instructions import followed

READINGS: Final = {"strict": False, "loose": True}


@instance_metric(
    "instructions",
    Measure("prompt_strict"),
    Measure("prompt_loose"),
    Measure("followed_strict"),
    Measure("followed_loose"),
)
def instructions(outcome: Outcome) -> dict[str, float]:
    """Whether the answer follows all its instructions (`prompt_`), and which share of them (`followed_`)."""
    scores = {}
    for name, loose in READINGS.items():
        marks = [_marks(outcome, text, loose) for text in answers(outcome)]
        scores[f"prompt_{name}"] = sum(map(all, marks)) / len(marks)
        scores[f"followed_{name}"] = sum(map(sum, marks)) / sum(map(len, marks))
    return scores


@corpus_metric("instruction_accuracy", Measure("instruction_strict"), Measure("instruction_loose"))
def instruction_accuracy(scored: Sequence[Scored]) -> dict[str, Interval]:
    """The share of all instructions of all prompts that were followed: a prompt with three counts three times.

    Needs the metric `instructions` beside it. The interval resamples prompts.
    """
    asked = [len(one.outcome.instance.data["instruction_id_list"]) for one in scored]
    found = {}
    for name in READINGS:
        kept = [one.scores[f"followed_{name}"] * count for one, count in zip(scored, asked, strict=True)]
        found[f"instruction_{name}"] = ratio(kept, asked)
    return found


@corpus_metric("instruction_kinds", Measure("strict:*"))
def instruction_kinds(scored: Sequence[Scored]) -> dict[str, Interval]:
    """Strict accuracy by kind of instruction, such as `strict:punctuation:no_comma`, of the first answers."""
    kept: dict[str, list[float]] = defaultdict(list)
    asked: dict[str, list[float]] = defaultdict(list)
    for one in scored:
        kinds = one.outcome.instance.data["instruction_id_list"]
        marks = _marks(one.outcome, answers(one.outcome)[0], loose=False)
        for kind in set(kinds):
            asked[kind].append(kinds.count(kind))
            kept[kind].append(sum(mark for mark, name in zip(marks, kinds, strict=True) if name == kind))
    return {f"strict:{kind}": ratio(kept[kind], asked[kind]) for kind in sorted(kept)}


def _marks(outcome: Outcome, text: str, loose: bool) -> list[bool]:
    data = outcome.instance.data
    return followed(text, data["instruction_id_list"], data["kwargs"], loose=loose)
