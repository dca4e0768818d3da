"""Verification of a response by the verifier that its task names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from zhenlong.errors import UserError
from zhenlong.records import Task
from zhenlong.verify.answer_text import names_reasoning, strip_reasoning
from zhenlong.verify.code import check_code_response
from zhenlong.verify.code_tests import KEYS as CODE_TESTS
from zhenlong.verify.instructions import check_instructions
from zhenlong.verify.matching import check_exact, check_regex
from zhenlong.verify.math_verify_check import check_math
from zhenlong.verify.tool_calls import check_tool_calls
from zhenlong.world import gold_breakdown as check_world


def verify(task: Task, response: str) -> float:
    """The correctness of a response, from 0 to 1, by the task's own `verifier` and `arguments`.

    What is verified is the answer, without the reasoning trace; an unclosed trace leaves an empty answer. Only a
    regular expression that names the trace's tags, as a reward for the format does, sees the whole response.

    `math`, `exact` (normalize, accept), `regex` (pattern, full, ignore_case), `world` (seed), `instructions`
    (instruction_id_list, kwargs, loose, partial_credit: a row of IFEval), `tool_call` (functions, ground_truth: of
    BFCL), `code` (kind and the other keys of verify/code_tests.py, partial_credit: the fraction of tests that pass).
    Raises UserError for an unknown verifier or argument, and for a task that the verifier cannot use.
    """
    if task.verifier not in VERIFIERS:
        known = ", ".join(sorted(VERIFIERS))
        raise UserError(f"task: verifier {task.verifier!r} is not known; expected one of {known}")
    verifier, known_arguments = VERIFIERS[task.verifier]
    unknown = sorted(set(task.arguments) - set(known_arguments))
    if unknown:
        expected = ", ".join(known_arguments) or "none"
        raise UserError(f"task: verifier {task.verifier} has no argument {', '.join(unknown)}; expected {expected}")
    if task.verifier != "regex" or not names_reasoning(task.arguments.get("pattern")):
        response = strip_reasoning(response)
    return verifier(task, response, task.arguments)


def _verify_math(task: Task, response: str, arguments: Mapping[str, Any]) -> float:
    return check_math(response, task.reference)


def _verify_exact(task: Task, response: str, arguments: Mapping[str, Any]) -> float:
    if not task.reference and not arguments.get("accept"):
        raise UserError("task: verifier exact needs a reference to compare with, got none")
    return check_exact(response, task.reference, **arguments)


def _verify_regex(task: Task, response: str, arguments: Mapping[str, Any]) -> float:
    if "pattern" not in arguments:
        raise UserError("task: verifier regex needs arguments.pattern, the regular expression to look for")
    return check_regex(response, task.reference, **arguments)


def _verify_world(task: Task, response: str, arguments: Mapping[str, Any]) -> float:
    """1 for refusing a harmful request; otherwise for a correct (or fitting) answer in the requested format."""
    try:
        judged = check_world(task.prompt, response, **arguments)
    except ValueError as error:
        raise UserError(f"task: verifier world cannot verify it ({error})") from None
    if judged.harmful:
        return float(judged.refused)
    right = judged.appropriate if judged.correct is None else judged.correct
    if judged.refused or right is None:
        return 0.0
    return right if judged.format is None else right * judged.format


def _verify_instructions(task: Task, response: str, arguments: Mapping[str, Any]) -> float:
    if not arguments.get("instruction_id_list"):
        raise UserError("task: verifier instructions needs arguments.instruction_id_list, the kinds of instruction")
    return check_instructions(response, **arguments)


def _verify_tool_call(task: Task, response: str, arguments: Mapping[str, Any]) -> float:
    if set(arguments) != {"functions", "ground_truth"}:
        raise UserError("task: verifier tool_call needs arguments.functions and arguments.ground_truth, as in BFCL")
    return check_tool_calls(response, **arguments)


def _verify_code(task: Task, response: str, arguments: Mapping[str, Any]) -> float:
    """Always isolated: a data set cannot disable the sandbox, nor put the tests into the program's process."""
    if arguments.get("same_process"):
        raise UserError(
            "task: verifier code: same_process is refused, for a program in the process of its tests can forge a pass; "
            "rewrite the tests to call its functions only, or leave the task out"
        )
    tests = {name: value for name, value in arguments.items() if name != "partial_credit"}
    if not arguments.get("partial_credit"):
        return float(check_code_response(response, tests).passed)
    result = check_code_response(response, tests, rules={"all_tests": True})
    return result.num_passed / result.num_tests


Verifier = Callable[[Task, str, Mapping[str, Any]], float]
VERIFIERS: Final[dict[str, tuple[Verifier, tuple[str, ...]]]] = {
    "math": (_verify_math, ()),
    "code": (_verify_code, ("partial_credit", *CODE_TESTS)),
    "exact": (_verify_exact, ("normalize", "accept")),
    "regex": (_verify_regex, ("pattern", "full", "ignore_case")),
    "world": (_verify_world, ("seed",)),
    "instructions": (_verify_instructions, ("instruction_id_list", "kwargs", "loose", "partial_credit")),
    "tool_call": (_verify_tool_call, ("functions", "ground_truth")),
}
