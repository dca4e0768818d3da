"""Tool calls: parsing of text, and correctness by BFCL's rules."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zhenlong.errors import UserError
from zhenlong.records import Message, Task
from zhenlong.verify import verify
from zhenlong.verify.tool_call_parsing import ToolCall, parse_tool_calls
from zhenlong.verify.tool_calls import check_tool_calls, tool_call_error


def parameters(required: list[str], **types: str | dict) -> dict:
    schemas = {name: {"type": kind} if isinstance(kind, str) else kind for name, kind in types.items()}
    return {"type": "dict", "properties": schemas, "required": required}


BOOK = {
    "name": "hotel.book",
    "parameters": parameters(
        ["city", "nights"],
        city="string",
        nights="integer",
        price="float",
        breakfast="boolean",
        guests={"type": "array", "items": {"type": "string"}},
        spot={"type": "tuple", "items": {"type": "float"}},
        room="dict",
        beds={"type": "array", "items": {"type": "dict"}},
        rate="any",
    ),
}
CALL = {"name": "phone", "parameters": parameters(["who"], who="string")}
OPTIONAL = {
    "price": [80.0, ""],
    "breakfast": [True, ""],
    "guests": [["Ann Lee", "Bo"], ""],
    "spot": [[1.5, 2.0], ""],
    "room": [{"view": ["sea", "the sea"], "floor": [3, ""]}, ""],
    "beds": [[{"size": ["king"]}, {"size": ["twin"]}], ""],
    "rate": ["base_rate", ""],
}
ANSWER = {"hotel.book": {"city": ["New York", "NYC"], "nights": [2], **OPTIONAL}}


def right(text: str, answers: list | None = None, functions: list | None = None) -> bool:
    return not tool_call_error(text, functions or [BOOK, CALL], [ANSWER] if answers is None else answers)


@pytest.mark.parametrize(
    "arguments",
    [
        "city='NYC', nights=2",
        "nights=2, city='new-york.'",
        "city='NYC', nights=2, price=80, breakfast=True",
        "city='NYC', nights=2, price=160/2",
        "city='NYC', nights=2, guests=['ann lee', 'B.o']",
        "city='NYC', nights=2, spot=(1.5, 2.0)",
        "city='NYC', nights=2, spot=[1.5, 2.0]",
        "city='NYC', nights=2, room={'view': 'Sea'}",
        "city='NYC', nights=2, room={'floor': 3, 'view': 'the sea'}",
        "city='NYC', nights=2, beds=[{'size': 'King'}, {'size': 'twin'}]",
        "city='NYC', nights=2, rate=base_rate",
    ],
)
def test_accepted_arguments(arguments):
    assert right(f"[hotel.book({arguments})]")


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ("city='NYC'", "nights is missing"),
        ("city='Boston', nights=2", "'Boston' is not among"),
        ("city='NYC', nights=2.0", "expected integer"),
        ("city='NYC', nights='2'", "expected integer"),
        ("city='NYC', nights=True", "expected integer"),
        ("city='NYC', nights=3", "3 is not among"),
        ("city='NYC', nights=2, price=81", "81.0 is not among"),
        ("city='NYC', nights=2, breakfast=1", "expected boolean"),
        ("city='NYC', nights=2, guests=['Bo', 'Ann Lee']", "is not among"),
        ("city='NYC', nights=2, guests=('Ann Lee', 'Bo')", "expected array"),
        ("city='NYC', nights=2, guests='Bo'", "expected array"),
        ("city='NYC', nights=2, room={'floor': 3}", "is not among"),
        ("city='NYC', nights=2, room={'view': 'sea', 'size': 1}", "is not among"),
        ("city='NYC', nights=2, beds=[{'size': 'twin'}, {'size': 'king'}]", "is not among"),
        ("city='NYC', nights=2, beds=[{'size': 'king'}]", "is not among"),
        ("city='NYC', nights=2, colour='red'", "colour is not expected"),
    ],
)
def test_refused_arguments(arguments, problem):
    assert problem in tool_call_error(f"[hotel.book({arguments})]", [BOOK], [ANSWER])


def test_parameters_not_marked_as_optional_are_required():
    answer = {"hotel.book": {"city": ["NYC"], "nights": [2], "price": [80.0]}}
    assert not right("[hotel.book(city='NYC', nights=2)]", [answer])
    assert right("[hotel.book(city='NYC', nights=2, price=80)]", [answer])


def test_the_name_must_be_exact_but_for_dots_in_native_calls():
    assert not right("[Hotel.book(city='NYC', nights=2)]")
    assert not right("[hotel_book(city='NYC', nights=2)]")
    native = [{"type": "function", "function": {"name": "hotel_book", "arguments": '{"city": "NYC", "nights": 2}'}}]
    assert right(json.dumps({"content": None, "tool_calls": native}))
    assert right(json.dumps(native))


def test_parallel_calls_come_in_any_order_and_each_counts_once():
    answers = [{"phone": {"who": ["Ann"]}}, {"phone": {"who": ["Bo", "Ann"]}}]
    assert right("[phone(who='Ann'), phone(who='Bo')]", answers)
    assert right("[phone(who='Bo'), phone(who='Ann')]", answers)
    assert right("[phone(who='Ann'), phone(who='Ann')]", answers)
    assert not right("[phone(who='Bo'), phone(who='Bo')]", answers)
    assert not right("[phone(who='Ann')]", answers)
    assert not right("[phone(who='Ann'), phone(who='Bo'), phone(who='Bo')]", answers)


def test_matching_is_greedy_as_upstream():
    """The first answer takes the only call that fits the second: upstream does not look for another assignment."""
    answers = [{"phone": {"who": ["Ann", "Bo"]}}, {"phone": {"who": ["Ann"]}}]
    assert not right("[phone(who='Ann'), phone(who='Bo')]", answers)
    assert right("[phone(who='Bo'), phone(who='Ann')]", answers)


@pytest.mark.parametrize(
    "text", ["", "[]", "None of these functions helps.", "I can't: which city?", "hotel.book", "[1]"]
)
def test_calling_nothing_is_right_if_no_tool_applies_and_wrong_otherwise(text):
    assert right(text, [])
    assert not right(text)


def test_any_call_is_wrong_if_no_tool_applies():
    assert not right("[phone(who='Ann')]", [])
    assert not right("unknown()", [])


@pytest.mark.parametrize(
    "text",
    [
        "[f(a=1), g.h(b='x')]",
        "f(a=1), g.h(b='x')",
        "```\n[f(a=1), g.h(b='x')]\n```",
        '[{"name": "f", "arguments": {"a": 1}}, {"name": "g.h", "parameters": {"b": "x"}}]',
        '[{"f": {"a": 1}}, {"g.h": "{\\"b\\": \\"x\\"}"}]',
        'So:<tool_call>{"name": "f", "arguments": {"a": 1}}</tool_call>\n'
        '<tool_call>\n{"name": "g.h", "arguments": {"b": "x"}}\n</tool_call>',
    ],
)
def test_the_formats_of_a_call(text):
    assert parse_tool_calls(text) == [ToolCall("f", {"a": 1}), ToolCall("g.h", {"b": "x"})]


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("-2.5", -2.5),
        ("+4", 4),
        ("2 ** 10", 1024),
        ("[1, (2, 'a'), {'k': None}]", [1, (2, "a"), {"k": None}]),
        ("name", "name"),
        ("g(1)", "g(1)"),
        ("g(b=2)", {"g": {"b": 2}}),
        ("x[0]", "x[0]"),
        ("...", "..."),
    ],
)
def test_values_are_parsed_and_not_executed(written, value):
    assert parse_tool_calls(f"[f(a={written})]") == [ToolCall("f", {"a": value})]


@pytest.mark.parametrize(
    "text",
    [
        "[f(a=9**9**9**9)]",
        "[f(a='x'*10**10)]",
        "[f(a=lambda: 1)]",
        "[f(a={[1]: 2})]",
        "[f(a=1/0)]",
        "[f(a=not x)]",
        "[f(a={**b})]",
        "[" * 5000,
        "f(" * 5000,
        "[f(a=1), 2]",
        "f(a=1) and more",
        "<tool_call>not json</tool_call>",
        '{"name": "f", "arguments": [1]}',
        '{"a": 1, "b": 2}',
        "\0",
        "3",
    ],
)
def test_text_that_is_no_call_raises(text):
    with pytest.raises(ValueError):  # noqa: PT011  (each has its own message)
        parse_tool_calls(text)


@given(st.text(max_size=40))
def test_any_text_gets_a_verdict(text):
    assert check_tool_calls(text, functions=[CALL], ground_truth=[{"phone": {"who": ["Ann"]}}]) in (0.0, 1.0)


def test_reasoning_before_the_calls_is_ignored():
    assert right("<think>[phone(who='Bo')]</think>\n\n[hotel.book(city='NYC', nights=2)]")


def test_a_task_is_verified_by_its_calls():
    arguments = {"functions": [CALL], "ground_truth": [{"phone": {"who": ["Ann"]}}]}
    task = Task((Message("user", "Phone Ann"),), verifier="tool_call", arguments=arguments)
    assert verify(task, "[phone(who='ann')]") == 1.0
    assert verify(task, "[phone(who='Bo')]") == 0.0
    with pytest.raises(UserError, match="ground_truth"):
        verify(Task(task.prompt, verifier="tool_call", arguments={"functions": [CALL]}), "[]")
    undescribed = {"functions": [CALL], "ground_truth": [{"fax": {}}]}
    with pytest.raises(UserError, match="'fax', which has no schema"):
        verify(Task(task.prompt, verifier="tool_call", arguments=undescribed), "[fax()]")
