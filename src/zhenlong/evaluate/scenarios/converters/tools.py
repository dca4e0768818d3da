"""Converter for BFCL: a question, the available functions, and the expected calls."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from zhenlong.evaluate.results.instance import Instance, Reference
from zhenlong.evaluate.scenarios.instances import converter

Fields = Mapping[str, Any]
SYSTEM: Final = (
    "You answer requests by calling functions. Below are the functions that you may call. Decide from the request "
    "which of them to call, once or several times, and with which arguments.\n"
    "If none of them serves the request, or the request lacks a value that a function requires, say so in words and "
    "call nothing.\n"
    "Otherwise answer with the calls alone, in the form\n"
    "[function_one(parameter_one=value_one, parameter_two=value_two), function_two(parameter=value)]\n"
    "and with no other text. Values are written as in Python 3.\n\n"
    "The functions, as JSON:\n{functions}"
)


@converter("function_calls")
def function_calls(fields: Fields, *, irrelevance: bool = False) -> Instance:
    """`question` (a list with one turn of messages), `function`, and `ground_truth` unless `irrelevance`.

    The functions go into a system message in front of the history. The references are BFCL's possible answers, which
    upstream stores in `possible_answer/`.
    """
    functions = _listed(fields, "function")
    turns = _listed(fields, "question")
    if len(turns) != 1 or not turns[0] or not all(isinstance(one, Mapping) for one in turns[0]):
        raise ValueError(f"question: expected one turn of messages, got {turns!r:.80}")
    *earlier, last = turns[0]
    truth: Sequence[Any] = () if irrelevance else _answers(fields)
    system = SYSTEM.format(functions=json.dumps(functions, indent=4, ensure_ascii=False))
    system += "".join("\n\n" + str(one["content"]) for one in earlier if one["role"] == "system")
    history = [{"role": "system", "content": system}, *(one for one in earlier if one["role"] != "system")]
    return Instance(
        "",
        str(last["content"]),
        (Reference(_format_calls(truth, functions)),),
        data={"history": history, "functions": functions, "ground_truth": truth},
    )


def _answers(fields: Fields) -> Sequence[Any]:
    if "ground_truth" not in fields:
        raise ValueError(
            "ground_truth: missing; expected it in the row, or in possible_answer/ next to the file of rows"
        )
    answers = _listed(fields, "ground_truth")
    named = {one["name"] for one in fields["function"]}
    for answer in answers:
        if not isinstance(answer, Mapping) or len(answer) != 1 or not set(answer) <= named:
            raise ValueError(f"ground_truth: expected calls of {', '.join(sorted(named))}, got {answer!r:.80}")
    return answers


def _format_calls(truth: Sequence[Mapping[str, Mapping[str, Any]]], functions: Sequence[Mapping[str, Any]]) -> str:
    """The calls in prompt mode, each argument with the first of its accepted values, without optional ones."""
    required = {one["name"]: one["parameters"].get("required", ()) for one in functions}
    calls = []
    for answer in truth:
        for name, arguments in answer.items():
            given = [key for key, accepted in arguments.items() if "" not in accepted or key in required[name]]
            calls.append(f"{name}({', '.join(f'{key}={_first(arguments[key])!r}' for key in given)})")
    return f"[{', '.join(calls)}]"


def _first(accepted: Sequence[Any]) -> Any:
    return _first_accepted(next((one for one in accepted if one != ""), ""))


def _first_accepted(value: Any) -> Any:
    """A value as passed: within a mapping each key has its own list of accepted values."""
    if isinstance(value, Mapping):
        return {key: _first(accepted) for key, accepted in value.items() if "" not in accepted}
    return [_first_accepted(one) for one in value] if isinstance(value, list) else value


def _listed(fields: Fields, name: str) -> list[Any]:
    value = fields[name]
    if not isinstance(value, list) or not value:
        raise ValueError(f"{name}: expected a non-empty list, got {value!r:.80}")
    return value
