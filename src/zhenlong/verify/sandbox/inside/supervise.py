"""The trusted process inside: starts the program, holds it to its limits, and reports what came of it.

Commands come as lines of JSON on standard input, reports go as lines of JSON to standard output. The first line is the
job; what the others ask for depends on its mode:

run       {"stdin": text}                  run the program once
serve     {"name", "class", "arguments", "keywords"}   call one of its functions; the program stays loaded
check     {"context", "names", "tests"}    run tests beside it (check.py)
together  {"tests"}                        run tests in its own process
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from . import confine, enter
from .check import check
from .pump import Pump
from .tree import kill_all

START: Final = "import sys; sys.path.append({!r}); from inside.program import main; main()"
START_SECONDS: Final = 10.0  # for Python itself, on a busy machine
KEPT: Final = 1 << 16  # characters of output that a report on calls or tests keeps


def main() -> None:
    """Read the job, isolate, then answer commands until there are no more."""
    job = json.loads(sys.stdin.readline())
    confine.die_with_parent()
    if os.getppid() != job["parent"] and job["isolation"] != "bubblewrap":
        return  # whoever started this is gone already
    if job["isolation"] == "namespaces":
        try:
            enter.enter(job)
        except OSError as error:
            return _report({"refused": str(error)})
    else:
        confine.adopt_orphans()
    confine.hide_memory()
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    answer = _MODES[job["mode"]](job)
    _report({"ready": True})
    for line in sys.stdin:
        _report(answer(json.loads(line)))
    kill_all(job["isolation"])


def _runs(job: Mapping[str, Any]) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    def once(command: Mapping[str, Any]) -> dict[str, Any]:
        program = Program(job, "run", *(["swallow-exit"] if job["swallow_exit"] else []))
        program.pump.writes(program.stdin, command["stdin"].encode("utf-8", "surrogatepass"), close=True)
        reason = program.pump.until(program.over, program.deadline)
        return program.end(reason)

    return once


def _serves(job: Mapping[str, Any]) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    program = Program(job, "serve")
    state = {"loaded": False}

    def call(command: Mapping[str, Any]) -> dict[str, Any]:
        deadline = time.monotonic() + job["limits"]["seconds"]
        if not state["loaded"]:
            answer, reason = program.reply(program.deadline)
            if "loaded" not in answer:
                return program.end(reason, answer=answer)
            state["loaded"] = True
            deadline = max(deadline, time.monotonic() + job["limits"]["seconds"])
        program.pump.writes(program.requests, json.dumps(command).encode() + b"\n")
        answer, reason = program.reply(deadline)
        return program.end(reason, answer=answer) if reason else {"reason": "", "answer": answer}

    return call


def _checks(job: Mapping[str, Any]) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    def once(command: Mapping[str, Any]) -> dict[str, Any]:
        program = Program(job, "serve")
        read_end, write_end = os.pipe()
        tests = os.fork()
        if tests == 0:
            _tests_process(job, command, program, write_end)
        os.close(write_end)
        os.close(program.requests)
        os.close(program.replies)
        program.pump.reads(read_end)
        reason = program.pump.until(lambda: program.pump.ended(read_end), program.deadline)
        said = bytes(program.pump.received.pop(read_end))
        verdict = json.loads(said) if not reason and said.endswith(b"\n") else {"passed": False, "error": ""}
        return program.end(reason, **verdict)

    return once


def _tests_process(job: Mapping[str, Any], command: Mapping[str, Any], program: Program, verdict: int) -> None:
    """The tests in a process of their own, made by forking this one: nothing of it is untrusted but their text."""
    try:
        requests, replies, said = _moved([program.requests, program.replies, verdict])
        null = os.open(os.devnull, os.O_RDWR)
        for end in (0, 1, 2):
            os.dup2(null, end)
        os.closerange(3, requests)
        confine.confine(job, offset=1)
        found = check(command["context"], command["names"], command["tests"], requests, replies)
        os.write(said, json.dumps(found).encode() + b"\n")
    finally:
        os._exit(0)


def _together(job: Mapping[str, Any]) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    def once(command: Mapping[str, Any]) -> dict[str, Any]:
        program = Program(job, "serve")
        answer, reason = program.reply(program.deadline)
        if "loaded" in answer:
            nonce = os.urandom(16).hex()  # made after the program was loaded: it cannot have said it already
            request = json.dumps({"tests": command["tests"], "nonce": nonce})
            program.pump.writes(program.requests, request.encode() + b"\n")
            answer, reason = program.reply(program.deadline)
            passed = not reason and answer.get("nonce") == nonce
        else:
            passed = False
        error = f"{answer.get('error', '')}: {answer.get('message', '')}" if "error" in answer else ""
        return program.end(reason, passed=passed, error=error[:500])

    return once


class Program:
    """One process that runs what is not trusted, with the pipes to it."""

    def __init__(self, job: Mapping[str, Any], mode: str, *options: str) -> None:
        self.job = job
        _fresh_folder(job)
        stdin, self.stdin = os.pipe()
        self.stdout, stdout = os.pipe()
        self.stderr, stderr = os.pipe()
        begun, started = os.pipe()
        ends = [stdin, stdout, stderr, started]
        self.pump = Pump(job["limits"]["output"])
        if mode == "serve":
            os.close(self.stdin)  # at its end from the start
            requests, self.requests = os.pipe()
            self.replies, replies = os.pipe()
            ends += [requests, replies]
        path = os.path.join(job["work"], "main.py")
        start = START.format(job["inside"])
        command = [job["python"], "-S", "-B", "-X", "utf8", "-c", start, mode, path, *options]
        self.pid = os.fork()
        if self.pid == 0:
            _become(job, command, ends)
        for end in ends:
            os.close(end)
        self.pump.reads(self.stdout)
        self.pump.reads(self.stderr)
        self.pump.reads(begun)
        self.pump.until(lambda: self.pump.ended(begun), time.monotonic() + START_SECONDS)
        self.started = time.monotonic()  # the interpreter is ready, the program's own code begins
        self.deadline = self.started + job["limits"]["seconds"]
        self.status: int | None = None
        self.usage: Any = None

    def over(self) -> bool:
        """Whether the process has ended."""
        if self.status is None:
            pid, status, usage = os.wait4(self.pid, os.WNOHANG)
            if pid:
                self.status, self.usage = status, usage
        return self.status is not None

    def reply(self, deadline: float) -> tuple[dict[str, Any], str]:
        """The next line that the program's process sends, and why there is none."""
        if self.replies not in self.pump.received:
            self.pump.reads(self.replies)
        lines: list[bytes] = []

        def done() -> bool:
            line = self.pump.line(self.replies)
            lines.extend([] if line is None else [line])
            return bool(lines) or self.pump.ended(self.replies)

        reason = self.pump.until(done, deadline)
        if not lines:
            return {}, reason or "ended early"
        try:
            answer = json.loads(lines[0])
        except (ValueError, RecursionError):
            return {}, "not an answer"
        return (answer, "") if isinstance(answer, dict) else ({}, "not an answer")

    def end(self, reason: str, **more: Any) -> dict[str, Any]:
        """Kill what is left of the program and say what is known of it."""
        seconds = time.monotonic() - self.started
        self.over()
        kill_all(self.job["isolation"], self.pid, self._reaped)
        code = 0 if self.status is None else os.waitstatus_to_exitcode(self.status)
        if not reason and code == -signal.SIGXCPU:
            reason = "cpu limit"
        limit = self.job["limits"]["output"] if self.job["mode"] == "run" else KEPT
        said = [bytes(self.pump.received[end][:limit]).decode("utf-8", "replace") for end in (self.stdout, self.stderr)]
        self.pump.close()
        return more | {
            "exit_code": code if code >= 0 else None,
            "signal": signal.Signals(-code).name if code < 0 else "",
            "reason": reason,
            "stdout": said[0],
            "stderr": said[1],
            "seconds": seconds,
            "cpu_seconds": self.usage.ru_utime + self.usage.ru_stime if self.usage else 0.0,
            "memory": self.usage.ru_maxrss * 1024 if self.usage else 0,
        }

    def _reaped(self, pid: int, status: int, usage: Any) -> None:
        if pid == self.pid:
            self.status, self.usage = status, usage


def _become(job: Mapping[str, Any], command: list[str], ends: list[int]) -> None:
    """Turn this forked process into the program's."""
    try:
        os.setsid()
        for number, end in enumerate(_moved(ends)):
            os.dup2(end, number)
        os.closerange(len(ends), 4096)
        os.chdir(job["work"])
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        confine.confine(job)
        os.execve(command[0], command, job["environment"])
    except BaseException as error:
        os.write(2, f"sandbox: {type(error).__name__}: {error}".encode())
    finally:
        os._exit(127)


def _moved(ends: list[int]) -> list[int]:
    """The same file descriptors under higher numbers, beyond all that are open."""
    import fcntl

    return [fcntl.fcntl(end, fcntl.F_DUPFD, 40) for end in ends]


def _fresh_folder(job: Mapping[str, Any]) -> None:
    """The program's folder as it is before each run: its own file and what it was given."""
    work = job["work"]
    if job["isolation"] == "namespaces":
        enter.fresh_work_folder(job)
    else:
        import shutil  # loads the compression libraries

        for entry in os.scandir(work):
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path, ignore_errors=True)
            else:
                os.unlink(entry.path)
    for name, text in {**job["files"], "main.py": job["program"]}.items():
        path = os.path.join(work, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8", errors="surrogatepass") as file:
            file.write(text)


def _report(row: Mapping[str, Any]) -> None:
    sys.stdout.write(json.dumps(row) + "\n")
    sys.stdout.flush()


_MODES: Final = {"run": _runs, "serve": _serves, "check": _checks, "together": _together}
