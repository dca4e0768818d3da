"""`zhenlong scenarios`: what there is to evaluate on."""

from __future__ import annotations

import json as json_format
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Final

from rich.table import Table

from zhenlong.errors import UserError
from zhenlong.evaluate.run.console import wide_console
from zhenlong.evaluate.run.suites import all_suites
from zhenlong.evaluate.scenarios.instances import RECORDED_PREFIX, USER_PROVIDED_PREFIX
from zhenlong.evaluate.scenarios.scenario import Scenario, all_scenarios

GENERATED_COUNT: Final = re.compile(r"generated:[^{}]*?[?&]n=(\d+)")


@dataclass(frozen=True)
class ScenarioSummary:
    """One scenario in a line: its data, its main measure, and what was verified."""

    name: str
    category: str
    title: str
    instances: int | None  # generated, or stated by its authors; None: not known before the data are read
    data: str  # where they come from
    main: str
    suites: tuple[str, ...]
    verified: str
    judge: bool = False  # whether a judge or recorded verdicts are needed


def scenarios(
    name: str = "", *, category: str = "", suite: str = "", attacks: bool = False, json: bool = False
) -> Sequence[ScenarioSummary]:
    """List the scenarios with their category, number of instances and what was verified.

    Args:
        name: A name, part of one, or a pattern such as helm_*; empty: all.
        category: Only this category: bias, code, helm, instructions, judged, knowledge, maths, safety, sentiment, tools
            or world.
        suite: Only scenarios that name this suite.
        attacks: List the companions of harmful requests under an attack, too.

    A number of instances is that of the generated rows, or the one that the authors state; rows come with the data.
    """
    every = [one for one in all_scenarios().values() if attacks or not one.base_scenario]
    categories = sorted({one.category for one in every})
    if category and category not in categories:
        raise UserError(f"category {category!r} is not known; expected one of {', '.join(categories)}")
    if suite and suite not in all_suites():
        near = get_close_matches(suite, all_suites(), 3) or list(all_suites())
        raise UserError(f"suite {suite!r} is not known; did you mean {', '.join(near)}?")
    fits = [one for one in every if _fits(one.name, name)]
    if not fits:
        near = get_close_matches(name, [one.name for one in every], 4) or [one.name for one in every][:4]
        raise UserError(f"scenario {name!r} is not known; did you mean {', '.join(near)}?")
    chosen = [one for one in fits if category in ("", one.category) and (not suite or suite in one.suites)]
    found = [_summary(one) for one in sorted(chosen, key=lambda one: (one.category, one.name))]
    if json:
        print(json_format.dumps([asdict(one) for one in found], indent=2, ensure_ascii=False))
    else:
        _print_table(found)
    return found


def _fits(name: str, wanted: str) -> bool:
    return fnmatchcase(name, wanted) if any(sign in wanted for sign in "*?[") else wanted.lower() in name


def _summary(one: Scenario) -> ScenarioSummary:
    generated = GENERATED_COUNT.match(one.source)
    return ScenarioSummary(
        name=one.name,
        category=one.category,
        title=one.title,
        instances=int(generated[1]) if generated else one.num_rows,
        data=_data(one.source),
        main=one.main,
        suites=one.suites,
        verified=" ".join(one.verified.split()),
        judge=one.judge,
    )


def _data(source: str) -> str:
    if source.startswith(USER_PROVIDED_PREFIX):
        return f"yours, with --data: {source.removeprefix(USER_PROVIDED_PREFIX).strip()}"
    if source.startswith(RECORDED_PREFIX):
        return f"only scored: {source.removeprefix(RECORDED_PREFIX).strip()}"
    return source


def _print_table(found: Sequence[ScenarioSummary]) -> None:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("scenario", "category"):
        table.add_column(column, no_wrap=True)
    table.add_column("n", justify="right", no_wrap=True)
    table.add_column("main measure", no_wrap=True)
    table.add_column("verified")
    for one in found:
        count = "?" if one.instances is None else f"{one.instances:,}"
        table.add_row(one.name, one.category, count, one.main, one.verified or "nothing stated")
    wide_console().print(table)
