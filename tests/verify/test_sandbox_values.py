"""What a program returns, or forges as its reply, costs one test: bounded in size, depth and time."""

from __future__ import annotations

import json
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from verify.hostile.machine import UNSAFE

from zhenlong.errors import UserError
from zhenlong.records import Message, Task
from zhenlong.verify import verify
from zhenlong.verify.code import check_code
from zhenlong.verify.sandbox import Limits, Sandbox
from zhenlong.verify.sandbox.guest.serialization import dumps, loads
from zhenlong.verify.sandbox.guest.value_equality import judge_reply, shorten_value

SMALL = {"memory": 512 << 20, "seconds": 1}
FORGED = {  # replies that a program writes itself: as JSON, and what they would cost
    "a tuple of a range": '{"value": {"type": "tuple", "value": {"type": "range", "value": [0, 100000000000, 1]}}}',
    "a set of a range": '{"value": {"type": "set", "value": {"type": "range", "value": [0, 100000000000, 1]}}}',
    "a fraction of many digits": '{"value": {"type": "number", "value": ["fractions", "1e99999999"]}}',
    "a signalling NaN": '{"value": {"type": "number", "value": ["decimal", "sNaN"]}}',
    "deep lists": '{"value": ' + "[" * 990 + "]" * 990 + "}",
    "deeper lists": '{"value": ' + "[" * 100_000 + "]" * 100_000 + "}",
    "deep tuples": '{"value": ' + '{"type": "tuple", "value": [' * 300 + "]}" * 300 + "}",
    "an integer of 5,000 digits": '{"value": ' + "9" * 5000 + "}",
    "an unknown type": '{"value": {"type": "module", "value": "os"}}',
    "half a surrogate pair": '{"value": "\\ud83d"}',
    "no object": "[1, 2]",
    "a verdict": '{"equal": true}',
    "no JSON": "equal",
}
WRITER = "import os\nREPLY = {!r}\nos.write(5, b'{{\"loaded\": 1}}\\n' + REPLY.encode('ascii') + b'\\n')\ninput()\n"


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_reply_is_a_wrong_value_and_nothing_more(name: str) -> None:
    found = judge_reply(FORGED[name].encode(), dumps(42), "lines")
    assert found.get("equal", False) is False
    assert len(json.dumps(found)) < 1000


def test_replies_that_a_program_writes_itself_do_not_pass() -> None:
    for name in ("a tuple of a range", "deeper lists", "a verdict"):
        tests = {"inputs": [[1]], "outputs": [42], "function": "f", **SMALL}
        found = check_code(WRITER.format(FORGED[name]), tests, unsafe=UNSAFE)
        assert not found.passed, name
        assert found.reason


@pytest.mark.parametrize(
    ("body", "expected", "passes"),
    [
        ("return 10**5000", 10**5000, True),
        ("return 10**5000", 1, False),
        ("import decimal; return decimal.Decimal('sNaN')", 1, False),
        ("import decimal; return decimal.Decimal('1.5')", 1.5, True),
        ("import fractions; return fractions.Fraction(3, 2)", 1.5, True),
        ("return range(10**11)", [0], False),
        ("x = 1\n    for _ in range(150): x = [x]\n    return x", 1, False),
        ("class A:\n        def __eq__(self, other): return True\n    return A()", 1, False),
        ("class A(list):\n        def __eq__(self, other): return True\n    return A()", [1], False),
        ("return '\\ud83d'", "x", False),
        ("return (1, [2])", [1, [2]], True),
    ],
    ids=lambda one: one if isinstance(one, str) else "",
)
def test_a_returned_value_equals_the_expected_one_or_costs_its_test(body: str, expected: object, passes: bool) -> None:
    tests = {"inputs": [[1]], "outputs": [expected], "function": "f", **SMALL}
    found = check_code(f"def f(x):\n    {body}\n", tests, unsafe=UNSAFE)
    assert found.passed is passes
    assert len(found.reason) < 400


def test_numbers_that_collide_run_into_the_limit_of_time() -> None:
    program = "def f(x):\n    return {k * (2**61 - 1) + 2**70 for k in range(3)} and [list(range(x))]\n"
    collide = WRITER.format("").replace(
        "REPLY = ''", "REPLY = '{\"value\": {\"type\": \"set\", \"value\": [' + "
        "', '.join('{\"type\": \"int\", \"value\": \"%x\"}' % (k * (2**61 - 1)) for k in range(1, 60000)) + ']}}'",
    )  # fmt: skip
    tests = {"inputs": [[3]], "outputs": [[[0, 1, 2]]], "function": "f", "memory": 512 << 20, "seconds": 0.5}
    assert check_code(program, tests, unsafe=UNSAFE).passed
    found = check_code(collide, tests, unsafe=UNSAFE)
    assert "time limit" in found.reason


def test_a_report_beyond_the_limit_is_an_error_of_the_sandbox_and_not_memory() -> None:
    with Sandbox("", limits=Limits(output=1), unsafe=UNSAFE) as box:
        box._received = bytearray(1 << 20)
        box._process.stdin.write(b'{"stdin": ""}\n')  # type: ignore[union-attr]
        with pytest.raises(OSError, match="exceeds"):
            box.request({"stdin": ""})


def test_tests_in_the_programs_own_process_are_refused_as_a_reward() -> None:
    arguments = {"kind": "asserts", "asserts": ["assert f() == 1"], "setup": "x = 1", "same_process": True}
    task = Task((Message("user", "Write f."),), "", "code", arguments)
    with pytest.raises(UserError, match="same_process is refused"):
        verify(task, "def f():\n    return 1\n")


LEAVES = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary() | st.fractions()
    | st.decimals(allow_nan=False) | st.builds(lambda: 10**5000) | st.just(range(3))
)  # fmt: skip
VALUES = st.recursive(
    LEAVES, lambda one: st.lists(one) | st.dictionaries(st.text(), one) | st.tuples(one), max_leaves=8
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["decimal", "range", "sNaN"]),
    lambda one: st.lists(one) | st.dictionaries(st.sampled_from(["type", "value", "error"]), one)
    | st.fixed_dictionaries({"type": st.sampled_from(["int", "tuple", "dict", "set", "bytes", "range", "number", "keys",
                                                      "values", "complex", "deque", "iterator"]), "value": one}),
    max_leaves=8,
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(VALUES)
def test_a_value_comes_back_as_itself(value: object) -> None:
    assert Fraction(1, 3) == loads(dumps(Fraction(1, 3)))
    assert Decimal("1.5") == loads(dumps(Decimal("1.5")))
    reply = json.dumps({"value": json.loads(dumps([value]))}).encode()
    assert judge_reply(reply, dumps([value]), "lines")["equal"]
    assert len(shorten_value(value)) <= 500  # with escapes


@settings(max_examples=100, deadline=None)
@given(JSON)
def test_no_reply_raises(reply: object) -> None:
    for one in ({"value": reply}, reply):
        found = judge_reply(json.dumps(one).encode(), dumps([1]), "apps")
        assert set(found) in ({"equal", "shown"}, {"error"})
