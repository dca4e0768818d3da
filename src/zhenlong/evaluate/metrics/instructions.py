"""Instruction following: IFEval's four accuracies, and the accuracy by kind of instruction."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Final

from zhenlong.evaluate.metrics.maths import answer_texts
from zhenlong.evaluate.metrics.registry import Measure, corpus_metric, instance_metric
from zhenlong.evaluate.results.outcome import Outcome, ScoredOutcome
from zhenlong.evaluate.statistics.intervals import Interval, ratio_interval
from zhenlong.verify.instructions import instructions_followed

LOOSE_BY_MODE: Final = {"strict": False, "loose": True}


@instance_metric(
    "instructions",
    Measure("prompt_strict"),
    Measure("prompt_loose"),
    Measure("followed_strict"),
    Measure("followed_loose"),
)
def instructions(outcome: Outcome) -> dict[str, float]:
    """Whether the response follows all its instructions (`prompt_`), and which fraction of them (`followed_`)."""
    scores = {}
    for name, loose in LOOSE_BY_MODE.items():
        marks = [_instruction_results(outcome, text, loose) for text in answer_texts(outcome)]
        scores[f"prompt_{name}"] = sum(map(all, marks)) / len(marks)
        scores[f"followed_{name}"] = sum(map(sum, marks)) / sum(map(len, marks))
    return scores


@corpus_metric("instruction_accuracy", Measure("instruction_strict"), Measure("instruction_loose"))
def instruction_accuracy(scored: Sequence[ScoredOutcome]) -> dict[str, Interval]:
    """The fraction of all instructions of all prompts that were followed: a prompt with three counts three times.

    Requires the metric `instructions`. The interval resamples prompts.
    """
    num_instructions = [len(one.outcome.instance.data["instruction_id_list"]) for one in scored]
    found = {}
    for name in LOOSE_BY_MODE:
        num_followed = [
            one.scores[f"followed_{name}"] * count for one, count in zip(scored, num_instructions, strict=True)
        ]
        found[f"instruction_{name}"] = ratio_interval(num_followed, num_instructions, proportion=True)
    return found


@corpus_metric("instruction_kinds", Measure("strict:*"))
def instruction_kinds(scored: Sequence[ScoredOutcome]) -> dict[str, Interval]:
    """Strict accuracy by kind of instruction, such as `strict:punctuation:no_comma`, of the first sample."""
    num_followed: dict[str, list[float]] = defaultdict(list)
    num_instructions: dict[str, list[float]] = defaultdict(list)
    for one in scored:
        kinds = one.outcome.instance.data["instruction_id_list"]
        marks = _instruction_results(one.outcome, answer_texts(one.outcome)[0], loose=False)
        for kind in set(kinds):
            num_instructions[kind].append(kinds.count(kind))
            num_followed[kind].append(sum(mark for mark, name in zip(marks, kinds, strict=True) if name == kind))
    return {
        f"strict:{kind}": ratio_interval(num_followed[kind], num_instructions[kind], proportion=True)
        for kind in sorted(num_followed)
    }


def _instruction_results(outcome: Outcome, text: str, loose: bool) -> list[bool]:
    data = outcome.instance.data
    return instructions_followed(text, data["instruction_id_list"], data["kwargs"], loose=loose)
