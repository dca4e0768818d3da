"""The verdict on a value that a program returned: equality with the expected one, by LiveCodeBench's or APPS's rule.

It is made inside the sandbox, in a process with the program's limits (supervise.py): whatever the program sends, only
the verdict leaves.
"""

from __future__ import annotations

import json
from typing import Any

from .serialization import loads

MAX_SHOWN = 80  # characters of a value in a verdict


def judge_reply(reply: bytes, expected: str, compare: str) -> dict[str, Any]:
    """`{"equal": bool, "shown": the value in short}` for a program's reply, or `{"error": why there is no value}`.

    `expected` is the expected value as `serialization.dumps` writes it.
    """
    try:
        answer = json.loads(reply)
    except (ValueError, RecursionError):
        return {"error": "not a reply"}
    if not isinstance(answer, dict):
        return {"error": "not a reply"}
    if "value" not in answer:
        return {"error": str(answer.get("error", ""))[:MAX_SHOWN]}
    try:
        value = loads(json.dumps(answer["value"]))
    except (ValueError, RecursionError) as error:
        return {"error": f"not a value: {type(error).__name__}"}
    values_equal = value_equal_apps if compare == "apps" else value_equal
    return {"equal": values_equal(value, loads(expected)), "shown": shorten_value(value)}


def shorten_value(value: Any) -> str:
    """A value on at most 80 characters."""
    try:
        text = value if isinstance(value, str) else repr(value)
    except (ValueError, RecursionError):  # such as an integer of more than 4,300 digits
        text = f"<{type(value).__name__}>"
    return repr(text if len(text) <= MAX_SHOWN else f"{text[:40]}...{text[-37:]}")


def value_equal(output: Any, expected: Any) -> bool:
    """Whether a returned value is the expected one; a top-level tuple counts as a list.

    LiveCodeBench/LiveCodeBench:lcb_runner/evaluation/testing_util.py.
    """
    return _equal(list(output) if isinstance(output, tuple) else output, expected)


def value_equal_apps(output: Any, expected: Any) -> bool:
    """Whether a returned value is the expected one by APPS's rule: expected values may be wrapped in a list."""
    value = list(output) if isinstance(output, tuple) else output
    if _equal(value, expected):
        return True
    if not isinstance(expected, list) or not expected:
        return False
    if _equal(value, expected[0]):
        return True
    tuples = isinstance(value, list) and bool(value) and isinstance(value[0], tuple)
    return (
        tuples and all(isinstance(row, tuple | list) for row in value) and [list(row) for row in value] == expected[0]
    )


def _equal(value: Any, expected: Any) -> bool:
    try:
        return bool(value == expected)
    except (RecursionError, ArithmeticError, ValueError):  # ArithmeticError: a signalling NaN
        return False
