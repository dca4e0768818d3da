"""A metric of your own: `file.py:function`, called with the row of the data and the answer."""

from __future__ import annotations

import inspect
import math
import numbers
import re
from collections.abc import Mapping
from functools import cache
from typing import Any, Final

from zhenlong.errors import UserError
from zhenlong.evaluate.metrics.measures import CATEGORIES, Measure, Metric
from zhenlong.evaluate.results.outcome import Outcome
from zhenlong.rewards.function import load_function

USER_METRIC: Final = re.compile(r".+\.py:\w+")


@cache
def load_user_metric(spec: str) -> Metric:
    """The metric of a function `(row, answer, **options) -> number, bool or dict of numbers`.

    A number is the measure of the function's name; the keys of a dict are its measures, and one that is left out does
    not apply to the row. `row` is the row of the data as it was read. `answer` is the text without its reasoning; in a
    conversation of several turns it is the list of texts. Of several samples the mean is taken. Options of the YAML are
    the function's keywords; `higher_is_better` and `category` are about its measures.
    """
    function = load_function(spec, "metric")
    name = spec.rpartition(":")[2]
    parameters = list(inspect.signature(function).parameters.values())
    if len([one for one in parameters if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)]) < 2:
        raise UserError(f"metric {spec}: expected a function of (row, answer), got {name}{inspect.signature(function)}")

    def measure(outcome: Outcome, **options: Any) -> dict[str, float]:
        rows = [
            _scores(spec, function(outcome.instance.data["row"], answer, **options)) for answer in _answers(outcome)
        ]
        names = dict.fromkeys(key for row in rows for key in row)
        return {key: _mean([row[key] for row in rows if key in row]) for key in names}

    keywords = [one.replace(kind=one.KEYWORD_ONLY) for one in parameters[2:] if one.kind is not one.VAR_KEYWORD]
    outcome_parameter = inspect.Parameter("outcome", inspect.Parameter.POSITIONAL_ONLY)
    measure.__signature__ = inspect.Signature([outcome_parameter, *keywords])  # type: ignore[attr-defined]
    return Metric(spec, "instance", (Measure("*"),), measure)


def declare_measures(metric: Metric, options: dict[str, Any]) -> Metric:
    """The metric with `higher_is_better` and `category` taken out of its options in YAML."""
    better, category = options.pop("higher_is_better", True), options.pop("category", CATEGORIES[0])
    if better not in (True, False, None):
        raise UserError(f"metric {metric.name}: higher_is_better: expected true, false or null, got {better!r}")
    if category not in CATEGORIES:
        raise UserError(f"metric {metric.name}: category: expected one of {', '.join(CATEGORIES)}, got {category!r}")
    return Metric(metric.name, metric.kind, (Measure("*", category, better),), metric.function)


def _answers(outcome: Outcome) -> list[str | list[str]]:
    """What the function is called with, for each sample."""
    found: list[str | list[str]] = []
    for output in outcome.answers:
        texts = [output.text, *output.turns]
        found.append(texts if outcome.instance.turns else texts[0])
    if not outcome.outputs and outcome.predicted is not None:
        found.append(outcome.answer_text)  # the choice, where choices were scored
    return found


def _scores(spec: str, returned: Any) -> dict[str, float]:
    scores = returned if isinstance(returned, Mapping) else {spec.rpartition(":")[2]: returned}
    for key, value in scores.items():
        real = isinstance(value, numbers.Real) or (hasattr(value, "item") and getattr(value, "size", 0) == 1)
        if not isinstance(key, str) or not key or not real or not math.isfinite(float(value)):
            text = " ".join(repr(returned).split())
            raise UserError(
                f"metric {spec}: expected a finite number, true or false, or a dict of these by name, got {text[:80]}"
            )
    return {key: float(value) for key, value in scores.items()}


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
