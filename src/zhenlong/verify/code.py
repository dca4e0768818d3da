"""Does this program pass its tests? Run in the sandbox, judged outside of the program's own process.

HumanEval and MBPP: the tests run in a second process that calls the program's functions and gets plain values back.
LiveCodeBench and APPS: inputs go in, outputs come out, and are compared here. docs/evaluation/code.md has the rules.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from zhenlong.errors import UserError
from zhenlong.verify.code_answers import context_of, program_of
from zhenlong.verify.code_outputs import same_lines, same_lines_apps, same_value, same_value_apps, with_whole_keys
from zhenlong.verify.code_tests import PRELUDES, SECONDS, called_names, whole_tests
from zhenlong.verify.sandbox import Box, Limits
from zhenlong.verify.sandbox.inside.plain import encode, loads

OUTPUT: Final = 32 << 20  # bytes; the largest expected outputs of LiveCodeBench have some megabytes


@dataclass(frozen=True)
class Verdict:
    """How a program did. `reason` says why it failed; tests after the first that failed are not run."""

    passed: bool
    reason: str = ""
    tests: int = 1
    passed_tests: int = 0
    seconds: float = 0.0


def check_answer(
    answer: str, given: Mapping[str, Any], *, rules: Mapping[str, Any] | None = None, unsafe: bool = False
) -> Verdict:
    """Read the program out of an answer as the tests say, and run it against them (code_tests.py).

    `rules` stand where the tests do not say. Raises `UserError` as `check_code` does.
    """
    tests = whole_tests(given, rules)
    program = program_of(
        answer,
        str(tests.get("reading", "program")),
        prompt=str(tests.get("prompt", "")),
        entry_point=str(tests.get("entry_point", "")),
        stop=tests.get("stop", ()),
    )
    return _judged(program, tests, unsafe)


def check_code(program: str, given: Mapping[str, Any], *, unsafe: bool = False) -> Verdict:
    """Run a program against tests.

    Raises `UserError` for tests that are not whole, and where this machine cannot isolate a program and `unsafe` is not
    set. A program that does anything but pass is failed, whatever it did.
    """
    return _judged(program, whole_tests(given), unsafe)


def pass_at_k(n: int, c: int, k: int) -> float:
    """The chance that one of k answers passes, from n of which c pass: 1 - C(n-c, k) / C(n, k).

    As a product of ratios, which neither overflows nor cancels (Chen et al. 2021, section 2.1).
    """
    if not 0 <= c <= n or not 1 <= k <= n:
        raise ValueError(f"expected 0 <= c <= n and 1 <= k <= n, got n={n}, c={c}, k={k}")
    if n - c < k:
        return 1.0
    none = 1.0
    for i in range(n - c + 1, n + 1):
        none *= 1.0 - k / i
    return 1.0 - none


def _judged(program: str, tests: Mapping[str, Any], unsafe: bool) -> Verdict:
    limit = float(tests.get("seconds") or SECONDS[tests["kind"]])
    run = {"check": _check, "asserts": _asserts, "stdin": _stdin, "functional": _functional}[tests["kind"]]
    started = time.monotonic()
    try:
        verdict = run(program, tests, limit, unsafe)
    except OSError as error:
        raise UserError(f"sandbox: it failed to start ({error}); run the same again, or report it") from None
    return replace(verdict, seconds=time.monotonic() - started)


def _check(program: str, tests: Mapping[str, Any], seconds: float, unsafe: bool) -> Verdict:
    entry = str(tests["entry_point"])
    if not entry.isidentifier():
        raise UserError(f"code tests: entry_point: expected the name of a function, got {entry!r}")
    code = f"{tests['test']}\ncheck({entry})\n"
    return _beside(program, context_of(str(tests.get("prompt", ""))), (entry,), code, tests, seconds, unsafe)


def _asserts(program: str, tests: Mapping[str, Any], seconds: float, unsafe: bool) -> Verdict:
    given = tests["asserts"]
    code = "\n".join([given] if isinstance(given, str) else given)
    imports = "\n".join(tests.get("imports") or ())
    setup = str(tests.get("setup") or "")
    if tests.get("together"):
        with _box(program, "together", tests, seconds, unsafe) as box:
            return _verdict(box.ask({"tests": f"{imports}\n{setup}\n{code}"}), seconds)
    context = f"{imports}\n{setup}"
    try:
        names = called_names(code, context)
    except ValueError as error:
        raise UserError(f"code tests: asserts: {error}") from None
    return _beside(program, context, names, code, tests, seconds, unsafe)


def _beside(
    program: str, context: str, names: Sequence[str], code: str, tests: Mapping[str, Any], seconds: float, unsafe: bool
) -> Verdict:
    """Tests in a process beside the program's, which calls `names` there."""
    with _box(program, "check", tests, seconds, unsafe) as box:
        return _verdict(box.ask({"context": context, "names": list(names), "tests": code}), seconds)


def _verdict(said: Mapping[str, Any], seconds: float) -> Verdict:
    passed = bool(said["passed"]) and not said["reason"]
    return Verdict(passed, "" if passed else _why(said, seconds), 1, int(passed))


def _stdin(program: str, tests: Mapping[str, Any], seconds: float, unsafe: bool) -> Verdict:
    same = same_lines_apps if tests.get("compare") == "apps" else same_lines
    with _box(program, "run", tests, seconds, unsafe) as box:

        def one(given: Any, expected: Any) -> str:
            text, right = ("\n".join(map(str, v)) if isinstance(v, list) else str(v) for v in (given, expected))
            said = box.ask({"stdin": text})
            if said["reason"] or said["exit_code"] != 0:
                return _why(said, seconds)
            return "" if same(said["stdout"], right) else f"printed {_short(said['stdout'])}, expected {_short(right)}"

        return _each(tests, seconds, one)


def _functional(program: str, tests: Mapping[str, Any], seconds: float, unsafe: bool) -> Verdict:
    apps = tests.get("compare") == "apps"
    same = same_value_apps if apps else same_value
    owner = tests.get("class") or ("Solution" if "class Solution" in program else "")
    with _box(program, "serve", tests, seconds, unsafe) as box:
        ended: list[str] = []  # why the program runs no more: its other tests have failed as well

        def one(given: Any, expected: Any) -> str:
            if ended:
                return ended[0]
            if apps:
                given, expected = with_whole_keys(given, expected)
            call = {"name": tests["function"], "class": owner, "arguments": encode(list(given)), "keywords": encode({})}
            said = box.ask(call)
            answer = said["answer"]
            if "value" not in answer:
                why = _why({**said, "error": answer.get("error", ""), "stderr": ""}, seconds)
                ended.extend([why] if "exit_code" in said else [])
                return why
            try:
                value = loads(json.dumps(answer["value"]))
            except ValueError as error:
                return str(error)
            return "" if same(value, expected) else f"returned {_short(value)}, expected {_short(expected)}"

        return _each(tests, seconds, one)


def _each(tests: Mapping[str, Any], seconds: float, one: Any) -> Verdict:
    """All tests in order, up to the first that fails or all of them, within (seconds + 1) for each and 5 more."""
    count = len(tests["inputs"])
    deadline = time.monotonic() + (seconds + 1) * count + 5
    passed, reason = 0, ""
    for number, (given, expected) in enumerate(zip(tests["inputs"], tests["outputs"], strict=True), 1):
        why = one(given, expected) if time.monotonic() < deadline else "time limit of all tests"
        if not why:
            passed += 1
            continue
        reason = reason or f"test {number}: {why}"
        if not tests.get("all_tests"):
            break
    return Verdict(not reason, reason, count, passed)


def _box(program: str, mode: str, tests: Mapping[str, Any], seconds: float, unsafe: bool) -> Box:
    count = len(tests["inputs"]) if mode == "serve" else 1
    limits = Limits(
        seconds=seconds,
        cpu_seconds=int((seconds + 1) * count) + 5,  # of one process, which under `serve` answers all tests
        memory=int(tests.get("memory") or Limits.memory),
        output=OUTPUT,
    )
    prelude = PRELUDES[str(tests.get("prelude", ""))]
    return Box(
        f"{prelude}\n{program}" if prelude else program,
        mode,
        limits=limits,
        packages=tuple(tests.get("packages", ())),
        swallow_exit=True,
        unsafe=unsafe,
    )


def _why(said: Mapping[str, Any], seconds: float) -> str:
    if said.get("reason"):
        return f"{said['reason']} of {seconds:g} s" if said["reason"] == "time limit" else str(said["reason"])
    if said.get("error"):
        return str(said["error"])
    if said.get("signal"):
        return f"ended by {said['signal']}"
    lines = str(said.get("stderr", "")).strip().splitlines()
    return lines[-1][:300] if lines else f"exit code {said.get('exit_code')}"


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else repr(value)
    return repr(text if len(text) <= 80 else f"{text[:40]}...{text[-37:]}")
