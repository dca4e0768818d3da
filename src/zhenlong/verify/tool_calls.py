"""Correctness of tool calls: the AST checker of the Berkeley Function-Calling Leaderboard, for single turns.

ShishirPatil/gorilla: berkeley-function-call-leaderboard/bfcl_eval/eval_checker/ast_eval/ast_checker.py, BFCL v4.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from zhenlong.errors import UserError
from zhenlong.verify.answer_text import strip_reasoning
from zhenlong.verify.tool_call_arguments import argument_error
from zhenlong.verify.tool_call_parsing import ToolCall, parse_tool_calls

FunctionSchema = Mapping[
    str, Any
]  # {"name", "parameters": {"properties": {parameter: its schema}, "required": [parameter]}}
ExpectedCall = Mapping[str, Mapping[str, Sequence[Any]]]  # {function: {parameter: the accepted values, "" if optional}}


def check_tool_calls(
    response: str, *, functions: Sequence[FunctionSchema], ground_truth: Sequence[ExpectedCall]
) -> float:
    """1.0 if a response calls the right tools with the right arguments, else 0.0; see `tool_call_error`."""
    return float(not tool_call_error(response, functions, ground_truth))


def tool_call_error(response: str, functions: Sequence[FunctionSchema], ground_truth: Sequence[ExpectedCall]) -> str:
    """What is wrong with a response's tool calls; empty if they are right.

    There must be as many calls as expected ones, in any order: each expected call in turn takes the first remaining
    call that matches. Without expected calls (irrelevance) a response is right if it calls nothing: not parsable as
    calls, or an empty list. Raises UserError for an expected call of a function without a schema.
    """
    try:
        calls = parse_tool_calls(strip_reasoning(response))
    except ValueError as error:
        return f"no tool calls can be parsed: {error}" if ground_truth else ""
    if len(calls) != len(ground_truth):
        return f"expected {len(ground_truth)} calls, got {len(calls)}"
    unmatched = list(calls)
    for expected_call in ground_truth:
        schema = _find_schema(functions, expected_call)
        errors = [_guarded_call_error(call, schema, next(iter(expected_call.values()))) for call in unmatched]
        if "" not in errors:
            return "; ".join(errors)
        del unmatched[errors.index("")]
    return ""


def _find_schema(functions: Sequence[FunctionSchema], expected_call: ExpectedCall) -> FunctionSchema:
    name = next(iter(expected_call), "")
    found = next((one for one in functions if one.get("name") == name), None)
    if found is None or len(expected_call) != 1:
        known = ", ".join(str(one.get("name")) for one in functions)
        raise UserError(f"tool call: ground_truth calls {name!r}, which has no schema; the functions are {known}")
    return found


def _guarded_call_error(call: ToolCall, schema: FunctionSchema, accepted: Mapping[str, Sequence[Any]]) -> str:
    try:
        return _call_error(call, schema, accepted)
    except (RecursionError, ValueError) as error:  # nested deeply, or an integer of more digits than Python writes
        return f"{schema['name']}: a value that cannot be compared ({type(error).__name__})"


def _call_error(call: ToolCall, schema: FunctionSchema, accepted: Mapping[str, Sequence[Any]]) -> str:
    name, parameters = schema["name"], schema.get("parameters") or {}
    if call.name != name and not (call.native and call.name == name.replace(".", "_")):
        return f"expected a call of {name}, got {call.name}"
    missing = [one for one in parameters.get("required") or () if one not in call.arguments]
    if missing:
        return f"{name}: parameter {missing[0]} is missing"
    properties = parameters.get("properties") or {}
    for given, value in call.arguments.items():
        if given not in properties or given not in accepted:
            return f"{name}: parameter {given} is not expected"
        error = argument_error(given, value, accepted[given], properties[given])
        if error:
            return f"{name}: {error}"
    left_out = [one for one, values in accepted.items() if one not in call.arguments and "" not in values]
    return f"{name}: parameter {left_out[0]} is missing" if left_out else ""
