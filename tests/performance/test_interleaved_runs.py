"""Two runs that alternate, each in its own process."""

import sys
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import pytest

BENCHMARKS = str(Path(__file__).resolve().parents[2] / "benchmarks")
RUN = """
import os
from pathlib import Path
import interleaved_runs

class Clock:
    now = 0.0
    def perf_counter(self):
        self.now += 1
        return self.now

def rate(device, dtype):
    clock.now += 10
    return 4.0

def waited(pace):
    wait(pace)
    clock.now += 100

clock, wait = Clock(), interleaved_runs.StepClock._wait_for_turn
interleaved_runs.time, interleaved_runs.measure_matmul_rate = clock, rate
interleaved_runs.StepClock._wait_for_turn = waited

def train(work, name):
    pace, log = interleaved_runs.StepClock(work, None), Path(work.folder)
    for step in range(work.steps):
        pace.begin_step()
        with log.open("a") as file:
            file.write(f"{name}{step} ")
        if name == "bad" and step == 3:
            raise ValueError("the third step")
        if name == "killed" and step == 3:
            os._exit(1)
        pace.end_step()
    with log.open("a") as file:
        file.write(f"{name}. ")
    return pace.seconds, pace.matmul_fraction({step: step + 1.0 for step in range(work.steps)}), pace.matmul_rates
"""


@pytest.fixture(scope="module")
def interleaved_runs(tmp_path_factory):
    """The module, importable in subprocesses too, with a `run_of_a_side` for them to run."""
    folder = tmp_path_factory.mktemp("side")
    (folder / "run_of_a_side.py").write_text(RUN)
    before = list(sys.path)
    sys.path[:0] = [str(folder), BENCHMARKS]
    try:
        import interleaved_runs

        yield interleaved_runs
    finally:
        sys.path[:] = before
        for name in ("interleaved_runs", "workload"):
            sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def sides(interleaved_runs):
    return interleaved_runs.SideProcess("a", "run_of_a_side"), interleaved_runs.SideProcess("b", "run_of_a_side")


def runs(log, names, steps=6, turn=2):
    from workload import RunSpec

    work = RunSpec("sft", str(log), steps, 1, 1, 0.1, "", steps_per_turn=turn)
    return tuple((work, name) for name in names)


def test_runs_alternate_and_never_run_at_the_same_time(interleaved_runs, sides, tmp_path):
    log = tmp_path / "log"
    interleaved_runs.run_interleaved(sides, runs(log, "ab"), num_turns=2)
    assert log.read_text() == "a0 a1 b0 b1 b2 b3 a2 a3 a4 a5 b4 b5 a. b. "


def test_waiting_and_rate_measurements_are_not_timed(interleaved_runs, sides, tmp_path):
    for seconds, share, rates in interleaved_runs.run_interleaved(sides, runs(tmp_path / "log", "ab"), num_turns=2):
        assert seconds == [1.0] * 6
        assert rates == [(0, 4.0), (2, 4.0), (4, 4.0)]
        assert share == ((3 + 4) / 2 / 4 + (5 + 6) / 2 / 4) / 2  # of the turns after the warm-up


def test_a_single_run_does_not_wait(sides, tmp_path):
    (given, _) = runs(tmp_path / "log", "ab", turn=0)
    seconds, share, rates = sides[0].train(*given)
    assert seconds == [1.0] * 6
    assert rates == [(0, 4.0)]  # measured before the warm-up only
    assert share == (3 + 4 + 5 + 6) / 4 / 4


@pytest.mark.parametrize(("given", "told"), [(1, "steps left"), (3, "ended before")])
def test_a_number_of_turns_that_does_not_fit_the_steps_is_refused(given, told, interleaved_runs, sides, tmp_path):
    with pytest.raises(RuntimeError, match=told):
        interleaved_runs.run_interleaved(sides, runs(tmp_path / "log", "ab"), num_turns=given)


@pytest.mark.parametrize(("name", "error"), [("bad", ValueError), ("killed", BrokenProcessPool)])
def test_a_failed_run_ends_the_other_and_both_sides_can_be_reused(name, error, interleaved_runs, sides, tmp_path):
    with pytest.raises(error):
        interleaved_runs.run_interleaved(sides, runs(tmp_path / "log", ("a", name)), num_turns=2)
    assert "a." not in (tmp_path / "log").read_text()
    found = interleaved_runs.run_interleaved(sides, runs(tmp_path / "again", "ab"), num_turns=2)
    assert [len(seconds) for seconds, _, _ in found] == [6, 6]
