"""Passage ranking: the metrics of trec_eval over the passages of one query.

Passages are an instance's references. For `rr` and `recall` the correct ones are relevant (of TREC those of grade 2 and
3). The gain of a passage for `ndcg` is the number in its tag `relevance=2`, else 1 if it is correct and 0 if not. A tag
`rank=7` holds its rank in the first-stage retrieval.
Source: stanford-crfm/helm:src/helm/benchmark/metrics/ranking_metrics.py, which calls pytrec_eval.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from zhenlong.evaluate.metrics.registry import Measure, instance_metric
from zhenlong.evaluate.results.instance import Reference
from zhenlong.evaluate.results.outcome import Outcome


@instance_metric("reciprocal_rank", Measure("rr@*"))
def reciprocal_rank(outcome: Outcome, *, k: int = 10, depth: int | None = None) -> dict[str, float]:
    """1 / rank of the first relevant passage among the first k, else 0; measure `rr@k`.

    `depth` restricts the ranking to the passages that retrieval ranked up to that depth.
    """
    ranked = _ranked(outcome, depth)[:k]
    return {f"rr@{k}": next((1 / rank for rank, one in enumerate(ranked, 1) if one.is_correct), 0.0)}


@instance_metric("ndcg", Measure("ndcg@*"))
def ndcg(outcome: Outcome, *, k: int = 10, depth: int | None = None) -> dict[str, float]:
    """Discounted gain of the first k passages divided by that of the ideal order; measure `ndcg@k`.

    Gain is the relevance, discount log2(rank + 1) (trec_eval's ndcg_cut, after Järvelin and Kekäläinen 2002).
    """
    best = _dcg(sorted((_relevance(one) for one in outcome.instance.references), reverse=True)[:k])
    return {f"ndcg@{k}": _dcg([_relevance(one) for one in _ranked(outcome, depth)[:k]]) / best if best else 0.0}


@instance_metric("recall", Measure("recall@*"))
def recall(outcome: Outcome, *, k: int = 10, depth: int | None = None) -> dict[str, float]:
    """The fraction of the relevant passages that are among the first k; measure `recall@k`."""
    relevant = len(outcome.instance.correct_indices)
    found = sum(one.is_correct for one in _ranked(outcome, depth)[:k])
    return {f"recall@{k}": found / relevant if relevant else 0.0}


def _ranked(outcome: Outcome, depth: int | None) -> list[Reference]:
    """The passages ordered by the model's scores; ties stay in the references' order."""
    references = outcome.instance.references
    if outcome.choices is None:
        return []
    scores = outcome.choices.log_probs
    order = sorted(range(len(references)), key=lambda place: -scores[place])
    if depth is not None:
        order = [place for place in order if (_tag(references[place], "rank") or math.inf) <= depth]
    return [references[place] for place in order]


def _relevance(reference: Reference) -> float:
    stated = _tag(reference, "relevance")
    return float(reference.is_correct) if stated is None else stated


def _tag(reference: Reference, name: str) -> float | None:
    return next((float(tag.partition("=")[2]) for tag in reference.tags if tag.startswith(f"{name}=")), None)


def _dcg(gains: Sequence[float]) -> float:
    return sum(gain / math.log2(rank + 1) for rank, gain in enumerate(gains, 1))
