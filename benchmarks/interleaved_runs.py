"""Two interleaved training runs in two processes: one waits between two of its steps while the other works.

A temporary slow-down of the machine then affects both sides alike, and each side starts and warms up once. Each side's
process has a `StepClock`, which waits for the turns given by `run_interleaved` in the benchmark's process.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from importlib import import_module
from multiprocessing import get_context
from typing import Any, Final

import torch
from workload import WARM_UP, RunSpec

from zhenlong.loop.ledger import measure_matmul_rate

POLL_SECONDS: Final = 1.0  # interval in seconds of checks that a side is alive


class SideProcess:
    """One of the two sides, in its own persistent process, so that libraries are loaded once."""

    def __init__(self, name: str, module: str) -> None:
        self.name, self.module = name, module
        self._start_process()

    def train(self, *given: Any, function: str = "train") -> Any:
        """The outcome of a run without turns."""
        return self._submit(function, *given).result()

    def start(self, *given: Any) -> Future[Any]:
        """Start a run with turns, up to its first step."""
        run = self._submit("train", *given)
        self._wait_for_end_of_turn(run)
        return run

    def take_turn(self, run: Future[Any]) -> None:
        """Let the run do the steps of its next turn."""
        self._turn_granted.release()
        self._wait_for_end_of_turn(run)

    def finish(self, run: Future[Any]) -> Any:
        """Let a run finish after its last step; returns its outcome."""
        self._turn_granted.release()
        while not run.done():
            if self._turn_ended.acquire(timeout=POLL_SECONDS):
                raise RuntimeError(f"{self.name}: the run has steps left after its turns")
        return run.result()

    def abandon(self, run: Future[Any]) -> None:
        """Abort a run that may be waiting for a turn, so that the process is free for the next run."""
        self._aborted.set()
        self._turn_granted.release()
        run.exception()
        self._aborted.clear()
        for semaphore in (self._turn_granted, self._turn_ended):
            while semaphore.acquire(block=False):
                pass

    def peak_memory(self, *given: Any) -> Any:
        """Peak memory in a fresh process, unaffected by earlier runs."""
        with ProcessPoolExecutor(1, get_context("spawn")) as process:
            return process.submit(_call_by_name, self.module, "peak_memory", *given).result()

    def _start_process(self) -> None:
        context = get_context("spawn")
        self._turn_granted, self._turn_ended, self._aborted = (
            context.Semaphore(0),
            context.Semaphore(0),
            context.Event(),
        )
        places = self._turn_granted, self._turn_ended, self._aborted
        self._process = ProcessPoolExecutor(1, context, initializer=StepClock.attach, initargs=places)

    def _submit(self, function: str, *given: Any) -> Future[Any]:
        try:
            return self._process.submit(_call_by_name, self.module, function, *given)
        except BrokenProcessPool:  # killed by the last run, for example out of memory
            self._start_process()
            return self._process.submit(_call_by_name, self.module, function, *given)

    def _wait_for_end_of_turn(self, run: Future[Any]) -> None:
        while not self._turn_ended.acquire(timeout=POLL_SECONDS):
            if run.done():
                run.result()
                raise RuntimeError(f"{self.name}: the run ended before its turns did")


def run_interleaved(
    sides: tuple[SideProcess, SideProcess], runs: tuple[tuple[Any, ...], tuple[Any, ...]], num_turns: int
) -> list[Any]:
    """The outcomes of two runs that warm up one after the other and then alternate `turns` turns: A B, B A, A B, ..."""
    started: list[tuple[SideProcess, Future[Any]]] = []
    try:
        for side, given in zip(sides, runs, strict=True):
            started.append((side, side.start(*given)))
        for turn in range(1 + num_turns):
            for side, run in started if turn % 2 == 0 else reversed(started):
                side.take_turn(run)
        return [side.finish(run) for side, run in started]
    except BaseException:
        for side, run in started:
            side.abandon(run)
        raise


class StepClock:
    """Times the steps of a run, and waits for this side's turn before the first step of a turn.

    The first turn is the warm-up; every other one has `spec.turn` steps (0: a run without turns). `seconds` holds the
    time of each finished step, without waiting. `rates` holds the first step of each turn and the matmul rate at that
    moment, in FLOP/s.
    """

    _signals: tuple[Any, Any, Any] | None = None

    @classmethod
    def attach(cls, *signals: Any) -> None:
        """Pass the synchronization objects to a side's process at its start."""
        cls._signals = signals

    def __init__(self, spec: RunSpec, dtype: torch.dtype) -> None:
        self.spec, self._dtype = spec, dtype
        self.seconds: list[float] = []
        self.matmul_rates: list[tuple[int, float]] = []
        self._step_start = 0.0

    def begin_step(self) -> None:
        """Start a step, as soon as it is this side's turn."""
        if self._at_turn_boundary:
            self._wait_for_turn()
            self.matmul_rates.append(
                (len(self.seconds), measure_matmul_rate(torch.device(self.spec.device), self._dtype))
            )
        self._step_start = time.perf_counter()

    def end_step(self) -> None:
        """End a step."""
        self.seconds.append(time.perf_counter() - self._step_start)
        if len(self.seconds) == self.spec.steps:
            self._wait_for_turn()

    def matmul_fraction(self, flops: Mapping[int, float]) -> float:
        """Fraction of the matmul rate reached by steps with these FLOPs: median over turns, without the warm-up."""
        ends = [*(step for step, _ in self.matmul_rates[1:]), len(self.seconds)]
        first = min(WARM_UP, len(self.seconds) - 1)
        shares = []
        for (begin, rate), end in zip(self.matmul_rates, ends, strict=True):
            if steps := range(max(begin, first), end):
                done, spent = sum(flops[step] for step in steps), sum(self.seconds[step] for step in steps)
                shares.append(done / spent / rate)
        return statistics.median(shares)

    @property
    def _at_turn_boundary(self) -> bool:
        """Whether the finished steps are complete turns, the first of which is the warm-up."""
        done, turn = len(self.seconds), self.spec.steps_per_turn
        return done == 0 or (turn > 0 and done >= WARM_UP and (done - WARM_UP) % turn == 0)

    def _wait_for_turn(self) -> None:
        if not self.spec.steps_per_turn:
            return
        assert self._signals is not None, "a run that takes turns is started by a Side"
        go, waits, over = self._signals
        waits.release()
        go.acquire()
        if over.is_set():
            raise RuntimeError("aborted, because the other side failed")


def _call_by_name(module: str, function: str, *given: Any) -> Any:
    return getattr(import_module(module), function)(*given)
