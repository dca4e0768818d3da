"""Programs against tests, by the rules of HumanEval, MBPP, LiveCodeBench, APPS; the program in an answer; pass@k."""

from __future__ import annotations

import base64
import json
import math
import pickle
import zlib
from typing import Any

import pytest
from verify.hostile.machine import ISOLATED, UNSAFE

from zhenlong.errors import UserError
from zhenlong.records import Message, Task
from zhenlong.verify import verify
from zhenlong.verify.code import CodeTestResult, check_code, check_code_response, pass_at_k
from zhenlong.verify.code_extraction import executable_prompt, extract_program, last_fenced_block, truncate_at_stop
from zhenlong.verify.code_output_equality import restore_integer_keys, stdout_equal, stdout_equal_apps
from zhenlong.verify.code_tests import decode_private_tests, normalize_tests, required_functions
from zhenlong.verify.sandbox.guest.value_equality import value_equal, value_equal_apps

PROMPT = (
    'from typing import List\n\ndef shift(n):\n    return n + 1\n\ndef total(a: List[int]) -> int:\n    """Add."""\n'
)
CHECK = {
    "kind": "check",
    "extraction": "completion",
    "prompt": PROMPT,
    "entry_point": "total",
    "test": "def check(candidate):\n    assert candidate([1, 2]) == 3\n    assert shift(total([])) == 1\n",
}
FENCED = "Here:\n```python\n{}\n```\nDone."


def check(answer: str, tests: dict[str, Any], **rules: Any) -> CodeTestResult:
    return check_code_response(answer, tests, rules=rules, unsafe=UNSAFE)


@pytest.mark.parametrize(
    ("answer", "passes"),
    [
        ("    return sum(a)\n", True),
        ("    return sum(a)\n\ndef other():\n    pass\n", True),
        ("    return 0\n", False),
        ("", False),
        ("    pass\n", False),
        ("    return sum(\n", False),
        ("    return total(a)\n", False),
        ("    while True: pass\n", False),
    ],
)
def test_a_completion_passes_if_check_raises_nothing(answer: str, passes: bool) -> None:
    verdict = check(answer, CHECK, seconds=0.5 if "while" in answer else 3)
    assert verdict.passed == passes
    assert bool(verdict.reason) != passes


def test_tests_see_the_prompts_helpers_and_exceptions_of_the_answer() -> None:
    test = "def check(f):\n    try:\n        f('x')\n    except TypeError:\n        return\n    assert False\n"
    assert check("    return sum(a)\n", CHECK | {"test": test}).passed
    assert not check("    return 0\n", CHECK | {"test": test}).passed


def test_a_program_that_dies_fails_even_if_the_test_catches_everything() -> None:
    test = "def check(f):\n    try:\n        f([])\n    except BaseException:\n        pass\n"
    assert not check("    import os\n    os._exit(0)\n", CHECK | {"test": test}).passed


@pytest.mark.parametrize(
    ("answer", "passes"),
    [
        (FENCED.format("def total(a):\n    return sum(a)"), True),
        ("def total(a):\n    return sum(a)", True),
        (FENCED.format("    return sum(a)"), True),
        (FENCED.format("def total(a: List[int]):\n    return shift(sum(a)) - 1") + "\n```\nexample\n```", True),
        (FENCED.format("def totals(a):\n    return sum(a)"), False),
        ("I cannot help with that.", False),
    ],
)
def test_chat_extraction_takes_the_block_that_defines_the_function(answer: str, passes: bool) -> None:
    assert check(answer, CHECK | {"extraction": "chat"}).passed == passes


MBPP = {"kind": "asserts", "extraction": "block", "asserts": ["assert add(1, 2) == 3", "assert set(pair(2)) == {1, 2}"]}


def test_assertions_call_the_functions_that_they_name() -> None:
    right = "def add(a, b):\r\n  return a + b\r\ndef pair(n):\n  yield 1\n  yield n\n[DONE]\nmore"
    assert check(right, MBPP).passed
    assert not check(right.replace("a + b", "a - b"), MBPP).passed
    assert not check("def add(a, b): return 3", MBPP).passed
    imports = MBPP | {"asserts": ["assert math.isclose(add(1, 2), 3)"], "imports": ["import math"]}
    assert check(right, imports).passed


def test_tests_that_instantiate_the_programs_classes_run_in_its_process() -> None:
    tests = {"kind": "asserts", "setup": "root = Node(3)", "asserts": ["assert value(root) == 3"], "same_process": True}
    right = "class Node:\n    def __init__(self, x):\n        self.x = x\ndef value(n):\n    return n.x"
    assert check(right, tests).passed
    for wrong in (
        right.replace("n.x", "4"),
        right + "\nimport os\nos._exit(0)",
        right + '\nimport os\nos.write(5, b\'{"loaded": true}\\n{"nonce": "0"}\\n\')\nos._exit(0)',
        right.replace("return n.x", "import os; os._exit(0)"),
        right.replace("return n.x", "raise SystemExit(0)"),
    ):
        assert not check(wrong, tests).passed


def test_a_stdin_program_runs_once_per_test_and_its_output_is_compared_outside() -> None:
    tests = {"inputs": ["1\n2\n", "5\n5\n", "7\n1\n"], "outputs": ["3", "10.0\n", "8"]}
    whole = check("print(sum(int(input()) for _ in range(2)))", tests)
    assert (whole.passed, whole.num_tests, whole.num_passed) == (True, 3, 3)
    stopped = check("a = int(input())\nprint(3 if a == 1 else a + 1)", tests)
    assert (stopped.passed, stopped.num_passed) == (False, 1)
    assert stopped.reason.startswith("test 2: printed '6")
    everyone = check("a = int(input())\nprint(3 if a == 1 else a + 1)", tests, all_tests=True)
    assert everyone.num_passed == 2


@pytest.mark.parametrize(
    ("code", "passes"),
    [
        ("print(1)\nexit(1)", True),
        ("print(1)\n1 / 0", False),
        ("print(1)\nimport os\nos.abort()", False),
        ("input()", False),
    ],
)
def test_a_crash_fails_but_an_exit_code_does_not(code: str, passes: bool) -> None:
    assert check(code, {"inputs": [""], "outputs": ["1"]}).passed == passes


METHOD = {
    "inputs": [[[1, 2], 3], [[4], 0]],
    "outputs": [[1, 2, 3], [4, 0]],
    "function": "join",
    "prelude": "livecodebench",
}


def test_a_method_is_called_with_the_arguments_and_a_tuple_is_a_list() -> None:
    right = "class Solution:\n    def join(self, a: List[int], b: int) -> List[int]:\n        return tuple(a + [b])"
    assert check(right, METHOD).passed
    assert check("def join(a, b):\n    return a + [b]", METHOD).passed
    assert not check("def join(a, b):\n    return (a, b)", METHOD).passed
    assert check("def other():\n    pass", METHOD).reason == "test 1: AttributeError"


def test_the_remaining_tests_run_after_a_failure_but_not_after_the_program_died() -> None:
    alive = check("def join(a, b):\n    return [4, 0] if b == 0 else 1 / 0", METHOD, all_tests=True)
    dead = check("import os\ndef join(a, b):\n    return [4, 0] if b == 0 else os._exit(0)", METHOD, all_tests=True)
    assert (alive.num_passed, dead.num_passed) == (1, 0)
    assert "ZeroDivisionError" in alive.reason
    assert "ended early" in dead.reason


@pytest.mark.parametrize(
    ("said", "right", "equal"),
    [
        ("1 2\n3", "1 2\n3\n", True),
        (" 1 2 \n 3 \n\n", "1 2\n3", True),
        ("1.0 2", "1 2.00", True),
        ("50000000000000001", "50000000000000000", False),
        ("0.30000000000000004", "0.3", False),
        ("YES", "Yes", False),
        ("1\n2", "1 2", False),
        ("a 1.0", "a 1", False),
        ("", "", True),
        ("nan", "NaN", False),
    ],
)
def test_lines_are_equal_stripped_or_as_exact_decimals(said: str, right: str, equal: bool) -> None:
    assert stdout_equal(said, right) == equal


@pytest.mark.parametrize(
    ("said", "right", "equal"),
    [
        ("1\n\n2\n", "1\n2", True),
        ("0.300000001", "0.3", True),
        ("0.3001", "0.3", True),  # rounded to three places
        ("0.31", "0.3", False),
        ("b a\nc", "c\na b", True),  # a set of sets
        ("a\nb", "a b", False),
        ("x", "y", False),
    ],
)
def test_apps_compares_leniently(said: str, right: str, equal: bool) -> None:
    assert stdout_equal_apps(said, right) == equal


def test_values_are_equal_by_each_benchmarks_rule() -> None:
    assert value_equal((1, 2), [1, 2])
    assert not value_equal([(1, 2)], [[1, 2]])
    assert value_equal_apps(3, [3])
    assert value_equal_apps([(1, 2)], [[[1, 2]]])
    assert not value_equal_apps(3, 4)
    assert restore_integer_keys([{"1": 2}], {"3": 4}) == ([{1: 2}], [{3: 4}])
    assert restore_integer_keys([{"a": 2}], [{"3": 4}]) == ([{"a": 2}], [{3: 4}])


@pytest.mark.parametrize(
    ("answer", "block"),
    [
        ("a\n```python\nx = 1\n```\nb\n```\ny = 2\nz\n```\n", "y = 2\nz"),
        ("```python\nx = 1", ""),
        ("none", ""),
        ("```\nx\n```\n```", ""),  # nothing between the last two fences, as upstream
    ],
)
def test_livecodebench_takes_the_lines_between_the_last_two_fences(answer: str, block: str) -> None:
    assert last_fenced_block(answer) == block


def test_a_completion_is_truncated_at_the_first_stop_only_if_requested() -> None:
    text = "    return 1\n\ndef other():\n    pass\nprint(1)"
    assert truncate_at_stop(text) == "    return 1\n"
    assert extract_program(text, "completion", prompt="P\n") == "P\n" + text
    assert extract_program(text, "completion", prompt="P\n", stop=["\nprint"]) == "P\n" + text[:-9]
    with pytest.raises(UserError, match="extraction"):
        extract_program("", "telepathy")


def test_a_prompt_without_a_body_becomes_runnable_code() -> None:
    assert "pass" in executable_prompt("def f(x):\n")
    assert executable_prompt(PROMPT) == PROMPT
    assert executable_prompt("def f(x") == ""


def test_required_functions_are_those_that_the_tests_call_but_do_not_define() -> None:
    tests = "x = g(1)\nassert math.isclose(f(x), len([h(y) for y in z]))\ndef local(): pass\nlocal()"
    assert required_functions(tests, "import math\ndef h(y): return y") == ("g", "f")
    with pytest.raises(ValueError, match="not valid Python"):
        required_functions("assert (")


@pytest.mark.parametrize("k", [1, 2, 5])
@pytest.mark.parametrize(("n", "c"), [(5, 0), (5, 1), (5, 3), (5, 5), (200, 7)])
def test_pass_at_k_is_one_minus_the_probability_that_none_passes(n: int, c: int, k: int) -> None:
    assert pass_at_k(n, c, k) == pytest.approx(1 - math.comb(n - c, k) / math.comb(n, k), abs=1e-12)


def test_pass_at_k_does_not_overflow() -> None:
    assert 0 < pass_at_k(10**5, 1, 10) == pytest.approx(1e-4)
    assert pass_at_k(10**5, 10**5 - 9, 10) == 1.0
    with pytest.raises(ValueError, match="expected"):
        pass_at_k(3, 1, 4)


def encoded(value: Any) -> str:
    return base64.b64encode(zlib.compress(pickle.dumps(value))).decode()


CASES = [{"input": "[1]\n2", "output": "[1, 2]", "testtype": "functional"}]


@pytest.mark.parametrize("text", [json.dumps(CASES), encoded(json.dumps(CASES)), encoded(CASES)])
def test_private_tests_are_decoded(text: str) -> None:
    assert decode_private_tests(text) == CASES
    whole = normalize_tests({"public_test_cases": "[]", "private_test_cases": text, "fn_name": "f"})
    assert (whole["kind"], whole["inputs"], whole["outputs"]) == ("functional", [[[1], 2]], [[1, 2]])


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("unpickled",))


@pytest.mark.parametrize(
    "text", [encoded(Bomb()), encoded(7), "%%%", "eJw=", base64.b64encode(b"x").decode(), "[1]", "{}"]
)
def test_invalid_private_tests_are_refused_without_executing_anything(
    text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ValueError, match=r"."):
        decode_private_tests(text)
    assert not capsys.readouterr().out


@pytest.mark.parametrize(
    ("tests", "message"),
    [
        ({}, "kind None is not known"),
        ({"kind": "check", "test": ""}, "entry_point is missing"),
        ({"kind": "check", "test": "", "entry_point": "a.b"}, "name of a function"),
        ({"kind": "stdin", "inputs": ["1"], "outputs": []}, "1 inputs and 0 outputs"),
        ({"inputs": [], "outputs": []}, "at least one"),
        ({"inputs": ["1"], "outputs": ["1"], "prelude": "x"}, "prelude: expected one of"),
        ({"inputs": ["1"], "outputs": ["1"], "compare": "x"}, "compare: expected one of"),
        ({"inputs": ["1"], "outputs": ["1"], "second": 3}, "no key second"),
        ({"kind": "asserts", "asserts": ["assert ("]}, "not valid Python"),
        ({"public_test_cases": "x", "private_test_cases": "[]"}, "public_test_cases"),
    ],
)
def test_incomplete_tests_are_a_user_error(tests: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_code("", tests, unsafe=True)


@pytest.mark.skipif(not ISOLATED, reason="this machine isolates no programs, and rewards run nothing without isolation")
def test_a_task_is_rewarded_for_passing_all_tests_or_by_fraction() -> None:
    prompt = (Message("user", "Print twice the number."),)
    tests = {"inputs": ["1", "2"], "outputs": ["2", "4"], "extraction": "block"}
    assert verify(Task(prompt, "", "code", tests), FENCED.format("print(2 * int(input()))")) == 1.0
    half = FENCED.format("input()\nprint(4)")
    assert verify(Task(prompt, "", "code", tests), half) == 0.0
    assert verify(Task(prompt, "", "code", tests | {"partial_credit": True}), half) == 0.5
    with pytest.raises(UserError, match="no argument unsafe"):
        verify(Task(prompt, "", "code", tests | {"unsafe": True}), half)
