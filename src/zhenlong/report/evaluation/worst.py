"""What perturbations cost: the main measure as written against the worst over each instance's perturbed copies."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from zhenlong.evaluate.results import Record, Result
from zhenlong.evaluate.scenarios.scenario import PERTURBED
from zhenlong.evaluate.statistics import Interval, paired_difference
from zhenlong.report.evaluation.folder import WORST, Evaluation, Place, label_of, model_name
from zhenlong.report.evaluation.numbers import digits_for, number, with_half


@dataclass(frozen=True)
class Change:
    """From the original to another number: both, the difference, its half-width, and its colour (-3 to 3)."""

    name: str
    value: str
    change: str
    half: str
    level: int


@dataclass(frozen=True)
class Fall:
    """One model on one scenario: its number as written, the worst of each kind, and each perturbation by itself."""

    scenario: str
    label: str
    model: str
    original: str
    worst: list[Change | None]  # robustness, fairness
    each: list[Change]


def falls_of(evaluation: Evaluation, place: Place, records: Mapping[str, Sequence[Record]]) -> list[Fall]:
    """A scenario's falls, for the models that were perturbed."""
    main = evaluation.main_measure(place[0])
    original = evaluation.find(place, main)
    perturbed = _perturbed(evaluation, place, main)
    found = []
    for model in evaluation.models:
        own = {name: by_model[model] for name, by_model in perturbed.items() if model in by_model}
        if model not in original or not own:
            continue
        start = original[model]
        digits = digits_for([start.value, *(one.value for one in own.values())])
        values = _values(records.get(model, ()), place[1], main)

        found.append(
            Fall(
                evaluation.named(place),
                label_of(main),
                model_name(model),
                number(start.value.mean, digits),
                [_change(WORST + k, start, own, values, digits) if WORST + k in own else None for k in PERTURBED],
                [_change(name, start, own, values, digits) for name in own if not name.startswith(WORST)],
            )
        )
    return found


Values = Mapping[str, Mapping[tuple[str, int], float]]  # perturbation -> (id, trial) -> score


def _perturbed(evaluation: Evaluation, place: Place, main: str) -> dict[str, dict[str, Result]]:
    """The main measure under each perturbation, by its name and model."""
    found: dict[str, dict[str, Result]] = {}
    for one in evaluation.results:
        if (one.scenario, one.shots, one.measure) == (*place, main) and one.perturbation and not one.group:
            found.setdefault(one.perturbation, {})[one.model] = one
    return found


def _values(records: Sequence[Record], shots: int, main: str) -> Values:
    found: dict[str, dict[tuple[str, int], float]] = defaultdict(dict)
    for one in records:
        if one.shots == shots and main in one.scores and not one.failed:
            found[one.perturbation][one.id, one.trial] = one.scores[main]
    return found


def _change(name: str, start: Result, own: Mapping[str, Result], values: Values, digits: int) -> Change:
    """The change to a perturbation, paired by instance where the records have the scores."""
    end = own[name]
    names = [name]
    if name.startswith(WORST):
        names = [n for n, one in own.items() if not n.startswith(WORST) and one.category == end.category]
    paired = _paired(names, values, end.higher_is_better, with_original=name.startswith(WORST))
    gap = paired or Interval(end.value.mean - start.value.mean, (float("nan"), float("nan")), end.value.n)
    text, half = with_half(gap, digits, signed=True)
    level = 0
    if end.higher_is_better is not None and (gap.ci95[0] > 0 or gap.ci95[1] < 0):
        level = 2 if (gap.mean > 0) == end.higher_is_better else -2
    return Change(name.removeprefix(WORST), number(end.value.mean, digits), text, half, level)


def _paired(names: Sequence[str], values: Values, better: bool | None, with_original: bool) -> Interval | None:
    """The paired change from the original to the worst of several perturbations."""
    original = values.get("", {})
    pick = max if better is False else min
    pairs = []
    for key, before in original.items():
        after = [values[name][key] for name in names if key in values.get(name, {})]
        if after:
            pairs.append((pick([before, *after] if with_original else after), before))
    after_all, before_all = [after for after, _ in pairs], [before for _, before in pairs]
    return paired_difference(after_all, before_all) if len(pairs) > 1 else None
