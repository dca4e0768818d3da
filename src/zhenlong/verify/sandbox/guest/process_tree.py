"""Kill all processes that a program has started."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any


def kill_all(isolation: str, program_pid: int = 0, on_reap: Callable[[int, int, Any], None] | None = None) -> None:
    """Kill all other processes of the sandbox and wait for them to end.

    PID 1 of a process namespace can signal all of them at once. Otherwise they are this process's descendants: it is
    their subreaper, so orphans are found as its children.
    """
    while True:
        if isolation == "unsafe":
            _kill_descendants(program_pid)
        else:
            _kill(-1)
        try:
            pid, status, usage = os.wait4(-1, 0)
        except ChildProcessError:
            return
        if on_reap is not None:
            on_reap(pid, status, usage)


def _kill_descendants(program_pid: int) -> None:
    if program_pid:
        _kill(-program_pid)  # its process group, if there is no /proc
        _kill(program_pid)
    found = {os.getpid()}
    parents = dict(_parent_pids())
    while new := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= new
    for pid in found - {os.getpid()}:
        _kill(pid)


def _parent_pids() -> list[tuple[int, int]]:
    rows = []
    for name in os.listdir("/proc") if os.path.isdir("/proc") else []:
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", encoding="utf-8", errors="replace") as file:
                    rows.append((int(name), int(file.read().rpartition(")")[2].split()[1])))
            except OSError:
                continue
    return rows


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return
