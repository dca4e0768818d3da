"""What is an answer worth? Metrics by name, one module for each family of them."""

from zhenlong.evaluate.metrics.registry import (
    Measure,
    Metric,
    corpus_metric,
    get_metric,
    instance_metric,
    judged_metric,
)

__all__ = ["Measure", "Metric", "corpus_metric", "get_metric", "instance_metric", "judged_metric"]
