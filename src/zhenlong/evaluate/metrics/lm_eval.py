"""Tasks of lm-evaluation-harness, loaded by its own code, and their metrics by its own `process_results`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, Final

from zhenlong.errors import UserError
from zhenlong.evaluate.metrics.registry import Measure, instance_metric
from zhenlong.evaluate.results.outcome import Outcome

LM_EVAL_PREFIX: Final = "lm_eval:"
LOWER = ("brier_score", "ter", "word_perplexity", "byte_perplexity", "bits_per_byte")


@instance_metric("lm_eval", *(Measure(name, "accuracy", False) for name in LOWER), Measure("*"))
def lm_eval(outcome: Outcome, *, task: str, include: str = "") -> Mapping[str, float]:
    """The task's metrics from the choices' log-probabilities, or from the generated text after its filters.

    Metrics without a value per instance (perplexity, corpus F1) are left out.
    """
    given = outcome.choices.log_probs if outcome.choices else [one.text for one in outcome.answers]
    return task_results(task, include, outcome.instance.data["doc"], given)


def task_results(task: str, include: str, doc: Mapping[str, Any], given: Any) -> dict[str, float]:
    """The task's own metrics of one document from the choices' log-probabilities, or the generated texts.

    With several filters the metrics of the first keep their names, those of the others end in the filter's name.
    """
    from lm_eval.api.instance import Instance as Asked

    known = load_tasks(task, include)[task]
    if known.OUTPUT_TYPE == "multiple_choice":
        return _numbers(known.process_results(doc, [(value, False) for value in given]))
    found: dict[str, float] = {}
    for number, filters in enumerate(known._filters):
        asked = Asked(request_type="generate_until", doc=dict(doc), arguments=("", {}), idx=0)
        asked.resps = list(given)
        filters.apply([asked])
        values = _numbers(known.process_results(doc, [asked.filtered_resps[filters.name]]))
        found |= {name if number == 0 else f"{name} {filters.name}": value for name, value in values.items()}
    return found


@cache
def load_tasks(task: str, include: str) -> dict[str, Any]:
    """The tasks of a name, loaded with their data."""
    try:
        from lm_eval.tasks import TaskManager
    except ImportError:
        raise UserError(
            f"{LM_EVAL_PREFIX}{task}: lm-evaluation-harness is not installed; run pip install 'zhenlong[lm_eval]'"
        ) from None
    manager = _manager(TaskManager, include)
    if task not in manager.all_tasks:
        raise UserError(f"{LM_EVAL_PREFIX}{task}: lm-evaluation-harness has no task of that name; see lm_eval ls tasks")
    try:
        found: dict[str, Any] = manager.load([task])["tasks"]
    except Exception as error:  # from the data set's loader, or the task's own code
        raise UserError(f"{LM_EVAL_PREFIX}{task}: the task cannot be loaded ({str(error).splitlines()[0]})") from None
    return found


@cache
def _manager(kind: Any, include: str) -> Any:
    return kind(include_path=include or None, include_defaults=not include)


def _numbers(found: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in found.items() if isinstance(value, int | float)}
