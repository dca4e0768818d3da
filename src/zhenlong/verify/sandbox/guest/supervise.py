"""The trusted process inside the sandbox: starts the program, enforces its limits, and reports the result.

Commands are lines of JSON on standard input, reports are lines of JSON on standard output. The first line is the job;
the meaning of the others depends on its mode:

run       {"stdin": text}                  run the program once
serve     {"name", "class", "arguments", "keywords"}   call one of its functions; the program stays loaded. With
          "expected" and "compare" the verdict on what it returned (value_equality.py)
check     {"context", "names", "tests"}    run tests in a separate process (run_tests.py)
same_process  {"tests"}                    run tests in its own process
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

from . import drop_privileges, namespaces
from .pipe_io import PipeIO
from .process_tree import kill_all
from .run_tests import run_tests
from .value_equality import judge_reply

START_PROGRAM: Final = "import sys; sys.path.append({!r}); from guest.program import start_program; start_program()"
START_SECONDS: Final = 10.0  # for starting Python on a busy machine
MAX_REPORT_BYTES: Final = 1 << 16  # characters of output in a report on calls or tests
MAX_ERROR: Final = 300  # characters of an error


def supervise() -> None:
    """Read the job, isolate, then process commands until end of input."""
    job = json.loads(sys.stdin.readline())
    drop_privileges.die_with_parent()
    if os.getppid() != job["parent"] and job["isolation"] != "bubblewrap":
        return  # the parent is already gone
    if job["isolation"] == "namespaces":
        try:
            namespaces.enter_namespaces(job)
        except OSError as error:
            return _send_report({"refused": str(error)})
    else:
        drop_privileges.adopt_orphans()
    drop_privileges.hide_memory()
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    handle = _MODES[job["mode"]](job)
    _send_report({"ready": True})
    for line in sys.stdin:
        _send_report(handle(json.loads(line)))
    kill_all(job["isolation"])


def _run_mode(job: Mapping[str, Any]) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    def once(command: Mapping[str, Any]) -> dict[str, Any]:
        program = Program(job, "run", *(["swallow-exit"] if job["swallow_exit"] else []))
        program.pipes.add_writer(program.stdin, command["stdin"].encode("utf-8", "surrogatepass"), close=True)
        reason = program.pipes.run_until(program.has_exited, program.deadline)
        return program.finish(reason)

    return once


def _serve_mode(job: Mapping[str, Any]) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    program = Program(job, "serve")
    state = {"loaded": False}

    def call(command: Mapping[str, Any]) -> dict[str, Any]:
        deadline = time.monotonic() + job["limits"]["seconds"]
        if not state["loaded"]:
            answer, reason = program.read_reply(program.deadline)
            if "loaded" not in answer:
                return program.finish(reason, answer=_error_of(answer))
            state["loaded"] = True
            deadline = max(deadline, time.monotonic() + job["limits"]["seconds"])
        request = {name: command[name] for name in ("name", "class", "arguments", "keywords")}
        program.pipes.add_writer(program.requests, json.dumps(request).encode() + b"\n")
        reply, reason = program.read_line(deadline)
        if not reason:
            verdict, reason = _run_confined(
                job, program, lambda: judge_reply(reply, command["expected"], command["compare"])
            )
            return {"reason": reason, "answer": verdict}
        return program.finish(reason, answer={})

    return call


def _error_of(answer: Mapping[str, Any]) -> dict[str, str]:
    return {"error": str(answer.get("error", ""))[:MAX_ERROR]}


def _run_confined(
    job: Mapping[str, Any], program: Program, function: Callable[[], dict[str, Any]]
) -> tuple[dict[str, Any], str]:
    """The result of a function that handles what a program sent, and why there is none.

    It runs in a fork of this process, under the program's limits and within its time for one call.
    """
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        _run_child(job, [write_end], function)
    os.close(write_end)
    program.pipes.add_reader(read_end)
    deadline = time.monotonic() + job["limits"]["seconds"]
    reason = program.pipes.run_until(lambda: program.pipes.is_closed(read_end), deadline)
    program.pipes.stop_reading(read_end)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    output = bytes(program.pipes.received.pop(read_end))
    if reason or not output.endswith(b"\n"):
        return {}, reason or "a value that exceeds the limits"
    found: dict[str, Any] = json.loads(output)
    return found, ""


def _run_child(job: Mapping[str, Any], fds: list[int], function: Callable[..., dict[str, Any]]) -> None:
    """In a fork of this process: call `function` with the pipes but the last, write its result into the last, end."""
    try:
        *own, result = _duplicate_fds(fds)
        null = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(null, fd)
        os.closerange(3, min([*own, result]))
        drop_privileges.drop_privileges(job, uid_offset=1)
        os.write(result, json.dumps(function(*own)).encode() + b"\n")
    finally:
        os._exit(0)


def _check_mode(job: Mapping[str, Any]) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    def once(command: Mapping[str, Any]) -> dict[str, Any]:
        program = Program(job, "serve")
        read_end, write_end = os.pipe()
        tests_pid = os.fork()
        if tests_pid == 0:  # only the text of the tests is trusted, not what the program returns
            tests = partial(run_tests, command["context"], command["names"], command["tests"])
            _run_child(job, [program.requests, program.replies, write_end], tests)
        os.close(write_end)
        os.close(program.requests)
        os.close(program.replies)
        program.pipes.add_reader(read_end)
        reason = program.pipes.run_until(lambda: program.pipes.is_closed(read_end), program.deadline)
        output = bytes(program.pipes.received.pop(read_end))
        verdict = json.loads(output) if not reason and output.endswith(b"\n") else {"passed": False, "error": ""}
        return program.finish(reason, **verdict)

    return once


def _same_process_mode(job: Mapping[str, Any]) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    def once(command: Mapping[str, Any]) -> dict[str, Any]:
        program = Program(job, "serve")
        answer, reason = program.read_reply(program.deadline)
        if "loaded" in answer:
            nonce = os.urandom(16).hex()  # created after the program was loaded: it cannot know it
            request = json.dumps({"tests": command["tests"], "nonce": nonce})
            program.pipes.add_writer(program.requests, request.encode() + b"\n")
            answer, reason = program.read_reply(program.deadline)
            passed = not reason and answer.get("nonce") == nonce
        else:
            passed = False
        error = f"{answer.get('error', '')}: {answer.get('message', '')}" if "error" in answer else ""
        return program.finish(reason, passed=passed, error=error[:500])

    return once


class Program:
    """One process that runs untrusted code, with the pipes to it."""

    def __init__(self, job: Mapping[str, Any], mode: str, *options: str) -> None:
        self.job = job
        _reset_work_folder(job)
        stdin, self.stdin = os.pipe()
        self.stdout, stdout = os.pipe()
        self.stderr, stderr = os.pipe()
        begun, started = os.pipe()
        child_fds = [stdin, stdout, stderr, started]
        self.pipes = PipeIO(job["limits"]["output"])
        if mode == "serve":
            os.close(self.stdin)  # empty input
            requests, self.requests = os.pipe()
            self.replies, replies = os.pipe()
            child_fds += [requests, replies]
        path = os.path.join(job["work"], "main.py")
        start = START_PROGRAM.format(job["guest_parent"])
        command = [job["python"], "-S", "-B", "-X", "utf8", "-c", start, mode, path, *options]
        self.pid = os.fork()
        if self.pid == 0:
            _exec_program(job, command, child_fds)
        for fd in child_fds:
            os.close(fd)
        self.pipes.add_reader(self.stdout)
        self.pipes.add_reader(self.stderr)
        self.pipes.add_reader(begun)
        self.pipes.run_until(lambda: self.pipes.is_closed(begun), time.monotonic() + START_SECONDS)
        self.started = time.monotonic()  # the interpreter is ready, the program's own code starts
        self.deadline = self.started + job["limits"]["seconds"]
        self.status: int | None = None
        self.usage: Any = None

    def has_exited(self) -> bool:
        """Whether the process has ended."""
        if self.status is None:
            pid, status, usage = os.wait4(self.pid, os.WNOHANG)
            if pid:
                self.status, self.usage = status, usage
        return self.status is not None

    def read_line(self, deadline: float) -> tuple[bytes, str]:
        """The next line from the program's process, or why there is none."""
        if self.replies not in self.pipes.received:
            self.pipes.add_reader(self.replies)
        lines: list[bytes] = []

        def done() -> bool:
            line = self.pipes.pop_line(self.replies)
            lines.extend([] if line is None else [line])
            return bool(lines) or self.pipes.is_closed(self.replies)

        reason = self.pipes.run_until(done, deadline)
        return (lines[0], "") if lines else (b"", reason or "ended early")

    def read_reply(self, deadline: float) -> tuple[dict[str, Any], str]:
        """The next reply, which is a short one, or why there is none."""
        line, reason = self.read_line(deadline)
        if reason:
            return {}, reason
        try:
            answer = json.loads(line) if len(line) <= MAX_REPORT_BYTES else None
        except (ValueError, RecursionError):
            answer = None
        return (answer, "") if isinstance(answer, dict) else ({}, "not a reply")

    def finish(self, reason: str, **more: Any) -> dict[str, Any]:
        """Kill all remaining processes of the program and return the report."""
        seconds = time.monotonic() - self.started
        self.has_exited()
        kill_all(self.job["isolation"], self.pid, self._on_reap)
        code = 0 if self.status is None else os.waitstatus_to_exitcode(self.status)
        if not reason and code == -signal.SIGXCPU:
            reason = "cpu limit"
        limit = self.job["limits"]["output"] if self.job["mode"] == "run" else MAX_REPORT_BYTES
        outputs = [
            bytes(self.pipes.received[end][:limit]).decode("utf-8", "replace") for end in (self.stdout, self.stderr)
        ]
        self.pipes.close()
        return more | {
            "exit_code": code if code >= 0 else None,
            "signal": signal.Signals(-code).name if code < 0 else "",
            "reason": reason,
            "stdout": outputs[0],
            "stderr": outputs[1],
            "seconds": seconds,
            "cpu_seconds": self.usage.ru_utime + self.usage.ru_stime if self.usage else 0.0,
            "memory": self.usage.ru_maxrss * 1024 if self.usage else 0,
        }

    def _on_reap(self, pid: int, status: int, usage: Any) -> None:
        if pid == self.pid:
            self.status, self.usage = status, usage


def _exec_program(job: Mapping[str, Any], command: list[str], fds: list[int]) -> None:
    """Replace this forked process by the program's."""
    try:
        os.setsid()
        for number, fd in enumerate(_duplicate_fds(fds)):
            os.dup2(fd, number)
        os.closerange(len(fds), 4096)
        os.chdir(job["work"])
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        drop_privileges.drop_privileges(job)
        os.execve(command[0], command, job["environment"])
    except BaseException as error:
        os.write(2, f"sandbox: {type(error).__name__}: {error}".encode())
    finally:
        os._exit(127)


def _duplicate_fds(fds: list[int]) -> list[int]:
    """Duplicate file descriptors to numbers above all open ones."""
    import fcntl

    return [fcntl.fcntl(end, fcntl.F_DUPFD, 40) for end in fds]


def _reset_work_folder(job: Mapping[str, Any]) -> None:
    """Reset the program's folder before a run: its own file and the given files."""
    work = job["work"]
    if job["isolation"] == "namespaces":
        namespaces.mount_work_folder(job)
    else:
        import shutil  # slow: loads the compression libraries

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


def _send_report(row: Mapping[str, Any]) -> None:
    sys.stdout.write(json.dumps(row) + "\n")
    sys.stdout.flush()


_MODES: Final = {"run": _run_mode, "serve": _serve_mode, "check": _check_mode, "same_process": _same_process_mode}
