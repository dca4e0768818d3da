"""Metrics of generated programs: pass@k, and the fractions of passing programs and of passing tests.

The tests are in the instance's `data` under `tests` (zhenlong/verify/code_tests.py). Options of all three: `rules`,
defaults for the keys of an instance's tests; `sandbox`, of which `none` runs programs without isolation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from zhenlong.errors import UserError
from zhenlong.evaluate.metrics.registry import Measure, instance_metric
from zhenlong.evaluate.results.outcome import Outcome
from zhenlong.verify.code import CodeTestResult, check_code_response, pass_at_k
from zhenlong.verify.code_extraction import extract_program
from zhenlong.verify.sandbox import map_in_threads


@instance_metric("pass_at_k", Measure("pass@*"), Measure("official_pass@*"))
def pass_at_k_metric(
    outcome: Outcome,
    *,
    k: int | Sequence[int] = (1,),
    rules: Mapping[str, Any] | None = None,
    sandbox: str = "auto",
    official: str = "",
) -> dict[str, float]:
    """The unbiased estimate of the probability that one of k samples passes, from all samples (Chen et al. 2021).

    `official` is the extraction of the benchmark's own code (verify/code_extraction.py), where it differs from the
    readable one: `official_pass@k` stands beside `pass@k`.
    """
    wanted = [k] if isinstance(k, int) else list(k)
    n = len(outcome.outputs)
    if not wanted or min(wanted) < 1:
        raise UserError(f"metric pass_at_k: k: expected whole numbers of 1 or more, got {wanted}")
    if n < max(wanted):
        raise UserError(
            f"metric pass_at_k: {outcome.instance.id} has {n} samples, k={max(wanted)} needs at least that many; set "
            "the adapter's n, or a smaller k"
        )
    verdicts = _verdicts(outcome, rules, sandbox)
    passed = sum(one.passed for one in verdicts)
    found = {f"pass@{one}": pass_at_k(n, passed, one) for one in wanted}
    if official:
        passed = sum(one.passed for one in _official_verdicts(outcome, official, verdicts, rules, sandbox))
        found |= {f"official_pass@{one}": pass_at_k(n, passed, one) for one in wanted}
    return found


@instance_metric("code_passes", Measure("code_passes"))
def code_passes(outcome: Outcome, *, rules: Mapping[str, Any] | None = None, sandbox: str = "auto") -> dict[str, float]:
    """The fraction of samples whose program passes all tests; with one sample, 1 or 0."""
    verdicts = _verdicts(outcome, rules, sandbox)
    return {"code_passes": sum(one.passed for one in verdicts) / len(verdicts)}


@instance_metric("tests_passed", Measure("tests_passed"))
def passed_tests(
    outcome: Outcome, *, rules: Mapping[str, Any] | None = None, sandbox: str = "auto"
) -> dict[str, float]:
    """The fraction of tests that pass, all of them run, averaged over samples (APPS: "test case average")."""
    verdicts = _verdicts(outcome, {**(rules or {}), "all_tests": True}, sandbox)
    return {"tests_passed": sum(one.num_passed / one.num_tests for one in verdicts) / len(verdicts)}


def _official_verdicts(
    outcome: Outcome,
    official: str,
    readable: Sequence[CodeTestResult],
    rules: Mapping[str, Any] | None,
    sandbox: str,
) -> list[CodeTestResult]:
    """One result per sample by the official extraction; where it gives the same program, that program's result."""
    tests = outcome.instance.data["tests"]
    texts = [one.text for one in outcome.answers]
    same = [extract_program(text, official) == extract_program(text, tests["extraction"]) for text in texts]
    if all(same):
        return list(readable)
    instance = replace(outcome.instance, data={**outcome.instance.data, "tests": {**tests, "extraction": official}})
    other = _verdicts(replace(outcome, instance=instance), rules, sandbox)
    return [mine if equal else theirs for mine, theirs, equal in zip(readable, other, same, strict=True)]


def _verdicts(outcome: Outcome, rules: Mapping[str, Any] | None, sandbox: str) -> list[CodeTestResult]:
    """One result per sample; equal programs run once, several in parallel."""
    tests = outcome.instance.data.get("tests")
    if not tests:
        raise UserError(f"instance {outcome.instance.id}: no tests; expected those of a programming problem")
    if not outcome.outputs:
        raise UserError(f"instance {outcome.instance.id}: no response to run")
    if sandbox not in ("auto", "none"):
        raise UserError(f"sandbox: expected auto or none, got {sandbox!r}")
    unsafe = sandbox == "none"
    answers = list(dict.fromkeys(one.text for one in outcome.answers))
    found = map_in_threads(lambda answer: check_code_response(answer, tests, rules=rules, unsafe=unsafe), answers)
    by_answer = dict(zip(answers, found, strict=True))
    return [by_answer[one.text] for one in outcome.answers]
