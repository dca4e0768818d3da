"""HumanEval, MBPP, LiveCodeBench and APPS from rows to scores, on synthetic rows in the upstream schemas."""

from __future__ import annotations

import base64
import json
import pickle
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from verify.hostile.machine import UNSAFE

from zhenlong.errors import UserError
from zhenlong.evaluate.metrics.code import code_passes, pass_at_k_metric, passed_tests
from zhenlong.evaluate.results.instance import Instance
from zhenlong.evaluate.results.outcome import Outcome
from zhenlong.evaluate.scenarios.instances import load_examples, load_instances
from zhenlong.evaluate.scenarios.scenario import Scenario, get_scenario
from zhenlong.inference.requests import GeneratedOutput

SANDBOX = "none" if UNSAFE else "auto"

HUMANEVAL = {
    "task_id": "HumanEval/900",
    "prompt": 'def triple(n):\n    """ Three times n.\n    >>> triple(2)\n    6\n    """\n',
    "entry_point": "triple",
    "canonical_solution": "    return 3 * n\n",
    "test": "\nMETADATA = {}\n\n\ndef check(candidate):\n    assert candidate(2) == 6\n    assert candidate(0) == 0\n",
}
MBPP = {
    "task_id": 3,
    "text": "Write a function to negate a number.",
    "code": "def negate(x):\r\n  return -x",
    "test_list": ["assert negate(1)==-1", "assert negate(0) == 0", "assert negate(-2) == 2"],
    "test_setup_code": "",
    "challenge_test_list": [],
}
TREE = MBPP | {
    "task_id": 4,
    "code": "class Node:\n    def __init__(self, x):\n        self.x = x\ndef value(n):\n    return n.x",
    "test_setup_code": "root = Node(5)",
    "test_list": ["assert value(root) == 5"],
}
LIVECODEBENCH = {
    "question_title": "Sum",
    "question_content": "Print the sum of two numbers.",
    "platform": "atcoder",
    "question_id": "abc900_a",
    "contest_id": "abc900",
    "contest_date": "2025-02-01T00:00:00",
    "starter_code": "",
    "difficulty": "easy",
    "public_test_cases": json.dumps([{"input": "1 2\n", "output": "3\n", "testtype": "stdin"}]),
    "private_test_cases": base64.b64encode(
        zlib.compress(pickle.dumps(json.dumps([{"input": "5 5\n", "output": "10\n", "testtype": "stdin"}])))
    ).decode(),
    "metadata": "{}",
}
METHOD = LIVECODEBENCH | {
    "question_id": "3900",
    "platform": "leetcode",
    "contest_date": "2024-12-31T00:00:00",
    "starter_code": "class Solution:\n    def pair(self, a: List[int]) -> List[int]:\n        ",
    "public_test_cases": json.dumps([{"input": "[1, 2]", "output": "[2, 1]", "testtype": "functional"}]),
    "private_test_cases": json.dumps([{"input": "[0, 7]", "output": "[7, 0]", "testtype": "functional"}]),
    "metadata": json.dumps({"func_name": "pair"}),
}
APPS = {
    "problem_id": 0,
    "question": "Print each number on a line, in any order.",
    "solutions": json.dumps(["print(2)\nprint(1)"]),
    "input_output": json.dumps({"inputs": ["1 2\n", "3 4\n"], "outputs": ["1\n2\n", "3\n4\n"]}),
    "difficulty": "introductory",
    "starter_code": "",
}
APPS_CALL = APPS | {
    "problem_id": 1,
    "starter_code": "def pair(a):\n    ",
    "input_output": json.dumps({"fn_name": "pair", "inputs": [[[1, 2]]], "outputs": [[[2, 1]]]}),
}
BLOCK = "Thus:\n```python\n{}\n```\n"
ADD = BLOCK.format("print(sum(map(int, input().split())))")
SWAP = BLOCK.format("class Solution:\n    def pair(self, a: List[int]) -> List[int]:\n        return a[::-1]")


def read(folder: Path, name: str, *rows: dict[str, Any], **changes: Any) -> tuple[Scenario, list[Instance]]:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = replace(get_scenario(name), **changes)
    return found, load_instances(found, data=str(path))


def scores(one: Scenario, instance: Instance, *answers: str) -> dict[str, float]:
    outcome = Outcome(instance, tuple(GeneratedOutput(text) for text in answers))
    found: dict[str, float] = {}
    for known, _ in one.bind_metrics():
        options = next(dict(row) for row in one.metrics if row["name"] == known.name)
        options.pop("name")
        found |= known.bind(options | {"sandbox": SANDBOX})(outcome)
    return found


@pytest.mark.parametrize(
    ("name", "row", "right", "wrong"),
    [
        ("humaneval", HUMANEVAL, "    return 3 * n\n", "    return n\n"),
        ("humaneval_chat", HUMANEVAL, BLOCK.format("def triple(n):\n    return 3 * n"), "No."),
        ("mbpp", MBPP, MBPP["code"], "def negate(x): return x"),
        ("mbpp", TREE, TREE["code"], str(TREE["code"]).replace("n.x", "4")),
        ("livecodebench", LIVECODEBENCH, ADD, BLOCK.format("print(3)")),
        ("livecodebench", METHOD, SWAP, SWAP.replace("[::-1]", "")),
        ("livecodebench_v6", LIVECODEBENCH, ADD.replace("```\n", ""), ADD.replace("sum", "max")),
        ("apps", APPS, "a = input().split()\nprint(a[1])\nprint(a[0])", "print(1)\nprint(2)"),
        ("apps", APPS_CALL, BLOCK.format("def pair(a):\n    return a[::-1]"), "def pair(a):\n    return a"),
    ],
)
def test_a_right_program_scores_one_and_a_wrong_one_zero(
    tmp_path: Path, name: str, row: dict[str, Any], right: str, wrong: str
) -> None:
    one, (instance,) = read(tmp_path, name, row)
    assert scores(one, instance, right)[one.main] == 1.0
    assert scores(one, instance, wrong)[one.main] == 0.0
    assert instance.id == str(row[str(one.id)])


def test_the_official_extraction_of_livecodebench_stands_beside(tmp_path: Path) -> None:
    one, (instance,) = read(tmp_path, "livecodebench", LIVECODEBENCH)
    assert scores(one, instance, ADD) == {"pass@1": 1.0, "official_pass@1": 1.0}
    unclosed, example = ADD.replace("```\n", ""), f"{ADD}Output:\n```\n5\n```"
    for answer in (unclosed, example):
        assert scores(one, instance, answer) == {"pass@1": 1.0, "official_pass@1": 0.0}


def test_pass_at_k_is_over_all_samples_and_needs_enough_of_them(tmp_path: Path) -> None:
    _, (instance,) = read(tmp_path, "humaneval", HUMANEVAL)
    outcome = Outcome(
        instance, tuple(GeneratedOutput(text) for text in ("    return 3 * n\n", "", "    return n\n", ""))
    )
    found = pass_at_k_metric(outcome, k=[1, 2, 4], sandbox=SANDBOX)
    assert found == pytest.approx({"pass@1": 1 / 4, "pass@2": 1 / 2, "pass@4": 1.0})
    assert code_passes(outcome, sandbox=SANDBOX) == {"code_passes": 0.25}
    with pytest.raises(UserError, match="has 4 samples, k=5 needs at least that many"):
        pass_at_k_metric(outcome, k=5)


def test_passed_tests_runs_the_tests_after_a_failure(tmp_path: Path) -> None:
    _, (instance,) = read(tmp_path, "apps", APPS)
    outcome = Outcome(instance, (GeneratedOutput("print(3)\nprint(4)"),))
    assert passed_tests(outcome, rules={"compare": "apps"}, sandbox=SANDBOX) == {"tests_passed": 0.5}
    assert code_passes(outcome, rules={"compare": "apps"}, sandbox=SANDBOX) == {"code_passes": 0.0}


def test_an_instance_without_tests_is_a_user_error() -> None:
    with pytest.raises(UserError, match="no tests; expected"):
        code_passes(Outcome(Instance("7", "x"), (GeneratedOutput("y"),)))


def test_mbpp_shows_its_assertions_and_three_examples(tmp_path: Path) -> None:
    one, (instance,) = read(tmp_path, "mbpp", MBPP)
    assert instance.input == (
        "You are an expert Python programmer, and here is your task: Write a function to negate a number. Your code "
        "should pass these tests:\n\nassert negate(1)==-1\nassert negate(0) == 0\nassert negate(-2) == 2\n[BEGIN]\n"
    )
    pool = tmp_path / "pool.jsonl"
    pool.write_text("".join(json.dumps(MBPP | {"task_id": k}) + "\n" for k in range(1, 11)))
    assert [example.id for example in load_examples(one, data=str(pool))] == ["2", "3", "4"]


def test_livecodebench_asks_for_a_program_or_for_the_starter_codes_method(tmp_path: Path) -> None:
    _, (program, method) = read(tmp_path, "livecodebench", LIVECODEBENCH, METHOD)
    assert "Read the inputs from stdin" in program.input
    assert (
        "```python\n# YOUR CODE HERE\n```\n\n### Answer: (use the provided format with backticks)\n\n" in program.input
    )
    assert f"```python\n{METHOD['starter_code']}\n```" in method.input
    assert program.groups == {"platform": "atcoder", "difficulty": "easy", "month": "2025-02"}


@pytest.mark.parametrize(
    ("window", "ids"),
    [
        ({"since": "2025-01-01"}, ["abc900_a"]),
        ({"until": "2024-12-31"}, ["3900"]),
        ({"since": "2024-12-31", "until": "2025-02-01"}, ["abc900_a", "3900"]),
    ],
)
def test_livecodebench_is_filtered_by_contest_date(tmp_path: Path, window: dict[str, str], ids: list[str]) -> None:
    reading = {"using": "livecodebench", **window}
    _, found = read(tmp_path, "livecodebench", LIVECODEBENCH, METHOD, convert=(reading,))
    assert [one.id for one in found] == ids


@pytest.mark.parametrize(
    ("name", "row", "message"),
    [
        ("humaneval", {"task_id": "a", "prompt": "p", "entry_point": "f"}, r"line 1: test: missing"),
        ("mbpp", MBPP | {"test_list": []}, r"line 1: test_list: expected assertions"),
        ("livecodebench", LIVECODEBENCH | {"private_test_cases": "?"}, r"line 1: private_test_cases: expected tests"),
        ("livecodebench", LIVECODEBENCH | {"contest_date": "soon"}, r"line 1: contest_date: expected a date"),
        ("livecodebench", LIVECODEBENCH | {"metadata": "{"}, r"line 1: metadata: expected an object"),
    ],
)
def test_a_row_of_the_wrong_schema_names_line_and_field(
    tmp_path: Path, name: str, row: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        read(tmp_path, name, row)


@pytest.mark.real_data
def test_humanevals_own_solutions_pass_and_empty_answers_fail(datasets_folder: Path) -> None:
    one = get_scenario("humaneval")
    instances = load_instances(one, data=str(datasets_folder / "humaneval" / "HumanEval.jsonl.gz"))
    assert len(instances) == one.num_rows
    chosen = instances[30:164:8]
    helped = [instances[32], instances[38], instances[50]]  # their tests call helpers of the prompt
    for instance in [*helped, *chosen]:
        assert scores(one, instance, instance.references[0].text) == {"pass@1": 1.0}, instance.id
    for instance in chosen[:3]:
        assert scores(one, instance, "") == {"pass@1": 0.0}, instance.id
