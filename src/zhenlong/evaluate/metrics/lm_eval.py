"""The measures of a task of lm-evaluation-harness, by its own `process_results`."""

from __future__ import annotations

from collections.abc import Mapping

from zhenlong.evaluate.metrics.registry import Measure, instance_metric
from zhenlong.evaluate.results.outcome import Outcome
from zhenlong.evaluate.scenarios import lm_eval as harness

LOWER = ("brier_score", "ter", "word_perplexity", "byte_perplexity", "bits_per_byte")


@instance_metric("lm_eval", *(Measure(name, "accuracy", False) for name in LOWER), Measure("*"))
def lm_eval(outcome: Outcome, *, task: str, include: str = "") -> Mapping[str, float]:
    """What the task makes of the choices' log-probabilities, or of the generated text after its filters.

    Measures that are not one number an instance (perplexities, corpus F1) are left out.
    """
    given = outcome.choices.log_probs if outcome.choices else [one.text for one in outcome.outputs]
    return harness.task_results(task, include, outcome.instance.data["doc"], given)
