"""An evaluation in the terminal: how far it is, warnings, and the table of its numbers."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from zhenlong.evaluate.results.number_format import format_short
from zhenlong.evaluate.results.result_files import METRIC_FAILED, WORST_CASE_PREFIX, InstanceRecord, Result
from zhenlong.evaluate.run.reading_shares import describe_shares
from zhenlong.inference.endpoint_address import ENDPOINT_PREFIX
from zhenlong.inference.model_client import ProgressCallback


@contextmanager
def progress_bars(shown: bool) -> Iterator[Progress | None]:
    """The bars, on standard error; None where it is no terminal or they are not wanted."""
    console = Console(stderr=True)
    if not (shown and console.is_terminal):
        yield None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, refresh_per_second=4) as progress:
        yield progress


def progress_callback(progress: Progress | None, label: str) -> ProgressCallback | None:
    """What to call as requests are answered."""
    if progress is None:
        return None
    task = progress.add_task(label, total=None)
    return lambda done, total: progress.update(task, completed=done, total=total)


def print_warning(line: str) -> None:
    """One line of warning, at once."""
    print(f"zhenlong: warning: {line}", file=sys.stderr, flush=True)


def print_note(line: str) -> None:
    """One line about what was read, on standard error."""
    print(f"zhenlong: {line}", file=sys.stderr, flush=True)


def unscored_notes(model: str, scenario: str, records: Sequence[InstanceRecord]) -> list[str]:
    """What metrics could not score: a line for each number of shots, with an example."""
    found = []
    for shots in sorted({one.shots for one in records}):
        own = [one for one in records if one.shots == shots]
        failed = [one for one in own if one.failed.startswith(METRIC_FAILED)]
        if failed:
            found.append(
                f"{model}, {scenario}, {shots}-shot: {len(failed)} of {len(own)} could not be scored and count as "
                f"failed (id {failed[0].id}: {failed[0].failed})"
            )
    return found


def cached_note(model: str, ledger: Mapping[str, Any], now: float) -> str:
    """How many of an endpoint's answers came from the cache, and how old the oldest is; empty for none of them."""
    if not (model.startswith(ENDPOINT_PREFIX) and ledger.get("from_cache")):
        return ""
    line = f"{model}: {ledger['from_cache']:,} of {ledger['requests']:,} answers are from the cache"
    oldest = ledger.get("oldest_cached")
    age = "" if oldest is None else f", the oldest {_age(max(0.0, now - oldest))} old"
    return f"{line}{age}; the model behind the endpoint may have changed since (--refresh asks again)"


def _age(seconds: float) -> str:
    for unit, size in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}{'s' * (round(seconds / size) != 1)}"
    return f"{seconds:.0f} s"


def wide_console() -> Console:
    """The terminal; output to a file or a pipe is wider than 80 columns."""
    screen = Console()
    return screen if screen.is_terminal else Console(width=120)


def results_table(results: Sequence[Result], *, full: bool = False) -> str:
    """The main measure of every scenario with its interval, one column a model, and the worst over perturbations.

    `full` lists every measure over all instances.
    """
    models = list(dict.fromkeys(one.model for one in results))
    rows: dict[tuple[str, ...], dict[str, Result]] = {}
    mains = {(one.scenario, one.measure) for one in results if one.main}
    for one in results:
        shown = full or (
            (one.scenario, one.measure) in mains
            and (not one.perturbation or one.perturbation.startswith(WORST_CASE_PREFIX))
        )
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
    failed = f", {one.failed} failed" if one.failed else ""
    unread = describe_shares({name: share for name, share in one.reading.items() if name != "failed"})
    rest = failed + (f", {unread}" if unread and one.main else "")
    if math.isnan(one.value.mean):
        return f"not observed{rest}"
    low, high = one.value.ci95
    interval = "" if math.isnan(low) else f" [{format_short(low)}, {format_short(high)}]"
    return f"{format_short(one.value.mean)}{interval}{rest}"
