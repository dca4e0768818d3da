"""Quality of the evaluated model as a judge: its choices between two outputs against human labels (LLMBar)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from zhenlong.evaluate.metrics.registry import Measure, corpus_metric, instance_metric
from zhenlong.evaluate.results.outcome import Outcome, ScoredOutcome
from zhenlong.evaluate.statistics.intervals import Interval, mean_interval
from zhenlong.verify.judge_parsing import read_pair


@instance_metric(
    "judge_agreement",
    Measure("agreement"),
    Measure("unparsed", higher_is_better=False),
    Measure("chose_first", higher_is_better=None),
)
def judge_agreement(outcome: Outcome) -> dict[str, float]:
    """1 if the model chooses the output that humans prefer; an unparsed response counts as disagreement.

    `chose_first` is over parsed responses: 1/2 without position bias.
    """
    letter = read_pair(outcome.text).value
    if letter is None:
        return {"agreement": 0.0, "unparsed": 1.0}
    right = "ab".index(letter) in outcome.instance.correct_indices
    return {"agreement": float(right), "unparsed": 0.0, "chose_first": float(letter == "a")}


@corpus_metric("judge_order_agreement", Measure("order_agreement"), Measure("agreement_in_both_orders"))
def judge_order_agreement(scored: Sequence[ScoredOutcome]) -> dict[str, Interval]:
    """How often both orders of a pair give the same output, and how often the right one in both.

    A pair with an unparsed response counts as neither; pairs evaluated in one order only are left out.
    """
    pairs: dict[str, list[ScoredOutcome]] = defaultdict(list)
    for one in scored:
        pairs[one.outcome.instance.id.rsplit("-", 1)[0]].append(one)
    whole = [several for several in pairs.values() if len(several) == 2]
    if not whole:
        return {}
    same = [float(a.scores["agreement"] == b.scores["agreement"] and _all_parsed(a, b)) for a, b in whole]
    both = [a.scores["agreement"] * b.scores["agreement"] for a, b in whole]
    return {"order_agreement": mean_interval(same), "agreement_in_both_orders": mean_interval(both)}


def _all_parsed(*several: ScoredOutcome) -> bool:
    return all(one.scores["unparsed"] == 0 for one in several)
