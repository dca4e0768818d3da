"""`zhenlong gate`: does the candidate pass the rules, or did a protected measure regress?"""

from __future__ import annotations

import json as json_format
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.table import Table
from scipy import stats

from zhenlong.errors import UserError
from zhenlong.evaluate.compare.compare import comparison_notes, format_number
from zhenlong.evaluate.compare.differences import unpaired_bounds
from zhenlong.evaluate.compare.evaluated_model import EvaluatedModel, load_evaluated_model
from zhenlong.evaluate.compare.gate_rules import GateRule, read_rules
from zhenlong.evaluate.compare.pairing import InstanceOverlap, MeasurePair, pair_measures
from zhenlong.evaluate.results.result_files import Result
from zhenlong.evaluate.run.console import wide_console
from zhenlong.evaluate.statistics.intervals import Z95
from zhenlong.loop.atomic import to_jsonable, write_json


@dataclass(frozen=True)
class GateVerdict:
    """One measure under its rule. A drop is how much worse the candidate is, in the measure's unit.

    The bounds are NaN where the spread of the drops was not seen (all are equal, or too few): then permutation tests
    decide whether the drop is above, or below, what is allowed.
    """

    measures: MeasurePair
    rule: GateRule
    drop: float
    drop_low: float  # one-sided lower confidence bound of the drop
    drop_high: float  # one-sided upper confidence bound of the drop
    allowed_drop: float
    p: float | None  # one-sided p-value of the drop; None: the values are not paired
    n: int
    p_above: float | None = None  # one-sided p-value of a drop above the allowed one; only where the bounds are NaN
    p_below: float | None = None

    @property
    def passed(self) -> bool:
        """Whether the rule holds; an undecided case passes, except under `no_worse`."""
        alpha = 1 - self.rule.confidence
        if self.rule.require == "no_worse":
            return self.drop_high < self.allowed_drop or (self.p_below is not None and self.p_below < alpha)
        by_chance = self.p is not None and self.p >= alpha
        exceeds = self.drop_low > self.allowed_drop or (self.p_above is not None and self.p_above < alpha)
        return by_chance or not exceeds

    def as_json(self) -> dict[str, Any]:
        """The verdict as JSON."""
        one, rule = self.measures.a, self.rule
        found = {name: getattr(one, name) for name in ("scenario", "measure", "perturbation", "group", "shots")}
        found |= {"drop": self.drop, "at_least": self.drop_low, "at_most": self.drop_high, "allowed": self.allowed_drop}
        found |= {"p": self.p, "n": self.n, "confidence": rule.confidence, "require": rule.require}
        return dict(to_jsonable(found | {"rule": rule.source, "passed": self.passed}))


@dataclass(frozen=True)
class GateResult:
    """What a gate decided: the verdict on every measure that a rule is about, regressions first."""

    verdicts: Sequence[GateVerdict]
    notes: Sequence[str]

    @property
    def passed(self) -> bool:
        """Whether no rule was broken."""
        return all(one.passed for one in self.verdicts)

    @property
    def exit_code(self) -> int:
        """What the command ends with."""
        return 0 if self.passed else 1

    def as_json(self) -> dict[str, Any]:
        """The result as JSON holds it."""
        verdicts = [one.as_json() for one in self.verdicts]
        return dict(to_jsonable({"passed": self.passed, "notes": self.notes, "verdicts": verdicts}))


def gate(
    *,
    baseline: str,
    candidate: str,
    rules: str,
    baseline_model: str = "",
    candidate_model: str = "",
    output: str = "",
    json: bool = False,
    min_overlap: float = 0.5,
    seed: int = 0,
) -> GateResult:
    """Pass a candidate, or exit with code 1 if it regressed on what the rules protect.

    Args:
        baseline: Folder of the baseline's evaluation.
        candidate: Folder of the candidate's evaluation.
        rules: YAML file with the rules; see docs/evaluation/comparison.md.
        baseline_model: Model of the baseline's evaluation; required if it has several.
        candidate_model: Model of the candidate's evaluation; required if it has several.
        output: JSON file for all verdicts.
        min_overlap: Fraction of the smaller side's instances that both must share.
        seed: Seed of the resampling, which decides the bounds of each drop.

    Exit codes: 0 passed, 1 regression, 2 error in the rules or the folders.
    """
    gate_rules = read_rules(rules)
    a, b = (
        load_evaluated_model(baseline, baseline_model, "--baseline-model"),
        load_evaluated_model(candidate, candidate_model, "--candidate-model"),
    )
    found, overlaps = apply_rules(gate_rules, a, b, min_overlap, seed)
    result = GateResult(found, list(comparison_notes(a, b, overlaps)))
    if output:
        write_json(Path(output), result.as_json())
    if json:
        print(json_format.dumps(result.as_json(), indent=2, ensure_ascii=False))
    else:
        _print_verdicts(a, b, found, result.notes)
    return result


def apply_rules(
    rules: Sequence[GateRule], a: EvaluatedModel, b: EvaluatedModel, min_overlap: float = 0.5, seed: int = 0
) -> tuple[list[GateVerdict], list[InstanceOverlap]]:
    """The verdict on every measure that a rule matches, regressions first; the last matching rule applies.

    Raises `UserError` if a rule matches no measure, or the candidate lacks a protected one.
    """
    rows, overlaps = pair_measures(a, b, min_overlap=min_overlap)
    mains = {one.scenario: one.measure for one in a.results if one.main}
    refused = {one.scenario: one.refused for one in overlaps if one.refused}
    by_key = {_key(row.a): row for row in rows}
    decided: dict[tuple[Any, ...], GateVerdict] = {}
    for rule in rules:
        protected = [one for one in a.results if rule.matches(one, mains.get(one.scenario, ""))]
        if not protected:
            raise UserError(_no_match_message(rule, a.results))
        directed = [one for one in protected if one.higher_is_better is not None]
        if not directed and rule.is_specific:
            raise UserError(
                f"{rule.source}: {protected[0].measure} has no direction (higher or lower is better) and cannot regress"
            )
        for one in directed:
            if one.scenario in refused:
                raise UserError(f"{rule.source}: {one.scenario}: {refused[one.scenario]}")
            if _key(one) in by_key:
                decided[_key(one)] = _apply_rule(by_key[_key(one)], rule, seed)
            elif not one.group:  # a group may be missing among fewer instances
                missing = " ".join(part for part in (one.scenario, one.measure, one.perturbation) if part)
                raise UserError(
                    f"{rule.source}: {b.folder} has no {missing} at {one.shots} shots, which {a.folder} has"
                )
    return sorted(decided.values(), key=lambda one: one.passed), overlaps


def _apply_rule(row: MeasurePair, rule: GateRule, seed: int) -> GateVerdict:
    better = row.a.higher_is_better
    paired = row.paired_values
    if paired is None:
        ends = unpaired_bounds(row, float(stats.norm.ppf(rule.confidence)) / Z95)
        baseline, gained, n = row.a.value.mean, row.b.value.mean - row.a.value.mean, min(row.a.value.n, row.b.value.n)
    else:
        ends = paired.difference(2 * rule.confidence - 1, seed).ci95  # the two-sided interval with the same ends
        baseline, gained, n = float(np.mean(paired.a)), float(paired.gains.mean()), len(paired.gains)
    drop, least, most = (0.0 - gained, 0.0 - ends[1], 0.0 - ends[0]) if better else (gained, ends[0], ends[1])
    allowed = rule.allowed_drop * abs(baseline) if rule.relative else rule.allowed_drop
    if paired is None:
        return GateVerdict(row, rule, drop, least, most, allowed, None, n)
    worse, less_bad = ("less", "greater") if better else ("greater", "less")
    p = paired.p_value(0.0, seed, worse)
    if math.isfinite(least) and math.isfinite(most):
        return GateVerdict(row, rule, drop, least, most, allowed, p, n)
    shift = -allowed if better else allowed
    tests = paired.p_value(shift, seed, worse), paired.p_value(shift, seed, less_bad)
    return GateVerdict(row, rule, drop, least, most, allowed, p, n, *tests)


def _no_match_message(rule: GateRule, results: Iterable[Result]) -> str:
    """The error for a rule that matches no result, with the closest names."""
    known = list(dict.fromkeys((one.scenario, one.measure) for one in results))
    scenarios = list(dict.fromkeys(name for name, _ in known))
    same = [measure for name, measure in known if name == rule.scenario]
    problem = f"{rule.source}: no result matches scenario {rule.scenario}, measure {rule.measure}"
    for name in ("perturbation", "group"):
        if getattr(rule, name):
            problem += f", {name} {getattr(rule, name)}"
    problem += f", {rule.shots} shots" if rule.shots is not None else ""
    if same:
        near = get_close_matches(rule.measure, same, 3, 0.3) or same[:6]
        return f"{problem}; {rule.scenario} has {', '.join(near)}"
    near = get_close_matches(rule.scenario, scenarios, 3, 0.3) or scenarios[:6]
    return f"{problem}; the scenarios are {', '.join(near)}"


def _print_verdicts(a: EvaluatedModel, b: EvaluatedModel, found: Sequence[GateVerdict], notes: Sequence[str]) -> None:
    screen = wide_console()
    screen.print(f"baseline (A): {a.model} ({a.folder})\ncandidate (B): {b.model} ({b.folder})", highlight=False)
    for note in notes:
        screen.print(f"- {note}", highlight=False, markup=False)
    failed = [one for one in found if not one.passed]
    if failed:
        screen.print(_table(f"{len(failed)} of {len(found)} regressed", failed))
    passed = [one for one in found if one.passed]
    if passed:
        screen.print(_table(f"{len(passed)} of {len(found)} passed", passed))


def _table(title: str, found: Sequence[GateVerdict]) -> Table:
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("scenario, measure", overflow="fold")
    for name in ("n", "baseline", "candidate", "drop", "at least", "at most", "allowed"):
        table.add_column(name, justify="right")
    table.add_column("rule", overflow="fold")
    for one in found:
        a, b = _means(one.measures)
        numbers = [a, b, one.drop, one.drop_low, one.drop_high, one.allowed_drop]
        rule = one.rule.source.rsplit(", ", 1)[-1] + (" (no worse)" if one.rule.require == "no_worse" else "")
        table.add_row(one.measures.name, str(one.n), *(format_number(value) for value in numbers), rule)
    return table


def _means(row: MeasurePair) -> tuple[float, float]:
    if row.paired_values is None:
        return row.a.value.mean, row.b.value.mean
    return float(np.mean(row.paired_values.a)), float(np.mean(row.paired_values.b))


def _key(result: Result) -> tuple[Any, ...]:
    return (result.scenario, result.measure, result.category, result.perturbation, result.group, result.shots)
