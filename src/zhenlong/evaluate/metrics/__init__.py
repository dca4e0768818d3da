"""Metrics by name, one module per family."""

from zhenlong.evaluate.metrics.registry import (
    Measure,
    Metric,
    corpus_metric,
    get_metric,
    instance_metric,
    judged_metric,
)

__all__ = ["Measure", "Metric", "corpus_metric", "get_metric", "instance_metric", "judged_metric"]
