"""The registry of metrics: the names that a scenario's YAML may list under `metrics`.

A metric is a plain function with one of three decorators. Its keyword arguments are its options in YAML:
`- exact_match` or `- {name: pass_at_k, k: [1, 5]}`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from zhenlong.errors import UserError
from zhenlong.evaluate.metrics.measures import CATEGORIES, FindsAnswer, Measure, Metric
from zhenlong.evaluate.metrics.user_metric import USER_METRIC, load_user_metric
from zhenlong.evaluate.results.outcome import Outcome, ScoredOutcome
from zhenlong.evaluate.statistics.intervals import Interval
from zhenlong.inference.model_client import Judge

InstanceMetric = Callable[..., Mapping[str, float]]  # (outcome, **options) -> measure -> value
CorpusMetric = Callable[..., Mapping[str, Interval]]  # (scored outcomes, **options) -> measure -> interval
JudgedMetric = Callable[..., Sequence[ScoredOutcome]]  # (outcomes, judge or None, **options) -> scores and judgements


_METRICS: dict[str, Metric] = {}


def instance_metric(
    name: str, *measures: Measure, finds: FindsAnswer | None = None
) -> Callable[[InstanceMetric], InstanceMetric]:
    """Register `f(outcome: Outcome, *, options) -> {measure: value}`, called once per instance.

    A measure that does not apply to an instance is left out of the result. A metric that reads an answer out of the
    text (a letter, a number, a program) says with `finds(text, instance)` whether there is one: where no metric of a
    scenario finds one, the answer counts as unread (results/reading.py).
    """
    return _register(name, "instance", measures, finds=finds)


def corpus_metric(
    name: str, *measures: Measure, of_groups: bool = True, over_trials: bool = False
) -> Callable[[CorpusMetric], CorpusMetric]:
    """Register `f(scored: Sequence[ScoredOutcome], *, options) -> {measure: Interval}`, a corpus-level metric.

    Without `of_groups` it is computed over all instances only, not per group. It is computed for each trial and
    averaged, with `over_trials` once over the outcomes of all trials.
    """
    return _register(name, "corpus", measures, of_groups, over_trials)


def judged_metric(name: str, *measures: Measure) -> Callable[[JudgedMetric], JudgedMetric]:
    """Register `f(outcomes, judge: Judge | None, *, options) -> [ScoredOutcome]`.

    With `judge` None the verdicts are read from `outcome.metadata`; a missing one is a `UserError` naming the id.
    """
    return _register(name, "judged", measures)


def get_metric(name: str) -> Metric:
    """The metric of that name, or of a function `file.py:function`.

    Raises `UserError` with the closest names for an unknown one.
    """
    if USER_METRIC.fullmatch(name):
        return load_user_metric(name)
    known = all_metrics()
    if name not in known:
        near = get_close_matches(name, known, 3) or sorted(known)
        raise UserError(f"metric {name!r} is not known; did you mean {', '.join(near)}?")
    return known[name]


def all_metrics() -> dict[str, Metric]:
    """All metrics of the modules in this folder."""
    package = import_module("zhenlong.evaluate.metrics")
    for module in iter_modules(package.__path__):
        import_module(f"zhenlong.evaluate.metrics.{module.name}")
    return _METRICS


def _register(
    name: str,
    kind: str,
    measures: tuple[Measure, ...],
    of_groups: bool = True,
    over_trials: bool = False,
    finds: FindsAnswer | None = None,
) -> Callable[[Any], Any]:
    for one in measures:
        if one.category not in CATEGORIES:
            raise ValueError(f"metric {name}: category {one.category!r} is none of {', '.join(CATEGORIES)}")

    def keep(function: Any) -> Any:
        if name in _METRICS and _METRICS[name].function is not function:
            raise ValueError(f"two metrics are named {name}")
        _METRICS[name] = Metric(name, kind, measures or (Measure(name),), function, of_groups, over_trials, finds)
        return function

    return keep


__all__ = [
    "CATEGORIES",
    "Judge",
    "Measure",
    "Metric",
    "Outcome",
    "ScoredOutcome",
    "all_metrics",
    "corpus_metric",
    "get_metric",
    "instance_metric",
    "judged_metric",
]
