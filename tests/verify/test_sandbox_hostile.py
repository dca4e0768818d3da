"""Hostile programs that try to escape, exhaust the machine, or forge a pass: each is contained and fails."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from verify.hostile.machine import ISOLATED
from verify.hostile.programs import EVERY, FORGERIES, RIGHT, Hostile

from zhenlong.errors import UserError
from zhenlong.verify.code import check_code
from zhenlong.verify.sandbox import Limits, Sandbox, map_in_threads

SECRET = "the-secret-of-the-canary"
TESTS = """# token-of-the-tests
def check(double):
    token = 'token-of-the-tests'
    assert double(21) == 42
    assert double(-3) == -6
check(double)
"""
TIGHT: dict[str, Any] = {"memory": 256 << 20, "disk": 8 << 20, "file_size": 4 << 20, "output": 1 << 20}


class Surroundings:
    """Targets of the programs on this machine: a secret file, a port, a socket, a process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.canary = folder / "canary"
        self.canary.write_text(SECRET)
        self.knocks: list[str] = []
        self.port = socket.create_server(("127.0.0.1", 0))
        self.abstract = f"\0zhenlong-{os.getpid()}"
        self.local = socket.socket(socket.AF_UNIX)
        self.local.bind(self.abstract)
        self.local.listen()
        for server in (self.port, self.local):
            threading.Thread(target=self._listen, args=(server,), daemon=True).start()
        self.victim = subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE)

    def filled(self, hostile: Hostile) -> str:
        known = {"canary": str(self.canary), "folder": str(self.folder), "home": str(Path.home())}
        known |= {"abstract": self.abstract, "port": self.port.getsockname()[1], "victim": self.victim.pid}
        return hostile.code.format(**known)

    def untouched(self) -> bool:
        there = sorted(one.name for one in self.folder.iterdir()) == ["canary"]
        return there and self.canary.read_text() == SECRET and self.victim.poll() is None and not self.knocks

    def close(self) -> None:
        self.victim.communicate(b"\n")
        self.port.close()
        self.local.close()

    def _listen(self, server: socket.socket) -> None:
        try:
            while True:
                self.knocks.append(str(server.accept()))
        except OSError:
            return


def beside(code: str, hostile: Hostile) -> dict[str, Any]:
    """The report on a program with its tests in a separate process."""
    limits = Limits(seconds=hostile.seconds, fork=hostile.fork, processes=24, **TIGHT)
    with Sandbox(code, "check", limits=limits) as box:
        return box.request({"context": "", "names": ["double"], "tests": TESTS})


@pytest.fixture(scope="module")
def around(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Surroundings]:
    os.environ["ZHENLONG_CANARY"] = SECRET
    found = Surroundings(tmp_path_factory.mktemp("home"))
    found.children_before = children()  # such as the process that checks mathematics
    yield found
    found.close()
    del os.environ["ZHENLONG_CANARY"]


@pytest.fixture(scope="module")
def reports(around: Surroundings) -> dict[str, dict[str, Any]]:
    """The report of every program, run as a solution, several in parallel."""
    found = map_in_threads(lambda one: beside(around.filled(one), one), EVERY)
    return {one.name: report for one, report in zip(EVERY, found, strict=True)}


def test_there_are_many_and_each_has_its_name() -> None:
    assert len({one.name for one in EVERY}) == len(EVERY) >= 25


@pytest.mark.skipif(not ISOLATED, reason="this machine isolates no programs")
@pytest.mark.parametrize("hostile", EVERY, ids=lambda one: one.name)
def test_a_hostile_program_is_contained_and_fails(
    hostile: Hostile, reports: dict[str, dict[str, Any]], around: Surroundings
) -> None:
    report = reports[hostile.name]
    assert not report["passed"]
    assert SECRET not in report["stdout"] + report["stderr"] + report["error"]
    assert around.untouched()


@pytest.mark.skipif(not ISOLATED, reason="this machine isolates no programs")
def test_afterwards_the_next_program_runs_and_no_process_or_file_is_left(
    reports: dict[str, dict[str, Any]], around: Surroundings
) -> None:
    assert len(reports) == len(EVERY)
    assert beside(RIGHT, Hostile("right", RIGHT, seconds=5))["passed"]
    assert children() <= around.children_before | {around.victim.pid}


def children() -> set[int]:
    """The processes that descend from this one."""
    parents = {}
    for one in Path("/proc").iterdir():
        if one.name.isdigit():
            try:
                parents[int(one.name)] = int((one / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
    found = {os.getpid()}
    while new := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= new
    return found - {os.getpid()}


@pytest.mark.skipif(ISOLATED, reason="this machine isolates programs")
def test_without_isolation_hostile_programs_are_not_run() -> None:
    with pytest.raises(UserError, match="cannot isolate a program"):
        check_code(RIGHT, {"kind": "check", "entry_point": "double", "test": TESTS})


@pytest.mark.parametrize("hostile", FORGERIES[::4], ids=lambda one: one.name)
def test_a_forgery_fails_without_isolation_too(hostile: Hostile) -> None:
    code = hostile.code.format()
    tests = {"inputs": [[21], [-3]], "outputs": [42, -6], "function": "double", "seconds": hostile.seconds}
    assert not check_code(code, tests, unsafe=True).passed
