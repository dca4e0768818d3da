"""The numbers of an evaluation in the terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence

from zhenlong.evaluate.results.result_files import Result


def results_table(results: Sequence[Result], *, full: bool = False) -> str:
    """The main measure of every scenario with its interval, one column a model, and the worst over perturbations.

    `full` lists every measure over all instances.
    """
    models = list(dict.fromkeys(one.model for one in results))
    rows: dict[tuple[str, ...], dict[str, Result]] = {}
    mains = {(one.scenario, one.measure) for one in results if one.main}
    for one in results:
        shown = full or ((one.scenario, one.measure) in mains and one.perturbation[:11] in ("", "worst_case/"))
        if shown and not one.group:
            name = one.scenario + (f", {one.perturbation}" if one.perturbation else "")
            rows.setdefault((name, str(one.shots), one.measure), {})[one.model] = one
    lines = [["scenario", "shots", "measure", "n", *models]]
    for key, found in rows.items():
        count = max(one.value.n for one in found.values())
        lines.append([*key, str(count), *(_cell(found.get(model)) for model in models)])
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def _cell(one: Result | None) -> str:
    if one is None:
        return "-"
    if math.isnan(one.value.mean):
        return "no value" + (f", {one.failed} failed" if one.failed else "")
    low, high = one.value.ci95
    interval = "" if math.isnan(low) else f" [{_short(low)}, {_short(high)}]"
    return f"{_short(one.value.mean)}{interval}" + (f", {one.failed} failed" if one.failed else "")


def _short(value: float) -> str:
    return f"{0.0 if abs(value) < 1e-12 else value:.3g}"
