"""Two training runs, in two processes, that go on in turn: one waits between two of its steps while the other works.

What slows the machine down for some seconds then meets both sides alike, and each side starts and warms up once.
A side's process has a `Pace`, which waits for the turns that `in_turn` gives in the benchmark's own process.
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

POLL_SECONDS: Final = 1.0  # seconds between two looks at whether a side is still alive


class SideProcess:
    """One of the two, in a process of its own that is kept, so that libraries are loaded once."""

    def __init__(self, name: str, module: str) -> None:
        self.name, self.module = name, module
        self._start_process()

    def train(self, *given: Any, function: str = "train") -> Any:
        """The outcome of a run that takes no turns."""
        return self._submit(function, *given).result()

    def start(self, *given: Any) -> Future[Any]:
        """Begin a run that takes turns, up to its first step."""
        run = self._submit("train", *given)
        self._wait_for_end_of_turn(run)
        return run

    def take_turn(self, run: Future[Any]) -> None:
        """Let the run make the steps of its next turn."""
        self._turn_granted.release()
        self._wait_for_end_of_turn(run)

    def finish(self, run: Future[Any]) -> Any:
        """Let a run whose steps are made end; its outcome."""
        self._turn_granted.release()
        while not run.done():
            if self._turn_ended.acquire(timeout=POLL_SECONDS):
                raise RuntimeError(f"{self.name}: the run has steps left after its turns")
        return run.result()

    def abandon(self, run: Future[Any]) -> None:
        """End a run that may wait for a turn, so that the process is free for the next one."""
        self._aborted.set()
        self._turn_granted.release()
        run.exception()
        self._aborted.clear()
        for semaphore in (self._turn_granted, self._turn_ended):
            while semaphore.acquire(block=False):
                pass

    def peak_memory(self, *given: Any) -> Any:
        """In a fresh process, whose peak is that of nothing else."""
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
        except BrokenProcessPool:  # the last run took it down, for want of memory, say
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
    """The outcomes of two runs that warm up in turn and then take `turns` turns: A B, B A, A B, ..."""
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
    """The clock of a run's steps, which waits for this side's turn before a step that begins one.

    The first turn is the warm-up; every other one has `work.turn` steps, 0 of them for a run that takes no turns.
    `seconds` has each step that ended, without the waiting. `rates` has the step at which each turn began, and the
    matmul rate of that moment, FLOP/s.
    """

    _signals: tuple[Any, Any, Any] | None = None

    @classmethod
    def attach(cls, *signals: Any) -> None:
        """What a side's process is told when it starts."""
        cls._signals = signals

    def __init__(self, spec: RunSpec, dtype: torch.dtype) -> None:
        self.spec, self._dtype = spec, dtype
        self.seconds: list[float] = []
        self.matmul_rates: list[tuple[int, float]] = []
        self._step_start = 0.0

    def begin_step(self) -> None:
        """A step begins now, or as soon as it is this side's turn."""
        if self._at_turn_boundary:
            self._wait_for_turn()
            self.matmul_rates.append(
                (len(self.seconds), measure_matmul_rate(torch.device(self.spec.device), self._dtype))
            )
        self._step_start = time.perf_counter()

    def end_step(self) -> None:
        """A step ended."""
        self.seconds.append(time.perf_counter() - self._step_start)
        if len(self.seconds) == self.spec.steps:
            self._wait_for_turn()

    def matmul_fraction(self, flops: Mapping[int, float]) -> float:
        """Of the matmul rate, what steps of so many FLOPs reached: the median over turns, without the warm-up."""
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
        """Whether the steps that ended are whole turns, the first of which is the warm-up."""
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
            raise RuntimeError("abandoned, for the other side failed")


def _call_by_name(module: str, function: str, *given: Any) -> Any:
    return getattr(import_module(module), function)(*given)
