"""Macro and micro F1 over a data set, for single-label or multi-label classification."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from zhenlong.evaluate.metrics.registry import Measure, corpus_metric
from zhenlong.evaluate.results.outcome import ScoredOutcome, clusters_of
from zhenlong.evaluate.statistics.bootstrap import SampleIndices
from zhenlong.evaluate.statistics.intervals import SHARE, Interval, bootstrap_interval
from zhenlong.verify.matching import PUNCTUATION


@corpus_metric("classification", Measure("macro_f1"), Measure("micro_f1"))
def classification(
    scored: Sequence[ScoredOutcome], *, labels: Sequence[str] | None = None, separator: str = ""
) -> dict[str, Interval]:
    """Macro F1 (mean over classes) and micro F1 (over all decisions), intervals by bootstrap over instances.

    The classes are `labels`, else those of the correct references; a response that names none of them is a false
    negative. With `separator`, responses and references hold several classes. Case and punctuation are ignored.
    Source: stanford-crfm/helm:src/helm/benchmark/metrics/classification_metrics.py.
    """
    if not scored:
        return {}
    truth = [_classes(one.outcome.instance.correct_texts, separator) for one in scored]
    predicted = [_classes([one.outcome.answer_text], separator) for one in scored]
    known = sorted(_classes(labels, "") if labels else set().union(*truth))
    actual, given = _table(truth, known), _table(predicted, known)
    parts = np.stack([actual & given, ~actual & given, actual & ~given]).astype(np.int64)  # [3, instance, class]

    def counted(rows: SampleIndices) -> NDArray[np.int64]:
        found: NDArray[np.int64] = parts[:, rows].sum(1)
        return found

    def interval(statistic: Callable[[SampleIndices], float]) -> Interval:
        clusters = clusters_of(scored)
        return bootstrap_interval(statistic, len(scored), shape=SHARE, clusters=clusters)

    return {
        "macro_f1": interval(lambda rows: float(_f1(counted(rows)).mean())),
        "micro_f1": interval(lambda rows: float(_f1(counted(rows).sum(1)))),
    }


def _classes(texts: Iterable[str], separator: str) -> set[str]:
    parts = [part for text in texts for part in (text.split(separator) if separator else [text])]
    return {" ".join(part.lower().translate(PUNCTUATION).split()) for part in parts if part.strip()}


def _table(sets: Sequence[set[str]], known: Sequence[str]) -> NDArray[np.bool_]:
    return np.array([[name in one for name in known] for one in sets], dtype=bool).reshape(len(sets), len(known))


def _f1(parts: NDArray[np.int64]) -> NDArray[np.float64]:
    """2 TP / (2 TP + FP + FN) of counts [3, ...]; 0 for a class that is neither true nor predicted."""
    hits, extra, missed = parts
    return 2 * hits / np.maximum(2 * hits + extra + missed, 1)
