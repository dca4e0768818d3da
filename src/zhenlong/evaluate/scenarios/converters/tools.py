"""Converter for BFCL: a question, the available functions, and the expected calls."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from zhenlong.data.field_parsing import Fields
from zhenlong.evaluate.results.instance import Instance, Reference
from zhenlong.evaluate.scenarios.instances import converter

FOREIGN_IDS: Final = re.compile(r"(?:^|_)java(?:script)?_\d")
FOREIGN_TYPES: Final = (  # of Java and JavaScript; the schemas of Python functions have JSON's, in lower case
    "String", "Boolean", "Array", "ArrayList", "HashMap", "Hashtable", "Queue", "Stack", "Bigint", "long", "short",
    "double", "char", "byte",
)  # fmt: skip
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

    The functions, of which there may be none, go into a system message in front of the history. The references are
    BFCL's possible answers, which upstream stores in `possible_answer/`. Rows of the Java and JavaScript files are
    refused: their answers are calls in these languages, which upstream parses and converts by rules of their own.
    """
    functions = _functions(fields)
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


def _functions(fields: Fields) -> list[Any]:
    functions = fields["function"]
    if not isinstance(functions, list) or not all(isinstance(one, Mapping) and "name" in one for one in functions):
        raise ValueError(f"function: expected a list of functions, got {functions!r:.80}")
    foreign = FOREIGN_IDS.search(str(fields.get("id", "")))
    schemas = [schema for one in functions for schema in (_parameters(one).get("properties") or {}).values()]
    if foreign or any(isinstance(one, Mapping) and one.get("type") in FOREIGN_TYPES for one in schemas):
        raise ValueError(
            "function: a row of BFCL's Java or JavaScript files; expected one whose answers are Python calls, such as "
            "BFCL_v4_simple_python.json"
        )
    return functions


def _parameters(function: Mapping[str, Any]) -> Mapping[str, Any]:
    given = function.get("parameters")
    return given if isinstance(given, Mapping) else {}


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
    required = {one["name"]: _parameters(one).get("required") or () for one in functions}
    calls = []
    for answer in truth:
        for name, arguments in answer.items():
            given = [key for key, accepted in arguments.items() if not _is_optional(accepted) or key in required[name]]
            calls.append(f"{name}({', '.join(f'{key}={_first(arguments[key])!r}' for key in given)})")
    return f"[{', '.join(calls)}]"


def _first(accepted: Any) -> Any:
    """The first accepted value, as passed. Within it a mapping has a list of accepted values for each key, which BFCL
    compares as they are: what lies deeper is plain.
    """
    value = _first_plain(accepted)
    if isinstance(value, list):
        return [_first_of_mapping(one) for one in value]
    return _first_of_mapping(value)


def _first_of_mapping(value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    return {key: _first_plain(accepted) for key, accepted in value.items() if not _is_optional(accepted)}


def _first_plain(accepted: Any) -> Any:
    if not isinstance(accepted, list):
        return accepted
    return next((one for one in accepted if one != ""), "")


def _is_optional(accepted: Any) -> bool:
    return isinstance(accepted, list) and "" in accepted


def _listed(fields: Fields, name: str) -> list[Any]:
    value = fields[name]
    if not isinstance(value, list) or not value:
        raise ValueError(f"{name}: expected a non-empty list, got {value!r:.80}")
    return value
