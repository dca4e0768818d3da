"""Scores of outcomes by the metrics; an outcome that a metric cannot score is failed, and all others count."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from zhenlong.errors import UserError
from zhenlong.evaluate.metrics.registry import Measure, Metric
from zhenlong.evaluate.results.outcome import Outcome, ScoredOutcome
from zhenlong.evaluate.results.result_files import METRIC_FAILED
from zhenlong.evaluate.run.read_outcomes import with_reading
from zhenlong.evaluate.statistics.intervals import Interval
from zhenlong.guarded_call import ANYTHING, describe_error, time_limit
from zhenlong.inference.model_client import Judge

BoundMetrics = Sequence[tuple[Metric, Any]]  # metrics and their functions, as `Scenario.bind_metrics` gives them
OutcomeKey = tuple[str, str, int, int]

METRIC_SECONDS: Final = 30.0  # of the processor, for one metric of one answer: only what never ends takes longer
MAX_USER_ERRORS: Final = 20  # answers in a row after which a metric's `UserError` is about the set-up


@dataclass(frozen=True)
class ScoredOutcomes:
    """All outcomes in order, those that a metric could not score now failed; the scores of the others."""

    outcomes: Sequence[Outcome]
    scored: Sequence[ScoredOutcome]
    measures: Mapping[str, Measure]  # the declaration of each measure that occurs
    bound: BoundMetrics  # without the corpus metrics that had to be left out

    def without(self, failed: CorpusMetricFailed) -> ScoredOutcomes:
        """The same after a corpus metric failed: the outcomes on which it fails alone are failed.

        Where there are none, the metric is left out with a warning.
        """
        failures = {}
        for one in failed.scored:
            try:
                with time_limit(METRIC_SECONDS):
                    failed.function([one])
            except ANYTHING as error:
                failures[outcome_key(one.outcome)] = _reason(failed.metric, error)
        if not failures:
            warnings.warn(f"{_reason(failed.metric, failed.error)}; it is left out", stacklevel=2)
            return replace(self, bound=[one for one in self.bound if one[0] is not failed.metric])
        return replace(
            self,
            outcomes=[
                with_reading(replace(one, failed=failures[outcome_key(one)]), self.bound)
                if outcome_key(one) in failures
                else one
                for one in self.outcomes
            ],
            scored=[one for one in self.scored if outcome_key(one.outcome) not in failures],
        )


@dataclass
class CorpusMetricFailed(Exception):
    """A corpus metric raised something other than a `UserError` on these outcomes."""

    metric: Metric
    function: Any
    scored: Sequence[ScoredOutcome]
    error: BaseException


def score_outcomes(bound: BoundMetrics, outcomes: Sequence[Outcome], judge: Judge | None) -> ScoredOutcomes:
    """Every outcome that did not fail with its per-instance and judged scores.

    A metric that raises on an outcome fails that outcome, with the metric and the error as the reason. Raises
    `UserError` where an instance metric raises one on every outcome, or a judged metric any: then it is not the answer.
    """
    failures: dict[OutcomeKey, str] = {}
    scores: dict[OutcomeKey, dict[str, float]] = {outcome_key(one): {} for one in outcomes if not one.failed}
    judgements: dict[OutcomeKey, dict[str, Any]] = {key: {} for key in scores}
    measures: dict[str, Measure] = {}
    for metric, function in bound:
        open_keys = scores.keys() - failures.keys()
        remaining = [one for one in outcomes if outcome_key(one) in open_keys]
        own: dict[str, Measure] = {}
        if metric.kind == "judged" and remaining:
            found = _judged_scores(metric, function, remaining, judge, failures)
            for one in found:
                judgements[outcome_key(one.outcome)] |= one.judgement
        elif metric.kind == "instance":
            found = _instance_scores(metric, function, remaining, failures)
        else:
            continue
        for one in found:
            own |= {name: metric.find_measure(name) for name in one.scores if name not in own}
            scores[outcome_key(one.outcome)] |= one.scores
        if twice := own.keys() & measures.keys():
            raise ValueError(f"two metrics define the measure {min(twice)}; the second is {metric.name}")
        measures |= own
    outcomes = [
        with_reading(replace(one, failed=failures.get(outcome_key(one), one.failed)), bound) for one in outcomes
    ]
    return ScoredOutcomes(
        outcomes,
        [
            ScoredOutcome(one, scores[key], judgements[key])
            for one in outcomes
            if (key := outcome_key(one)) in scores and key not in failures
        ],
        measures,
        bound,
    )


def corpus_scores(metric: Metric, function: Any, scored: Sequence[ScoredOutcome]) -> Mapping[str, Interval]:
    """The measures of a corpus metric. Raises `CorpusMetricFailed` for whatever it raises, but a `UserError`."""
    try:
        found: Mapping[str, Interval] = function(scored)
        for name in found:
            metric.find_measure(name)
    except UserError:
        raise
    except ANYTHING as error:
        raise CorpusMetricFailed(metric, function, scored, error) from error
    return found


def outcome_key(outcome: Outcome) -> OutcomeKey:
    """The identity of an outcome among those of one model on one scenario."""
    return (outcome.instance.id, outcome.instance.perturbation, outcome.shots, outcome.trial)


def _instance_scores(
    metric: Metric, function: Any, outcomes: Sequence[Outcome], failures: dict[OutcomeKey, str]
) -> list[ScoredOutcome]:
    """The scores of the outcomes that the metric can score."""
    found: list[ScoredOutcome] = []
    user_errors: list[UserError] = []
    for one in outcomes:
        try:
            with time_limit(METRIC_SECONDS):
                scores = _checked_scores(metric, function(one))
        except ANYTHING as error:
            failures[outcome_key(one)] = _reason(metric, error)
            user_errors += [error] if isinstance(error, UserError) else []
            if len(user_errors) >= MAX_USER_ERRORS and not found:
                raise user_errors[0] from None
        else:
            found.append(ScoredOutcome(one, scores))
    if user_errors and len(user_errors) == len(outcomes):
        raise user_errors[0]
    return found


def _judged_scores(
    metric: Metric,
    function: Any,
    outcomes: Sequence[Outcome],
    judge: Judge | None,
    failures: dict[OutcomeKey, str],
) -> list[ScoredOutcome]:
    """The same for a judged metric, which takes all outcomes together, or else one by one (the verdicts are cached)."""

    def judged(several: Sequence[Outcome]) -> list[ScoredOutcome]:
        return [replace(one, scores=_checked_scores(metric, one.scores)) for one in function(several, judge)]

    try:
        return judged(outcomes)
    except UserError:
        raise
    except ANYTHING:
        pass
    found: list[ScoredOutcome] = []
    for one in outcomes:
        try:
            found += judged([one])
        except UserError:
            raise
        except ANYTHING as error:
            failures[outcome_key(one)] = _reason(metric, error)
    return found


def _checked_scores(metric: Metric, scores: Mapping[str, Any]) -> dict[str, float]:
    """The scores as numbers, each of a declared measure."""
    for name in scores:
        metric.find_measure(name)
    return {name: float(value) for name, value in scores.items()}


def _reason(metric: Metric, error: BaseException) -> str:
    return f"{METRIC_FAILED}{metric.name}: {describe_error(error)}"
