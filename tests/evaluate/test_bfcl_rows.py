"""Rows of BFCL of any depth and without functions are read; those of other languages are refused; calls are bounded."""

from __future__ import annotations

import contextlib
import json

import pytest

from zhenlong.evaluate.scenarios.converters.tools import function_calls
from zhenlong.verify.tool_call_parsing import parse_tool_calls
from zhenlong.verify.tool_calls import check_tool_calls

QUESTION = [[{"role": "user", "content": "Where am I?"}]]


def function(**properties):
    return {"name": "locate", "parameters": {"type": "dict", "properties": properties, "required": list(properties)}}


def test_a_row_without_functions_is_read():
    instance = function_calls({"id": "live_irrelevance_1", "question": QUESTION, "function": []}, irrelevance=True)
    assert instance.data["functions"] == []
    assert check_tool_calls("There is no such function.", functions=[], ground_truth=[]) == 1.0
    assert check_tool_calls("[locate(x=1)]", functions=[], ground_truth=[]) == 0.0


@pytest.mark.parametrize(
    ("accepted", "value"),
    [
        ([{"place": [{"x": 10.5, "y": [1, {"z": 2}]}]}], {"place": {"x": 10.5, "y": [1, {"z": 2}]}}),
        ([{"place": {"x": 1}, "note": [""]}], {"place": {"x": 1}}),
        ([{"level": [{"level": [{"level": [[1]]}]}]}], {"level": {"level": [{"level": [[1]]}]}}),
    ],
)  # fmt: skip
def test_accepted_values_of_any_depth_give_the_reference_that_passes(accepted, value):
    row = {"id": "live_1", "question": QUESTION, "function": [function(where={"type": "dict"})],
           "ground_truth": [{"locate": {"where": accepted}}]}  # fmt: skip
    instance = function_calls(row)
    assert instance.references[0].text == f"[locate(where={value!r})]"
    data = {name: instance.data[name] for name in ("functions", "ground_truth")}
    assert check_tool_calls(instance.references[0].text, **data) == 1.0
    assert check_tool_calls("[locate(where={'place': 3})]", **data) == 0.0


@pytest.mark.parametrize(
    ("id_", "kind"),
    [("simple_java_3", "string"), ("javascript_0", "string"), ("x", "HashMap"), ("x", "String"), ("x", "long")],
)
def test_rows_of_java_and_javascript_are_refused(id_, kind):
    row = {"id": id_, "question": QUESTION, "function": [function(x={"type": kind})], "ground_truth": []}
    with pytest.raises(ValueError, match="Java or JavaScript"):
        function_calls(row)


DEEP = 990
HOSTILE = [
    "[locate(x=" + "[" * DEEP + "]" * DEEP + ")]",
    json.dumps({"name": "locate", "arguments": {"x": "DEEP"}}).replace('"DEEP"', "[" * DEEP + "]" * DEEP),
    "[locate(x=" + "-" * 100_000 + "1)]",
    "[locate(x=" + "9" * 5000 + ")]",
    '{"name": "locate", "arguments": {"x": ' + "9" * 5000 + "}}",
    "[locate(x=999999999**60)]",
    "[locate(x=" + "999999999**33*" * 1 + "1.5)]",
    "[locate(x='\ud83d')]",
    "[" + "locate(x=1)," * 100_000 + "]",
    "<tool_call>" * 10_000,
    "[locate(x=f(" * 500,
    "[locate(x={1:[]}[0])]",
]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
@pytest.mark.parametrize("kind", ["float", "dict", "array", "string"])
def test_hostile_calls_are_wrong_and_raise_nothing(text, kind):
    truth = [{"locate": {"x": [{"y": [1]}] if kind == "dict" else [[1]] if kind == "array" else [1.5]}}]
    assert check_tool_calls(text, functions=[function(x={"type": kind})], ground_truth=truth) == 0.0
    with contextlib.suppress(ValueError):  # and nothing else
        parse_tool_calls(text)
