"""The registry of metrics: the names that a scenario's YAML may list under `metrics`.

A metric is a plain function with one of three decorators. Its keyword arguments are its options in YAML:
`- exact_match` or `- {name: pass_at_k, k: [1, 5]}`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from importlib import import_module
from pkgutil import iter_modules
from typing import Any, Final

from zhenlong.errors import UserError
from zhenlong.evaluate.results.instance import Instance
from zhenlong.evaluate.results.outcome import Outcome, ScoredOutcome
from zhenlong.evaluate.statistics.intervals import Interval
from zhenlong.inference.model_client import Judge

CATEGORIES: Final = ("accuracy", "calibration", "robustness", "fairness", "bias", "toxicity", "efficiency")

InstanceMetric = Callable[..., Mapping[str, float]]  # (outcome, **options) -> measure -> value
CorpusMetric = Callable[..., Mapping[str, Interval]]  # (scored outcomes, **options) -> measure -> interval
FindsAnswer = Callable[..., bool]  # (answer's text, instance, **options that it takes) -> whether there is one
JudgedMetric = Callable[..., Sequence[ScoredOutcome]]  # (outcomes, judge or None, **options) -> scores and judgements


@dataclass(frozen=True)
class Measure:
    """One measure of a metric: its category (one of seven), and whether higher is better (None: no direction)."""

    name: str  # may end in `*`: all measures with this prefix
    category: str = "accuracy"
    higher_is_better: bool | None = True


@dataclass(frozen=True)
class Metric:
    """A registered metric."""

    name: str
    kind: str  # instance, corpus or judged
    measures: tuple[Measure, ...]
    function: Callable[..., Any]
    of_groups: bool = True  # corpus metrics: also computed per group of instances
    over_trials: bool = False  # corpus metrics: of all trials together, not of each
    finds: FindsAnswer | None = None  # instance metrics that read an answer out of a text: whether they find one

    def bind(self, options: Mapping[str, Any]) -> Callable[..., Any]:
        """The function with the options from YAML bound. Raises `UserError` for an unknown option."""
        accepted = [
            name
            for name, given in inspect.signature(self.function).parameters.items()
            if given.kind is given.KEYWORD_ONLY
        ]
        unknown = sorted(set(options) - set(accepted))
        if unknown:
            expected = ", ".join(accepted) or "none"
            raise UserError(f"metric {self.name}: no option {', '.join(unknown)}; expected {expected}")
        return partial(self.function, **options)

    def finds_answer(self, function: Any, text: str, instance: Instance) -> bool:
        """Whether an answer's text holds what the metric looks for; `function` is the bound one, for its options."""
        if self.finds is None:
            return True
        taken = inspect.signature(self.finds).parameters
        return self.finds(text, instance, **{name: v for name, v in function.keywords.items() if name in taken})

    def find_measure(self, name: str) -> Measure:
        """The declaration of one of its measures."""
        for one in self.measures:
            if one.name == name or (one.name.endswith("*") and name.startswith(one.name[:-1])):
                return one
        raise KeyError(f"metric {self.name} returned {name}, which it did not declare")


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
    """The metric of that name. Raises `UserError` with the closest names for an unknown one."""
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
