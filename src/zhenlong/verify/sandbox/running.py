"""Run programs that nobody has read: one, or many at a time."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from zhenlong.verify.sandbox.box import Box
from zhenlong.verify.sandbox.limits import Limits, Result

Job = TypeVar("Job")
Found = TypeVar("Found")


def run(
    program: str,
    *,
    stdin: str = "",
    files: Mapping[str, str] | None = None,
    limits: Limits | None = None,
    packages: tuple[str, ...] = (),
    unsafe: bool = False,
) -> Result:
    """Run a Python program once and return what it printed and how it ended.

    `files` are put into its working folder, `packages` are importable. Raises `UserError` where this machine cannot
    isolate it and `unsafe` is not set.
    """
    with Box(program, limits=limits, files=files, packages=packages, unsafe=unsafe) as box:
        said = box.ask({"stdin": stdin})
    return Result(**said)


def run_all(
    programs: Iterable[str],
    *,
    stdin: str = "",
    limits: Limits | None = None,
    packages: tuple[str, ...] = (),
    unsafe: bool = False,
    workers: int | None = None,
) -> list[Result]:
    """`run` for each program, as many at a time as there are cores; the results in the programs' order."""
    return in_parallel(
        lambda program: run(program, stdin=stdin, limits=limits, packages=packages, unsafe=unsafe), programs, workers
    )


def in_parallel(work: Callable[[Job], Found], jobs: Iterable[Job], workers: int | None = None) -> list[Found]:
    """Call a function for each job in threads, which is enough where the work is in other processes."""
    rows = list(jobs)
    count = min(workers or cores(), len(rows))
    if count < 2:
        return [work(row) for row in rows]
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(work, rows))


def cores() -> int:
    """The processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
