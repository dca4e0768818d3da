"""Aggregation: outcomes -> scores per instance -> means over instances, groups and worst cases, corpus measures.

Pure except for a judge's requests; `zhenlong evaluate` and `zhenlong score` both end here.
"""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from zhenlong.evaluate.metrics.calibration import confidence_of
from zhenlong.evaluate.metrics.efficiency import efficiency_results
from zhenlong.evaluate.metrics.registry import Measure
from zhenlong.evaluate.perturb import PERTURBATIONS
from zhenlong.evaluate.results.outcome import Outcome, ScoredOutcome
from zhenlong.evaluate.results.reading import ReadingStatus
from zhenlong.evaluate.results.result_files import WORST_CASE_PREFIX, InstanceRecord, Result
from zhenlong.evaluate.run.reading_shares import reading_shares
from zhenlong.evaluate.run.score_outcomes import (
    BoundMetrics,
    CorpusMetricFailed,
    ScoredOutcomes,
    corpus_scores,
    outcome_key,
    score_outcomes,
)
from zhenlong.evaluate.scenarios.scenario import PERTURBATION_KINDS, Scenario
from zhenlong.evaluate.statistics.intervals import NOT_OBSERVED, Interval, mean_interval
from zhenlong.inference.model_client import Judge


@dataclass(frozen=True)
class _Slice:
    """Scored and failed outcomes with the same shots and perturbation."""

    shots: int
    perturbation: str
    scored: Sequence[ScoredOutcome]
    failed: Sequence[Outcome]

    def for_group(self, name: str, value: str) -> _Slice:
        scored = [one for one in self.scored if one.outcome.instance.groups.get(name) == value]
        return replace(
            self, scored=scored, failed=[one for one in self.failed if one.instance.groups.get(name) == value]
        )

    @property
    def num_unanswered(self) -> int:
        """The number of instances that failed in every trial."""
        answered = {one.outcome.instance.id for one in self.scored}
        return len({one.instance.id for one in self.failed} - answered)


def aggregate(
    scenario: Scenario,
    outcomes: Sequence[Outcome],
    *,
    model: str,
    judge: Judge | None = None,
    perturbation_kinds: Mapping[str, str] | None = None,
    seed: int = 0,
) -> tuple[list[Result], list[InstanceRecord]]:
    """The results of one model on one scenario, and one record per outcome, in order.

    `perturbation_kinds` maps names of perturbations that are not built in to robustness or fairness. For each number
    of shots the results are: every measure over all instances, over each group, under each perturbation, and the worst
    case over the perturbations of a kind; then efficiency. An instance's value is the mean over its trials; a corpus
    measure is computed per trial, and its value and interval are averaged. Failed outcomes enter no mean; an instance
    counts as failed if all its trials failed. What a metric cannot score is failed too (see `score_outcomes`). Raises
    `UserError` if a judge's verdict is missing and there is no judge.
    """
    perturbation_kinds = {name: one.category for name, one in PERTURBATIONS.items()} | dict(perturbation_kinds or {})
    scored = score_outcomes(scenario.bind_metrics(), outcomes, judge)
    results: list[Result] | None = None
    while results is None:
        try:
            results = _all_results(scenario, scored, perturbation_kinds, seed)
        except CorpusMetricFailed as failed:
            scored = scored.without(failed)
    by_key = {outcome_key(one.outcome): one for one in scored.scored}
    named = [replace(one, model=model, scenario=scenario.name) for one in results]
    return named, [make_record(one, by_key.get(outcome_key(one))) for one in scored.outcomes]


def _all_results(
    scenario: Scenario, scored: ScoredOutcomes, perturbation_kinds: Mapping[str, str], seed: int
) -> list[Result]:
    results: list[Result] = []
    for slices in _slices(scored.outcomes, scored.scored):
        for part in slices:
            kind = _perturbation_kind(part.perturbation, perturbation_kinds)
            results += _slice_results(scenario, scored.bound, part, scored.measures, kind, seed)
        for kind in PERTURBATION_KINDS:
            alike = [part for part in slices if not part.perturbation or perturbation_kinds[part.perturbation] == kind]
            results += _worst_case_results(kind, alike, scored.measures, scenario.name, seed)
        answered = [one.outcome for part in slices if not part.perturbation for one in part.scored]
        results += [replace(one, shots=slices[0].shots) for one in efficiency_results(answered, seed)]
    return results


def make_record(outcome: Outcome, scored: ScoredOutcome | None) -> InstanceRecord:
    """The record of an outcome; `scored` is None if it failed."""
    cost = {} if outcome.cost is None else {k: v for k, v in asdict(outcome.cost).items() if v is not None}
    if cost.get("batch_size") == 1:
        del cost["batch_size"]
    return InstanceRecord(
        id=outcome.instance.id,
        prompt=outcome.prompt or outcome.instance.input,
        outputs=tuple(one.text for one in outcome.outputs),
        turns=outcome.outputs[0].turns if outcome.outputs else (),
        scores=dict(scored.scores) if scored else {},
        references=tuple({"text": one.text, "correct": one.is_correct} for one in outcome.instance.references),
        choice_log_probs=outcome.choices.log_probs if outcome.choices else None,
        predicted=outcome.predicted,
        confidence=None if outcome.failed else confidence_of(outcome),
        groups=dict(outcome.instance.groups),
        cluster=outcome.instance.cluster,
        perturbation=outcome.instance.perturbation,
        shots=outcome.shots,
        trial=outcome.trial,
        failed=outcome.failed,
        reading=_reading_fields(outcome),
        cost=cost,
        judgement=dict(scored.judgement) if scored else {},
    )


def _reading_fields(outcome: Outcome) -> dict[str, Any]:
    """The reading as JSON; empty where every answer was read below the token limit."""
    reading = outcome.reading
    if reading is None or (reading.status is ReadingStatus.READ and not reading.at_token_limit):
        return {}
    fields = {name: value for name, value in asdict(reading).items() if value}
    return fields | {"status": reading.status.value}


def _slices(outcomes: Sequence[Outcome], scored: Sequence[ScoredOutcome]) -> Iterator[list[_Slice]]:
    """For each number of shots, its slices by perturbation, the unperturbed one first."""
    good: dict[tuple[int, str], list[ScoredOutcome]] = defaultdict(list)
    failed: dict[tuple[int, str], list[Outcome]] = defaultdict(list)
    for one in scored:
        good[one.outcome.shots, one.outcome.instance.perturbation].append(one)
    for outcome in outcomes:
        if outcome.failed:
            failed[outcome.shots, outcome.instance.perturbation].append(outcome)
    keys = sorted({*good, *failed})
    for shots in sorted({shots for shots, _ in keys}):
        yield [_Slice(*key, good[key], failed[key]) for key in keys if key[0] == shots]


def _slice_results(
    scenario: Scenario, bound: BoundMetrics, part: _Slice, measures: Mapping[str, Measure], kind: str, seed: int
) -> Iterator[Result]:
    """Every measure of a slice, and of its groups if it is unperturbed; `kind` is that of the perturbation."""
    for group, within in _group_slices(part):
        found = {
            name: (measures[name], value) for name, value in _instance_means(within.scored, scenario.name, seed).items()
        }
        found |= _corpus_measures([one for one in bound if one[0].of_groups or not group], within.scored)
        if scenario.main not in found and not group:
            found[scenario.main] = (_declared_measure(bound, scenario.main), NOT_OBSERVED)  # every instance failed
        outcomes = [*(one.outcome for one in within.scored), *within.failed]
        shares = reading_shares(outcomes) if outcomes else {}
        for name, (known, value) in found.items():
            yield Result(
                model="",
                scenario="",
                measure=name,
                value=value,
                category=_category(known, kind),
                higher_is_better=known.higher_is_better,
                shots=part.shots,
                perturbation=part.perturbation,
                group=group,
                main=name == scenario.main and not group and not part.perturbation,
                failed=within.num_unanswered,
                reading=shares if known.category != "efficiency" else {},
            )


def _group_slices(part: _Slice) -> Iterator[tuple[str, _Slice]]:
    yield "", part
    if not part.perturbation:
        instances = [one.outcome.instance for one in part.scored] + [one.instance for one in part.failed]
        for name, value in sorted({pair for instance in instances for pair in instance.groups.items()}):
            yield f"{name}={value}", part.for_group(name, value)


def _instance_means(scored: Sequence[ScoredOutcome], scenario_name: str, seed: int) -> dict[str, Interval]:
    """The mean of each measure over instances; an instance's value is the mean over its trials.

    The trials of an instance are thereby one observation; instances of one cluster are not independent.
    """
    values: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    clusters: dict[str, str] = {}
    for one in scored:
        instance = one.outcome.instance
        clusters[instance.id] = instance.cluster or f"id {instance.id}"
        for name, value in one.scores.items():
            values[name][one.outcome.instance.id].append(value)
    found = {}
    for name, by_id in values.items():
        means = np.array([np.mean(trials) for trials in by_id.values()])
        finite = np.isfinite(means)
        if not finite.all():
            warnings.warn(
                f"{scenario_name}: {name}: {(~finite).sum()} values are not finite and left out", stacklevel=2
            )
        groups = [clusters[id_] for id_, kept in zip(by_id, finite, strict=True) if kept]
        found[name] = mean_interval(means[finite], seed, clusters=groups)
    return found


def _corpus_measures(bound: BoundMetrics, scored: Sequence[ScoredOutcome]) -> dict[str, tuple[Measure, Interval]]:
    """Measures without a value per instance: computed per trial, then averaged over trials.

    The ends of the trials' intervals are averaged too, because trials do not add instances.
    """
    trials: dict[int, list[ScoredOutcome]] = defaultdict(list)
    for one in scored:
        trials[one.outcome.trial].append(one)
    values: dict[str, list[Interval]] = defaultdict(list)
    known: dict[str, Measure] = {}
    for metric, function in bound:
        if metric.kind == "corpus":
            for own in [scored] if metric.over_trials and scored else trials.values():
                for name, value in corpus_scores(metric, function, own).items():
                    known[name] = metric.find_measure(name)
                    values[name].append(value)
    return {
        name: (known[name], several[0] if len(several) == 1 else _mean_of_intervals(several))
        for name, several in values.items()
    }


def _mean_of_intervals(several: Sequence[Interval]) -> Interval:
    low, high = (float(np.mean([one.ci95[end] for one in several])) for end in (0, 1))
    clusters = max(one.clusters for one in several)
    return Interval(float(np.mean([one.mean for one in several])), (low, high), max(one.n for one in several), clusters)


def _worst_case_results(
    kind: str, parts: Sequence[_Slice], measures: Mapping[str, Measure], scenario_name: str, seed: int
) -> Iterator[Result]:
    """The worst value over the original and its perturbed copies, per instance and trial (HELM, metric.py); the mean.

    The worst is the minimum if higher is better and the maximum if lower is better (HELM: always the minimum); a
    measure without direction has none. Instances whose original failed are left out.
    """
    copies: dict[tuple[str, int], list[ScoredOutcome]] = defaultdict(list)
    for part in parts:
        for one in part.scored:
            copies[one.outcome.instance.id, one.outcome.trial].append(one)
    if len(parts) < 2 or parts[0].perturbation:
        return
    originals = [several for several in copies.values() if not several[0].outcome.instance.perturbation]
    worst = [replace(several[0], scores=_worst_case_scores(several, measures)) for several in originals]
    for name, value in _instance_means(worst, scenario_name, seed).items():
        yield Result(
            model="",
            scenario="",
            measure=name,
            value=value,
            category=_category(measures[name], kind),
            higher_is_better=measures[name].higher_is_better,
            shots=parts[0].shots,
            perturbation=WORST_CASE_PREFIX + kind,
            failed=parts[0].num_unanswered,
        )


def _worst_case_scores(copies: Sequence[ScoredOutcome], measures: Mapping[str, Measure]) -> dict[str, float]:
    """For the original's measures with a direction, the worst value over all copies; `copies[0]` is the original."""
    found = {}
    for name in copies[0].scores:
        better = measures[name].higher_is_better
        if better is not None:
            pick = min if better else max
            found[name] = pick(one.scores[name] for one in copies if name in one.scores)
    return found


def _declared_measure(bound: BoundMetrics, name: str) -> Measure:
    """The declaration of a measure that no instance has a value of."""
    for metric, _ in bound:
        with suppress(KeyError):
            return metric.find_measure(name)
    return Measure(name)


def _category(measure: Measure, kind: str) -> str:
    """The reported category: accuracy under a perturbation becomes robustness or fairness, all else stays."""
    return kind if kind and measure.category == "accuracy" else measure.category


def _perturbation_kind(perturbation: str, kinds: Mapping[str, str]) -> str:
    if perturbation and kinds.get(perturbation) not in PERTURBATION_KINDS:
        raise ValueError(f"perturbation {perturbation}: expected its kind among {', '.join(PERTURBATION_KINDS)}")
    return kinds[perturbation] if perturbation else ""
