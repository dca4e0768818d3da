"""`zhenlong compare`: is B better than A? Paired differences with intervals, tests and detectable effects."""

from __future__ import annotations

import json as json_format
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from zhenlong.evaluate.compare.differences import MeasureDifference, compute_differences
from zhenlong.evaluate.compare.evaluated_model import EvaluatedModel, load_evaluated_models, setting_differences
from zhenlong.evaluate.compare.pairing import InstanceOverlap, pair_measures
from zhenlong.evaluate.results.number_format import format_short
from zhenlong.evaluate.run.console import wide_console
from zhenlong.loop.atomic import to_jsonable, write_json


@dataclass(frozen=True)
class Comparison:
    """Two evaluated models, paired: the differences B - A of every measure, and what has to be known to read them."""

    a: EvaluatedModel
    b: EvaluatedModel
    differences: Sequence[MeasureDifference]
    overlaps: Sequence[InstanceOverlap]
    notes: Sequence[str]

    def as_json(self) -> dict[str, Any]:
        """The comparison as JSON holds it."""
        return dict(
            to_jsonable(
                {
                    "a": {"folder": self.a.folder, "model": self.a.model},
                    "b": {"folder": self.b.folder, "model": self.b.model},
                    "notes": self.notes,
                    "instances": {one.scenario: asdict(one) for one in self.overlaps},
                    "differences": [one.as_json() for one in self.differences],
                }
            )
        )


def compare(
    evaluation_a: str,
    evaluation_b: str = "",
    *,
    model_a: str = "",
    model_b: str = "",
    scenarios: str = "",
    groups: bool = False,
    output: str = "",
    json: bool = False,
    min_overlap: float = 0.5,
    seed: int = 0,
) -> Comparison:
    """Compare two evaluations with tests paired by instance.

    Args:
        evaluation_a: Folder of the first evaluation.
        evaluation_b: Folder of the second; if omitted, two models of the first are compared.
        model_a: Model of the first evaluation; required if it has several.
        model_b: Model of the second evaluation; required if it has several.
        scenarios: Names of scenarios to compare, separated by commas; empty: all that both have.
        groups: Show results by group (subjects, categories) too.
        output: JSON file for all numbers, groups included.
        json: Print JSON instead of the tables.
        min_overlap: Fraction of the smaller side's instances that both must share; a scenario below it is an error.

    Differences are B - A. See docs/evaluation/comparison.md.
    """
    a, b = load_evaluated_models(evaluation_a, evaluation_b, model_a, model_b)
    selected = [name.strip() for name in scenarios.split(",") if name.strip()]
    rows, overlaps = pair_measures(a, b, selected, min_overlap)
    notes = list(comparison_notes(a, b, overlaps, selected))
    comparison = Comparison(a, b, compute_differences(rows, seed), overlaps, notes)
    if output:
        write_json(Path(output), comparison.as_json())
    if json:
        print(json_format.dumps(comparison.as_json(), indent=2, ensure_ascii=False))
    else:
        print_comparison(a, b, comparison.differences, notes, groups)
    return comparison


def comparison_notes(
    a: EvaluatedModel, b: EvaluatedModel, overlaps: Sequence[InstanceOverlap], selected: Sequence[str] = ()
) -> Iterator[str]:
    """Caveats of the comparison: settings, scenarios and instances that differ, and failures."""
    yield from setting_differences(a, b)
    for name, own, other in (("A", a, b), ("B", b, a)):
        alone = [one for one in own.scenarios if one not in other.scenarios and (not selected or one in selected)]
        if alone:
            yield f"only {name} has {', '.join(alone)}"
    for one in overlaps:
        if one.refused:
            yield f"{one.scenario}: not compared: {one.refused}"
        elif not one.is_complete:
            yield f"{one.scenario}: {_overlap_note(one)}"


def print_comparison(
    a: EvaluatedModel, b: EvaluatedModel, found: Sequence[MeasureDifference], notes: Sequence[str], groups: bool
) -> None:
    """Print the notes and the tables."""
    screen = wide_console()
    screen.print(f"A: {a.model} ({a.folder})\nB: {b.model} ({b.folder})", highlight=False)
    for note in notes:
        screen.print(f"- {note}", highlight=False, markup=False)
    whole = [one for one in found if not one.measures.a.group]
    screen.print(_tested_table("B - A, paired by instance", [one for one in whole if one.test]))
    untested = [one for one in whole if not one.test]
    if untested:
        screen.print(_untested_table("B - A of corpus-level measures: not paired, not tested", untested))
    grouped = [one for one in found if one.measures.a.group and one.test]
    if groups and grouped:
        screen.print(_tested_table("B - A by group", grouped))
    screen.print(
        "p: McNemar's exact test of binary outcomes, else a sign-flip permutation test. Holm: p corrected for all "
        "measures tested.\n"
        "MDE: minimum detectable effect, the smallest difference that this n detects with 80 % power at level 0.05; "
        "needs n: the number of instances that detects the difference seen.\n"
        "Instances of one passage, conversation or template are one cluster: its signs flip together, and it is "
        "resampled as a whole.",
        style="dim",
        highlight=False,
    )


def _tested_table(title: str, found: Sequence[MeasureDifference]) -> Table:
    table = _table(title, "n", "A", "B", "B - A", "95 %", "p", "Holm", "MDE", "needs n")
    table.add_column("")
    for one in found:
        colour = {"better": "green", "worse": "red", "differs": "yellow"}.get(one.verdict, "")
        test = one.test
        assert test is not None
        needed = "-" if test.needed is None else f"{test.needed:,}"
        tests = (format_p_value(test.p), format_p_value(one.p_holm), format_number(test.mde), needed)
        table.add_row(*_numbers(one), *tests, f"[{colour}]{one.verdict}[/]" if colour else "")
    return table


def _untested_table(title: str, found: Sequence[MeasureDifference]) -> Table:
    table = _table(title, "n", "A", "B", "B - A", "95 %")
    for one in found:
        table.add_row(*_numbers(one))
    return table


def _table(title: str, *numbers: str) -> Table:
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("scenario, measure", overflow="fold")
    for name in numbers:
        table.add_column(name, justify="right")
    return table


def _numbers(one: MeasureDifference) -> list[str]:
    shots = {one.measures.a.shots, one.measures.b.shots}
    name = one.measures.name + (
        f" ({one.measures.a.shots} against {one.measures.b.shots} shots)" if len(shots) > 1 else ""
    )
    mean, (low, high) = one.difference.mean, one.difference.ci95
    sign = "+" if mean > 0 else ""
    ends = f"[{format_number(low)}, {format_number(high)}]"
    return [name, str(one.difference.n), format_number(one.a), format_number(one.b), sign + format_number(mean), ends]


def _overlap_note(one: InstanceOverlap) -> str:
    text = f"{one.shared} instances in common (A has {one.a}, B has {one.b})"
    for name, count in (("A", one.failed_a), ("B", one.failed_b)):
        if count:
            text += f"; {name} failed on {count}, left out"
    if one.different:
        text += f"; {one.different} have the same id but different references, left out"
    return f"{text}; {one.paired} compared"


def format_number(value: float | None) -> str:
    """Three decimals, or whole numbers from 100 on; a dash for None."""
    if value is None or value != value:
        return "-"
    return f"{value:.3f}" if abs(value) < 100 else format_short(value)


def format_p_value(p: float | None) -> str:
    """A p-value."""
    if p is None:
        return "-"
    return "<0.0001" if p < 0.0001 else f"{p:.4f}" if p < 0.01 else f"{p:.3f}"
