"""Run a program against its tests in the sandbox; the verdict is made outside the program's own process.

HumanEval and MBPP: the tests run in a second process that calls the program's functions and receives plain values.
LiveCodeBench and APPS: the program gets inputs; what it prints is compared here, and what it returns in a process
of the sandbox beside the program. Rules: docs/evaluation/code.md.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from zhenlong.errors import UserError
from zhenlong.verify.code_extraction import executable_prompt, extract_program
from zhenlong.verify.code_output_equality import (
    restore_integer_keys,
    stdout_equal,
    stdout_equal_apps,
)
from zhenlong.verify.code_tests import DEFAULT_SECONDS, PRELUDES, normalize_tests, required_functions
from zhenlong.verify.sandbox import Limits, ProgramSettings, Sandbox
from zhenlong.verify.sandbox.guest.serialization import dumps, encode
from zhenlong.verify.sandbox.guest.value_equality import shorten_value

MAX_OUTPUT_BYTES: Final = 32 << 20  # bytes; LiveCodeBench's largest expected outputs are a few megabytes


@dataclass(frozen=True)
class CodeTestResult:
    """The result of a program's tests. `reason` says why it failed; tests after the first failure are not run."""

    passed: bool
    reason: str = ""
    num_tests: int = 1
    num_passed: int = 0
    seconds: float = 0.0


class SandboxFailed(RuntimeError):
    """A program's sandbox came to nothing: no verdict on the program, which counts as failed."""


@dataclass(frozen=True)
class _RunSettings:
    """How a program is run against its (normalised) tests."""

    tests: Mapping[str, Any]
    seconds: float
    unsafe: bool


def check_code_response(
    response: str, raw_tests: Mapping[str, Any], *, rules: Mapping[str, Any] | None = None, unsafe: bool = False
) -> CodeTestResult:
    """Extract the program from a response by the tests' extraction mode, and run it against them (code_tests.py).

    `rules` are defaults for keys that the tests lack. Raises `UserError` as `check_code` does.
    """
    tests = normalize_tests(raw_tests, rules)
    program = extract_program(
        response,
        str(tests.get("extraction", "program")),
        prompt=str(tests.get("prompt", "")),
        entry_point=str(tests.get("entry_point", "")),
        stop=tests.get("stop", ()),
    )
    return _run_tests(program, tests, unsafe)


def check_code(program: str, raw_tests: Mapping[str, Any], *, unsafe: bool = False) -> CodeTestResult:
    """Run a program against tests.

    Raises `UserError` for incomplete tests, and if this machine cannot isolate a program and `unsafe` is not set, and
    `SandboxFailed` where only this program's sandbox fails. Any program that does not pass has failed, whatever it did.
    """
    return _run_tests(program, normalize_tests(raw_tests), unsafe)


def pass_at_k(n: int, c: int, k: int) -> float:
    """The probability that one of k samples passes, estimated from n samples of which c pass: 1 - C(n-c, k) / C(n, k).

    Computed as a product of ratios, without overflow or cancellation (Chen et al. 2021, section 2.1).
    """
    if not 0 <= c <= n or not 1 <= k <= n:
        raise ValueError(f"expected 0 <= c <= n and 1 <= k <= n, got n={n}, c={c}, k={k}")
    if n - c < k:
        return 1.0
    all_fail = 1.0
    for i in range(n - c + 1, n + 1):
        all_fail *= 1.0 - k / i
    return 1.0 - all_fail


def _run_tests(program: str, tests: Mapping[str, Any], unsafe: bool) -> CodeTestResult:
    seconds = float(tests.get("seconds") or DEFAULT_SECONDS[tests["kind"]])
    run = {"check": _run_check, "asserts": _run_asserts, "stdin": _run_stdin, "functional": _run_functional}[
        tests["kind"]
    ]
    started = time.monotonic()
    try:
        result = run(program, _RunSettings(tests, seconds, unsafe))
    except OSError as error:
        raise SandboxFailed(f"the sandbox of this program failed ({error})") from None
    return replace(result, seconds=time.monotonic() - started)


def _run_check(program: str, settings: _RunSettings) -> CodeTestResult:
    tests = settings.tests
    entry_point = str(tests["entry_point"])
    if not entry_point.isidentifier():
        raise UserError(f"code tests: entry_point: expected the name of a function, got {entry_point!r}")
    code = f"{tests['test']}\ncheck({entry_point})\n"
    return _run_in_separate_process(
        program, executable_prompt(str(tests.get("prompt", ""))), (entry_point,), code, settings
    )


def _run_asserts(program: str, settings: _RunSettings) -> CodeTestResult:
    tests = settings.tests
    given = tests["asserts"]
    code = "\n".join([given] if isinstance(given, str) else given)
    imports = "\n".join(tests.get("imports") or ())
    setup = str(tests.get("setup") or "")
    if tests.get("same_process"):
        with _open_sandbox(program, "same_process", settings) as sandbox:
            return _to_result(sandbox.request({"tests": f"{imports}\n{setup}\n{code}"}), settings.seconds)
    context = f"{imports}\n{setup}"
    try:
        names = required_functions(code, context)
    except ValueError as error:
        raise UserError(f"code tests: asserts: {error}") from None
    return _run_in_separate_process(program, context, names, code, settings)


def _run_in_separate_process(
    program: str, context: str, names: Sequence[str], code: str, settings: _RunSettings
) -> CodeTestResult:
    """Run the tests in a separate process, which calls the functions `names` in the program's process."""
    with _open_sandbox(program, "check", settings) as sandbox:
        return _to_result(sandbox.request({"context": context, "names": list(names), "tests": code}), settings.seconds)


def _to_result(report: Mapping[str, Any], seconds: float) -> CodeTestResult:
    passed = bool(report["passed"]) and not report["reason"]
    return CodeTestResult(passed, "" if passed else _failure_reason(report, seconds), 1, int(passed))


def _run_stdin(program: str, settings: _RunSettings) -> CodeTestResult:
    tests, seconds = settings.tests, settings.seconds
    outputs_equal = stdout_equal_apps if tests.get("compare") == "apps" else stdout_equal
    with _open_sandbox(program, "run", settings) as sandbox:

        def run_case(given: Any, expected: Any) -> str:
            text, expected_text = ("\n".join(map(str, v)) if isinstance(v, list) else str(v) for v in (given, expected))
            report = sandbox.request({"stdin": text})
            if report["reason"] or report["exit_code"] != 0:
                return _failure_reason(report, seconds)
            return (
                ""
                if outputs_equal(report["stdout"], expected_text)
                else f"printed {shorten_value(report['stdout'])}, expected {shorten_value(expected_text)}"
            )

        return _run_cases(tests, seconds, run_case)


def _run_functional(program: str, settings: _RunSettings) -> CodeTestResult:
    tests, seconds = settings.tests, settings.seconds
    apps = tests.get("compare") == "apps"
    class_name = tests.get("class") or ("Solution" if "class Solution" in program else "")
    with _open_sandbox(program, "serve", settings) as sandbox:
        exit_reasons: list[str] = []  # why the program ended: its remaining tests fail too

        def run_case(given: Any, expected: Any) -> str:
            if exit_reasons:
                return exit_reasons[0]
            if apps:
                given, expected = restore_integer_keys(given, expected)
            call = {
                "name": tests["function"],
                "class": class_name,
                "arguments": encode(list(given)),
                "keywords": encode({}),
                "expected": dumps(expected),
                "compare": "apps" if apps else "lines",
            }
            report = sandbox.request(call)
            answer = report["answer"]
            if "equal" not in answer:
                reason = _failure_reason({**report, "error": answer.get("error", ""), "stderr": ""}, seconds)
                exit_reasons.extend([reason] if "exit_code" in report else [])
                return reason
            return "" if answer["equal"] else f"returned {answer['shown']}, expected {shorten_value(expected)}"

        return _run_cases(tests, seconds, run_case)


def _run_cases(tests: Mapping[str, Any], seconds: float, run_case: Any) -> CodeTestResult:
    """Run the tests in order, up to the first failure or all of them, within (seconds + 1) per test plus 5."""
    count = len(tests["inputs"])
    deadline = time.monotonic() + (seconds + 1) * count + 5
    passed, reason = 0, ""
    for number, (given, expected) in enumerate(zip(tests["inputs"], tests["outputs"], strict=True), 1):
        case_reason = run_case(given, expected) if time.monotonic() < deadline else "time limit of all tests"
        if not case_reason:
            passed += 1
            continue
        reason = reason or f"test {number}: {case_reason}"
        if not tests.get("all_tests"):
            break
    return CodeTestResult(not reason, reason, count, passed)


def _open_sandbox(program: str, mode: str, settings: _RunSettings) -> Sandbox:
    tests, seconds = settings.tests, settings.seconds
    count = len(tests["inputs"]) if mode == "serve" else 1
    limits = Limits(
        seconds=seconds,
        cpu_seconds=int((seconds + 1) * count) + 5,  # of one process, which in mode `serve` runs all tests
        memory=int(tests.get("memory") or Limits.memory),
        output=MAX_OUTPUT_BYTES,
    )
    prelude = PRELUDES[str(tests.get("prelude", ""))]
    return Sandbox(
        f"{prelude}\n{program}" if prelude else program,
        mode,
        limits=limits,
        settings=ProgramSettings(packages=tuple(tests.get("packages", ())), swallow_exit=True),
        unsafe=settings.unsafe,
    )


def _failure_reason(report: Mapping[str, Any], seconds: float) -> str:
    if report.get("reason"):
        return f"{report['reason']} of {seconds:g} s" if report["reason"] == "time limit" else str(report["reason"])
    if report.get("error"):
        return str(report["error"])
    if report.get("signal"):
        return f"ended by {report['signal']}"
    lines = str(report.get("stderr", "")).strip().splitlines()
    return lines[-1][:300] if lines else f"exit code {report.get('exit_code')}"
