"""Run untrusted programs: one, or many in parallel."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from zhenlong.verify.sandbox.limits import Limits, ProgramResult, ProgramSettings
from zhenlong.verify.sandbox.sandbox import Sandbox

JobT = TypeVar("JobT")
ResultT = TypeVar("ResultT")


def run_program(
    program: str,
    *,
    stdin: str = "",
    files: Mapping[str, str] | None = None,
    limits: Limits | None = None,
    packages: tuple[str, ...] = (),
    unsafe: bool = False,
) -> ProgramResult:
    """Run a Python program once and return its output and how it ended.

    `files` are written to its working folder, `packages` are importable. Raises `UserError` if this machine cannot
    isolate it and `unsafe` is not set.
    """
    settings = ProgramSettings(files or {}, packages)
    with Sandbox(program, limits=limits, settings=settings, unsafe=unsafe) as sandbox:
        report = sandbox.request({"stdin": stdin})
    return ProgramResult(**report)


def run_programs(
    programs: Iterable[str],
    *,
    stdin: str = "",
    limits: Limits | None = None,
    packages: tuple[str, ...] = (),
    unsafe: bool = False,
    workers: int | None = None,
) -> list[ProgramResult]:
    """`run_program` for each program, one per core in parallel; results in the programs' order."""
    return map_in_threads(
        lambda program: run_program(program, stdin=stdin, limits=limits, packages=packages, unsafe=unsafe),
        programs,
        workers,
    )


def map_in_threads(
    function: Callable[[JobT], ResultT], jobs: Iterable[JobT], workers: int | None = None
) -> list[ResultT]:
    """Call a function for each job in threads, which suffice because the work happens in other processes."""
    items = list(jobs)
    num_threads = min(workers or available_cores(), len(items))
    if num_threads < 2:
        return [function(row) for row in items]
    with ThreadPoolExecutor(num_threads) as pool:
        return list(pool.map(function, items))


def available_cores() -> int:
    """The number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
