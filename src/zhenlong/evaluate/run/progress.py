"""How far an evaluation is: one bar for each model and scenario, on a terminal only."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

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
