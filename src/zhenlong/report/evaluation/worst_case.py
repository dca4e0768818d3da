"""Worst case under perturbations: the main measure unperturbed, and the worst over each instance's perturbed copies."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from zhenlong.evaluate.results.result_files import WORST_CASE_PREFIX, InstanceRecord, Result
from zhenlong.evaluate.scenarios.scenario import PERTURBATION_KINDS
from zhenlong.evaluate.statistics.intervals import Interval, paired_difference
from zhenlong.report.evaluation.evaluation_data import (
    EvaluationData,
    ScenarioShots,
    measure_title,
)
from zhenlong.report.evaluation.number_format import decimals_for, format_decimal, format_with_half_width


@dataclass(frozen=True)
class Change:
    """The change from the original to another value: both, difference, half-width, and colour level (-3 to 3)."""

    name: str
    value: str
    change: str
    half_width: str
    level: int


@dataclass(frozen=True)
class PerturbationDrop:
    """One model on one scenario: unperturbed value, worst case of each kind, and each single perturbation."""

    scenario: str
    label: str
    model: str
    original: str
    worst_case: list[Change | None]  # robustness, fairness
    per_perturbation: list[Change]


def perturbation_drops(
    evaluation: EvaluationData, scenario_shots: ScenarioShots, records: Mapping[str, Sequence[InstanceRecord]]
) -> list[PerturbationDrop]:
    """A scenario's drops, for the models with perturbed instances."""
    main = evaluation.main_measure(scenario_shots[0])
    original = evaluation.results_by_model(scenario_shots, main)
    perturbed = _perturbed(evaluation, scenario_shots, main)
    found = []
    for model in evaluation.models:
        own = {name: by_model[model] for name, by_model in perturbed.items() if model in by_model}
        if model not in original or not own:
            continue
        unperturbed = original[model]
        digits = decimals_for([unperturbed.value, *(one.value for one in own.values())])
        scores = _scores_by_perturbation(records.get(model, ()), scenario_shots[1], main)

        found.append(
            PerturbationDrop(
                evaluation.scenario_title(scenario_shots),
                measure_title(main),
                evaluation.model_names[model],
                format_decimal(unperturbed.value.mean, digits),
                [
                    _change(WORST_CASE_PREFIX + k, unperturbed, own, scores, digits)
                    if WORST_CASE_PREFIX + k in own
                    else None
                    for k in PERTURBATION_KINDS
                ],
                [
                    _change(name, unperturbed, own, scores, digits)
                    for name in own
                    if not name.startswith(WORST_CASE_PREFIX)
                ],
            )
        )
    return found


ScoresByPerturbation = Mapping[str, Mapping[tuple[str, int], float]]  # perturbation -> (id, trial) -> score


def _perturbed(evaluation: EvaluationData, scenario_shots: ScenarioShots, main: str) -> dict[str, dict[str, Result]]:
    """The main measure under each perturbation, by perturbation and model."""
    found: dict[str, dict[str, Result]] = {}
    for one in evaluation.results:
        if (one.scenario, one.shots, one.measure) == (*scenario_shots, main) and one.perturbation and not one.group:
            found.setdefault(one.perturbation, {})[one.model] = one
    return found


def _scores_by_perturbation(records: Sequence[InstanceRecord], shots: int, main: str) -> ScoresByPerturbation:
    found: dict[str, dict[tuple[str, int], float]] = defaultdict(dict)
    for one in records:
        if one.shots == shots and main in one.scores and not one.failed:
            found[one.perturbation][one.id, one.trial] = one.scores[main]
    return found


def _change(
    name: str, unperturbed: Result, own: Mapping[str, Result], scores: ScoresByPerturbation, digits: int
) -> Change:
    """The change under a perturbation, paired by instance if the records have the scores."""
    end = own[name]
    names = [name]
    if name.startswith(WORST_CASE_PREFIX):
        names = [n for n, one in own.items() if not n.startswith(WORST_CASE_PREFIX) and one.category == end.category]
    paired = _paired_change(names, scores, end.higher_is_better, with_original=name.startswith(WORST_CASE_PREFIX))
    difference = paired or Interval(end.value.mean - unperturbed.value.mean, (float("nan"), float("nan")), end.value.n)
    text, half = format_with_half_width(difference, digits, signed=True)
    level = 0
    if end.higher_is_better is not None and (difference.ci95[0] > 0 or difference.ci95[1] < 0):
        level = 2 if (difference.mean > 0) == end.higher_is_better else -2
    return Change(name.removeprefix(WORST_CASE_PREFIX), format_decimal(end.value.mean, digits), text, half, level)


def _paired_change(
    names: Sequence[str], scores: ScoresByPerturbation, higher_is_better: bool | None, with_original: bool
) -> Interval | None:
    """The paired change from the original to the worst case over several perturbations."""
    original = scores.get("", {})
    pick = max if higher_is_better is False else min
    pairs = []
    for key, before in original.items():
        after = [scores[name][key] for name in names if key in scores.get(name, {})]
        if after:
            pairs.append((pick([before, *after] if with_original else after), before))
    after_all, before_all = [after for after, _ in pairs], [before for _, before in pairs]
    return paired_difference(after_all, before_all) if len(pairs) > 1 else None
