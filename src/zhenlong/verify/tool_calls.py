"""Are these the right tool calls? The AST checker of the Berkeley Function-Calling Leaderboard, for single turns.

ShishirPatil/gorilla: berkeley-function-call-leaderboard/bfcl_eval/eval_checker/ast_eval/ast_checker.py, BFCL v4.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from zhenlong.errors import UserError
from zhenlong.verify.thinking import without_thinking
from zhenlong.verify.tool_call_text import Call, decoded_calls
from zhenlong.verify.tool_call_values import argument_problem

Function = Mapping[str, Any]  # {"name", "parameters": {"properties": {parameter: its schema}, "required": [parameter]}}
Answer = Mapping[str, Mapping[str, Sequence[Any]]]  # {function: {parameter: the accepted values, "" if optional}}


def check_tool_calls(response: str, *, functions: Sequence[Function], ground_truth: Sequence[Answer]) -> float:
    """1.0 when a response calls the right tools with right arguments, else 0.0; see `tool_call_problem`."""
    return float(not tool_call_problem(response, functions, ground_truth))


def tool_call_problem(response: str, functions: Sequence[Function], ground_truth: Sequence[Answer]) -> str:
    """What is wrong with a response's tool calls; empty where they are right.

    As many calls as answers, in any order: each answer in turn takes the first call left that fits it. Without answers
    (irrelevance) a response is right when it calls nothing: it is no call at all, or an empty list. Raises UserError
    for an answer whose function is not described.
    """
    try:
        calls = decoded_calls(without_thinking(response))
    except ValueError as error:
        return f"no tool calls can be read: {error}" if ground_truth else ""
    if len(calls) != len(ground_truth):
        return f"expected {len(ground_truth)} calls, got {len(calls)}"
    left = list(calls)
    for answer in ground_truth:
        function = _described(functions, answer)
        problems = [_call_problem(call, function, next(iter(answer.values()))) for call in left]
        if "" not in problems:
            return "; ".join(problems)
        del left[problems.index("")]
    return ""


def _described(functions: Sequence[Function], answer: Answer) -> Function:
    name = next(iter(answer), "")
    found = next((one for one in functions if one.get("name") == name), None)
    if found is None or len(answer) != 1:
        known = ", ".join(str(one.get("name")) for one in functions)
        raise UserError(f"tool call: the answer calls {name!r}, which is not described; the functions are {known}")
    return found


def _call_problem(call: Call, function: Function, accepted: Mapping[str, Sequence[Any]]) -> str:
    name, parameters = function["name"], function.get("parameters") or {}
    if call.name != name and not (call.native and call.name == name.replace(".", "_")):
        return f"expected a call of {name}, got {call.name}"
    missing = [one for one in parameters.get("required") or () if one not in call.arguments]
    if missing:
        return f"{name}: parameter {missing[0]} is missing"
    properties = parameters.get("properties") or {}
    for given, value in call.arguments.items():
        if given not in properties or given not in accepted:
            return f"{name}: parameter {given} is not expected"
        problem = argument_problem(given, value, accepted[given], properties[given])
        if problem:
            return f"{name}: {problem}"
    left_out = [one for one, values in accepted.items() if one not in call.arguments and "" not in values]
    return f"{name}: parameter {left_out[0]} is missing" if left_out else ""
