"""One sandbox for one program: start, send commands, close. Closing always removes processes and files."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from functools import cache
from pathlib import PurePosixPath
from types import TracebackType
from typing import Any, Final

from zhenlong.errors import UserError
from zhenlong.verify.sandbox.guest import call_server, supervise  # imported so that their bytecode is cached
from zhenlong.verify.sandbox.guest.supervise import MAX_REPORT_BYTES
from zhenlong.verify.sandbox.isolation_backends import (
    UNSAFE,
    Isolation,
    isolation_candidates,
    job_settings,
    launch_command,
    visible_paths,
)
from zhenlong.verify.sandbox.limits import Limits, ProgramSettings

GRACE_SECONDS: Final = 20.0  # seconds for the trusted process on a busy machine, beyond the program's own limit
MAX_ESCAPE: Final = 6  # characters of JSON for one of a program's output: \u0000

_PRELOADED: Final = (call_server, supervise)


class Sandbox:
    """A sandbox with a program in one of the modes `run`, `serve`, `check`, `same_process` (guest/supervise.py).

    In mode `run` the program restarts for each command; in mode `serve` it stays loaded between calls.
    """

    def __init__(
        self,
        program: str,
        mode: str = "run",
        *,
        limits: Limits | None = None,
        settings: ProgramSettings | None = None,
        unsafe: bool = False,
        isolation: Isolation | None = None,
    ) -> None:
        self.limits, settings = limits or Limits(), settings or ProgramSettings()
        chosen = isolation or (UNSAFE if unsafe else best_isolation())
        if chosen.kind == "unsafe" and self.limits.fork:
            raise UserError(
                "sandbox: fork needs isolation, for nothing else ends a fork bomb; leave out fork or unsafe"
            )
        program_settings = {
            "mode": mode,
            "program": program,
            "files": _validate_files(settings.files),
            "swallow_exit": settings.swallow_exit,
        }
        visible_paths(settings.packages)  # raises now if a package is missing
        self._folder = tempfile.mkdtemp(prefix="zhenlong-") if chosen.kind == "unsafe" else ""
        job = job_settings(chosen, self._folder, settings.packages) | program_settings | {"limits": asdict(self.limits)}
        self._received = bytearray()
        self._process = subprocess.Popen(
            launch_command(chosen, self.limits.disk, settings.packages),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={"PYTHONHASHSEED": "0"},
            cwd="/",
            start_new_session=True,
        )
        try:
            reply = self.request(job, GRACE_SECONDS)
            if "ready" not in reply:
                raise OSError(reply.get("refused", "no answer"))
        except BaseException:
            self.close()
            raise

    def request(self, command: Mapping[str, Any], seconds: float | None = None) -> dict[str, Any]:
        """Send a command and wait for its report. Raises `OSError` if the sandbox itself fails."""
        deadline = time.monotonic() + (self.limits.seconds * 2 + GRACE_SECONDS if seconds is None else seconds)
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(command).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # the reason is in its last output
        line = self._read_line(deadline)
        if line is None:
            raise OSError(self._error_message())
        try:
            report: dict[str, Any] = json.loads(line)
        except (ValueError, RecursionError):
            raise OSError("its report cannot be read") from None
        return report

    def close(self) -> None:
        """Kill all processes of the sandbox and remove its folder."""
        self._kill()
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            if stream is not None:
                try:
                    stream.close()
                except BrokenPipeError:
                    continue
        self._process.wait()
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _read_line(self, deadline: float) -> bytes | None:
        """The next line of its reports; None if there is none before the deadline."""
        assert self._process.stdout is not None
        fd = self._process.stdout.fileno()
        max_bytes = MAX_ESCAPE * self.limits.output + MAX_REPORT_BYTES
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        while (found := self._received.find(b"\n")) < 0:
            remaining = deadline - time.monotonic()
            if remaining <= 0 or not poll.poll(remaining * 1000):
                return None
            data = os.read(fd, 1 << 20)
            if not data:
                return None
            self._received += data
            if len(self._received) > max_bytes:
                raise OSError(f"its report exceeds {max_bytes} bytes")
        line = bytes(self._received[:found])
        del self._received[: found + 1]
        return line

    def _error_message(self) -> str:
        """The last line that the trusted process wrote before it ended."""
        self._kill()
        assert self._process.stderr is not None
        lines = self._process.stderr.read().decode("utf-8", "replace").strip().splitlines()
        return lines[-1] if lines else "it ended without an answer"

    def _kill(self) -> None:
        """Kill the group of the outermost process; the kernel then kills everything inside."""
        if self._process.poll() is None:
            if self._folder and self._process.stdin is not None:
                self._wait_for_exit()
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def _wait_for_exit(self) -> None:
        """Without a namespace the trusted process kills its descendants: give it time while it responds."""
        try:
            assert self._process.stdin is not None
            self._process.stdin.close()
            self._process.wait(GRACE_SECONDS)
        except (OSError, subprocess.TimeoutExpired):
            return


def best_isolation() -> Isolation:
    """The best isolation that works here. Raises `UserError` saying what was tried where none does."""
    found = _find_isolation()
    if isinstance(found, Isolation):
        return found
    raise UserError(
        f"sandbox: this machine cannot isolate a program ({found}); install bubblewrap or allow user namespaces, or "
        "set unsafe to run model-written code without isolation"
    )


@cache
def _find_isolation() -> Isolation | str:
    """The best isolation under which a program that multiplies two numbers runs, else what was tried."""
    tried = []
    for name, candidate in isolation_candidates():
        problem = probe(candidate) if candidate else "not installed"
        if not problem:
            assert candidate is not None
            return candidate
        tried.append(f"{name}: {problem}")
    return "; ".join(tried)


def probe(isolation: Isolation) -> str:
    """Why this isolation does not work here; empty if it does."""
    try:
        with Sandbox("print(6 * 7)", isolation=isolation) as sandbox:
            report = sandbox.request({"stdin": ""})
        return (
            "" if report["stdout"] == "42\n" else (report["stderr"].strip().splitlines() or ["it printed nothing"])[-1]
        )
    except OSError as error:
        return " ".join(str(error).split())


def _validate_files(files: Mapping[str, str]) -> dict[str, str]:
    for name in files:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or not path.parts or name == "main.py":
            raise UserError(f"sandbox: file {name!r}: expected a path within the working folder, other than main.py")
    return dict(files)
