"""Pairing of two evaluations: the instances that both have, and each measure's values on them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from zhenlong.errors import UserError
from zhenlong.evaluate.compare.evaluated_model import EvaluatedModel
from zhenlong.evaluate.perturb import PERTURBATIONS
from zhenlong.evaluate.results.result_files import WORST_CASE_PREFIX, InstanceRecord, Result, read_records
from zhenlong.evaluate.scenarios.scenario import PERTURBATION_KINDS
from zhenlong.evaluate.statistics.paired import PairedValues

RecordPair = tuple[InstanceRecord, InstanceRecord]


@dataclass(frozen=True)
class InstanceOverlap:
    """How many of a scenario's instances could be paired."""

    scenario: str
    a: int  # instances of A
    b: int
    shared: int  # ids in common
    paired: int  # in common with the same references, and failed on neither side
    failed_a: int = 0  # among the shared
    failed_b: int = 0
    different: int = 0  # same id, but different references
    refused: str = ""  # why the scenario is not compared

    @property
    def is_complete(self) -> bool:
        """Whether every instance of both sides is paired."""
        return self.a == self.b == self.paired


@dataclass(frozen=True)
class MeasurePair:
    """One measure on both sides. `pairs` is None for a measure without values per instance (corpus-level)."""

    a: Result
    b: Result
    paired_values: PairedValues | None

    @property
    def name(self) -> str:
        """The scenario and the measure, with its perturbation and group."""
        detail = ", ".join(part for part in (self.a.perturbation, self.a.group) if part)
        return f"{self.a.scenario} {self.a.measure}" + (f" ({detail})" if detail else "")


def pair_measures(
    a: EvaluatedModel, b: EvaluatedModel, scenarios: Sequence[str] = (), min_overlap: float = 0.5
) -> tuple[list[MeasurePair], list[InstanceOverlap]]:
    """Every measure that both sides have, with its paired values, and the overlap of each scenario.

    A scenario is skipped if fewer than `min_overlap` of the smaller side's instances are shared. Different numbers of
    shots are compared if each side has only one. Raises `UserError` if no scenario is left.
    """
    shared = [name for name in a.scenarios if name in b.scenarios and (not scenarios or name in scenarios)]
    if not shared:
        raise UserError(
            f"{a.folder} and {b.folder}: no scenario in common"
            + (f" among {', '.join(scenarios)}" if scenarios else "")
            + f"; A has {', '.join(a.scenarios)}, B has {', '.join(b.scenarios)}"
        )
    rows: list[MeasurePair] = []
    overlaps: list[InstanceOverlap] = []
    for name in shared:
        pairs, overlap = _pair_records(a, b, name, min_overlap)
        overlaps.append(overlap)
        if not overlap.refused:
            rows += _scenario_measures(a, b, name, pairs)
    if all(one.refused for one in overlaps):
        raise UserError(f"{a.folder} and {b.folder}: {overlaps[0].scenario}: {overlaps[0].refused}")
    return rows, overlaps


def _pair_records(
    a: EvaluatedModel, b: EvaluatedModel, scenario: str, min_overlap: float
) -> tuple[list[RecordPair], InstanceOverlap]:
    first, second = (list(read_records(side.folder, side.model, scenario)) for side in (a, b))
    shots = _common_shots(first, second)
    if shots is None:
        own, other = (sorted({one.shots for one in records}) for records in (first, second))
        refused = f"A has {own} shots and B has {other}; expected a number in common, or one each"
        return [], InstanceOverlap(scenario, len(first), len(second), 0, 0, refused=refused)
    by_key = {_key(one): one for one in second}
    matched = [(one, by_key[_key(one, shots)]) for one in first if _key(one, shots) in by_key]
    mismatched_ids = {
        one.id
        for one, other in matched
        if not one.perturbation and _sorted_references(one) != _sorted_references(other)
    }
    answered = [
        (one, other) for one, other in matched if not one.failed and not other.failed and one.id not in mismatched_ids
    ]
    ids_a, ids_b = ({one.id for one in records} for records in (first, second))
    overlap = InstanceOverlap(
        scenario,
        a=len(ids_a),
        b=len(ids_b),
        shared=len({one.id for one, _ in matched}),
        paired=len({one.id for one, _ in answered}),
        failed_a=len({one.id for one, _ in matched if one.failed}),
        failed_b=len({other.id for _, other in matched if other.failed}),
        different=len(mismatched_ids),
    )
    return answered, _check_overlap(overlap, min_overlap)


def _check_overlap(overlap: InstanceOverlap, min_overlap: float) -> InstanceOverlap:
    same, smaller = overlap.shared - overlap.different, min(overlap.a, overlap.b)
    counts = f"{same} of A's {overlap.a} and B's {overlap.b} instances are the same"
    if same == 0:
        return replace(overlap, refused=f"{counts}; a paired comparison needs the same instances")
    if same < min_overlap * smaller:
        least = f"at least {min_overlap:.0%} of the smaller side (min_overlap)"
        return replace(overlap, refused=f"{counts}; expected {least}")
    return overlap


def _common_shots(a: Sequence[InstanceRecord], b: Sequence[InstanceRecord]) -> Mapping[int, int] | None:
    """Mapping from A's number of shots to B's; None if it is ambiguous."""
    own, other = {one.shots for one in a}, {one.shots for one in b}
    if own & other:
        return {shots: shots for shots in own & other}
    return {own.pop(): other.pop()} if len(own) == len(other) == 1 else None


def _key(record: InstanceRecord, shots: Mapping[int, int] | None = None) -> tuple[str, str, int | None, int]:
    known = record.shots if shots is None else shots.get(record.shots)
    return (record.id, record.perturbation, known, record.trial)


def _sorted_references(record: InstanceRecord) -> list[tuple[str, bool]]:
    """The references in sorted order: equal for the same question, whatever the order of its choices."""
    return sorted((str(one.get("text")), bool(one.get("correct", True))) for one in record.references)


def _scenario_measures(
    a: EvaluatedModel, b: EvaluatedModel, scenario: str, pairs: Sequence[RecordPair]
) -> Iterator[MeasurePair]:
    by_shots: dict[int, list[RecordPair]] = defaultdict(list)
    for pair in pairs:
        by_shots[pair[0].shots].append(pair)
    kinds = {name: one.category for name, one in PERTURBATIONS.items()} | {
        one.perturbation: one.category
        for one in a.results
        if one.scenario == scenario
        and one.category in PERTURBATION_KINDS
        and not one.perturbation.startswith(WORST_CASE_PREFIX)
    }
    for shots, own in by_shots.items():
        alike = [one for one in b.results if one.scenario == scenario and one.shots == own[0][1].shots]
        results_b = {_without_shots(one): one for one in alike}
        for result in a.results:
            other = results_b.get(_without_shots(result))
            if result.scenario == scenario and result.shots == shots and other is not None:
                yield MeasurePair(result, other, _paired_values(result, own, kinds))


def _without_shots(result: Result) -> tuple[Any, ...]:
    return (result.measure, result.category, result.perturbation, result.group)


def _paired_values(result: Result, pairs: Sequence[RecordPair], kinds: Mapping[str, str]) -> PairedValues | None:
    """Each pair's values of a measure, averaged over trials; None for a measure without values per instance."""
    if result.category == "efficiency":
        return None  # costs depend on the machine and its load, not on the instance
    group, _, wanted = result.group.partition("=")
    chosen = [pair for pair in pairs if not group or str(pair[0].groups.get(group)) == wanted]
    if result.perturbation.startswith(WORST_CASE_PREFIX):
        kind = result.perturbation.removeprefix(WORST_CASE_PREFIX)
        valued = _worst_case_values(result, [p for p in chosen if kinds.get(p[0].perturbation, kind) == kind])
    else:
        valued = {
            (one.id, one.trial): (one.scores[result.measure], other.scores[result.measure])
            for one, other in chosen
            if one.perturbation == result.perturbation and result.measure in one.scores.keys() & other.scores.keys()
        }
    trials: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for (id_, _), two in valued.items():
        if all(value is not None and np.isfinite(value) for value in two):
            trials[id_].append(two)
    if not trials:
        return None
    means = [tuple(np.mean(several, axis=0)) for several in trials.values()]
    cluster_of = {one.id: one.cluster for one, _ in pairs if one.cluster}
    clusters = [cluster_of.get(id_) or f"id {id_}" for id_ in trials] if cluster_of else None
    return PairedValues([float(one) for one, _ in means], [float(other) for _, other in means], clusters)


def _worst_case_values(result: Result, pairs: Sequence[RecordPair]) -> dict[tuple[str, int], tuple[float, float]]:
    """Each side's worst value over the original and its perturbed copies, where both have the original."""
    pick = min if result.higher_is_better else max
    copies: dict[tuple[str, int], list[RecordPair]] = defaultdict(list)
    for pair in sorted(pairs, key=lambda pair: bool(pair[0].perturbation)):
        copies[pair[0].id, pair[0].trial].append(pair)
    found = {}
    for place, several in copies.items():
        scores = [(one.scores, other.scores) for one, other in several]
        both = [two for two in scores if result.measure in two[0] and result.measure in two[1]]
        if not several[0][0].perturbation and both:
            worst = [pick(two[side][result.measure] for two in both) for side in (0, 1)]
            found[place] = (worst[0], worst[1])
    return found
