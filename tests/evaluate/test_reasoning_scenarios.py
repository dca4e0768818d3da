"""GSM8K, MATH, AIME, GPQA, MMLU, MMLU-Pro, IFEval and BFCL, from synthetic rows to scores, and on the real rows."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from zhenlong.errors import UserError
from zhenlong.evaluate.adapters.examples import examples_by_group
from zhenlong.evaluate.adapters.prompt import instance_block, prompt_parts
from zhenlong.evaluate.metrics.registry import Measure
from zhenlong.evaluate.results.instance import Instance
from zhenlong.evaluate.results.outcome import Outcome, ScoredOutcome
from zhenlong.evaluate.scenarios.instances import load_examples, load_instances
from zhenlong.evaluate.scenarios.scenario import get_scenario
from zhenlong.inference.requests import GeneratedOutput

NAMES = (
    "gsm8k math math500 aime24 aime25 gpqa_main gpqa_diamond mmlu mmlu_cloze mmlu_pro ifeval "
    "bfcl_simple bfcl_multiple bfcl_parallel bfcl_irrelevance"
)
GSM8K = {"question": "Ann has 3 pens and buys 4. How many?", "answer": "3 + 4 = <<3+4=7>>7\n#### 7"}
MATH = {
    "problem": "What is half of one?",
    "level": "Level 1",
    "type": "Prealgebra",
    "solution": r"It is $\boxed{\frac12}$.",
}
MATH500 = {
    "problem": "What is half of one?",
    "solution": r"It is $\boxed{\frac{1}{2}}$.",
    "answer": r"\frac{1}{2}",
    "subject": "Prealgebra",
    "level": 1,
    "unique_id": "test/prealgebra/1.json",
}
AIME = {"id": 60, "problem": "Find 70 + 3.", "answer": "073", "url": "https://example.org", "year": "2024"}
GPQA = {
    "Question": "Which is light?",
    "Correct Answer": "a photon\n",
    "Incorrect Answer 1": "a proton",
    "Incorrect Answer 2": "a neutron",
    "Incorrect Answer 3": "a quark",
    "Record ID": "rec1",
    "High-level domain": "Physics",
}
MMLU = {"question": "Two and two?", "subject": "abstract_algebra", "choices": ["3", "4", "5", "6"], "answer": 1}
MMLU_PRO = {
    "question_id": 70,
    "question": "Which is a fruit?",
    "options": ["stone", "apple", "cloud", "N/A"],
    "answer": "B",
    "answer_index": 1,
    "cot_content": "",
    "category": "biology",
    "src": "made up",
}
IFEVAL = {
    "key": 5,
    "prompt": "Say hello without commas, in quotation marks.",
    "instruction_id_list": ["punctuation:no_comma", "startend:quotation"],
    "kwargs": [{"num_words": None}, {"num_words": None}],
}
PHONE = {
    "name": "phone",
    "description": "Phones someone.",
    "parameters": {"type": "dict", "properties": {"who": {"type": "string"}}, "required": ["who"]},
}
BFCL = {"id": "simple_0", "question": [[{"role": "user", "content": "Phone Ann."}]], "function": [PHONE]}
BFCL_ANSWER = {"id": "simple_0", "ground_truth": [{"phone": {"who": ["Ann"]}}]}
# scenario: (row, an answer that is right, one that is wrong)
ROWS: dict[str, tuple[dict[str, Any], str, str]] = {
    "gsm8k": (GSM8K, "So 7.\n#### 7", "7"),
    "math": (MATH, r"\boxed{1/2}", r"\boxed{2}"),
    "math500": (MATH500, r"<think>\boxed{2}</think>\boxed{0.5}", "0.5 or 2"),
    "aime24": (AIME, r"so \boxed{73}", "73"),
    "aime25": ({"problem": "Find 70 + 3.", "answer": "73"}, r"so \boxed{073}", r"\boxed{72}"),
    "ifeval": (IFEVAL, '"hello there"', '"hello, there"'),
    "bfcl_simple": (BFCL | BFCL_ANSWER, "[phone(who='Ann')]", "phone(who='Bo')"),
    "bfcl_multiple": (BFCL | BFCL_ANSWER, "[phone(who='ann.')]", "Shall I?"),
    "bfcl_parallel": (BFCL | BFCL_ANSWER, "phone(who='Ann')", "[phone(who='Ann'), phone(who='Ann')]"),
    "bfcl_irrelevance": (BFCL, "No function does that.", "[phone(who='Ann')]"),
}


def written(folder: Path, *rows: dict[str, Any], name: str = "rows.jsonl") -> str:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def read(folder: Path, name: str, *rows: dict[str, Any]) -> list[Instance]:
    return load_instances(get_scenario(name), data=written(folder, *rows))


def scores(name: str, instance: Instance, *texts: str, predicted: int | None = None) -> dict[str, float]:
    outcome = Outcome(instance, outputs=tuple(GeneratedOutput(text) for text in texts), predicted=predicted)
    found: dict[str, float] = {}
    for metric, function in get_scenario(name).bind_metrics():
        if metric.kind == "instance":
            found |= function(outcome)
    return found


def prompt(name: str, instance: Instance, pool: list[Instance] = ()) -> str:
    adapter = get_scenario(name).adapter
    if "instructions" in instance.data:
        adapter = type(adapter)(**{**vars(adapter), "instructions": instance.data["instructions"]})
    examples = examples_by_group(adapter, pool, 0).get(instance.groups.get(adapter.examples_by, ""), [])
    return "".join(prompt_parts(adapter, examples, instance_block(adapter, instance)))


@pytest.mark.parametrize("name", NAMES.split())
def test_a_scenarios_main_measure_is_one_of_its_measures(name):
    one = get_scenario(name)
    assert one.num_rows
    assert one.verified
    assert any(metric.find_measure(one.main) for metric, _ in one.bind_metrics() if _has(metric.measures, one.main))


def _has(measures: tuple[Measure, ...], name: str) -> bool:
    return any(one.name == name for one in measures)


@pytest.mark.parametrize("name", ROWS)
def test_right_and_wrong_answers(name, tmp_path):
    row, right, wrong = ROWS[name]
    (instance,) = read(tmp_path, name, row)
    main = get_scenario(name).main
    assert scores(name, instance, right)[main] == 1.0
    assert scores(name, instance, wrong)[main] == 0.0
    assert scores(name, instance, "")[main] == (1.0 if name == "bfcl_irrelevance" else 0.0)
    assert scores(name, instance, right, wrong, wrong, right)[main] == 0.5


def test_gsm8k_has_three_extraction_rules_and_the_harness_prompt(tmp_path):
    (instance,) = read(tmp_path, "gsm8k", GSM8K)
    assert scores("gsm8k", instance, "#### 7.\nI mean 8") == {
        "gsm8k_exact": 0,
        "gsm8k_strict": 1,
        "gsm8k_flexible": 0,
        "gsm8k_numeric": 0,
    }
    assert scores("gsm8k", instance, "it is 7.00")["gsm8k_numeric"] == 1
    assert scores("gsm8k", instance, "it is $7.") == {
        "gsm8k_exact": 0,
        "gsm8k_strict": 0,
        "gsm8k_flexible": 1,
        "gsm8k_numeric": 1,
    }
    other = GSM8K | {"question": "One?"}
    (first,) = load_examples(get_scenario("gsm8k"), data=written(tmp_path, other))
    assert prompt("gsm8k", instance, [first]) == (
        f"Question: One?\nAnswer: {GSM8K['answer']}\n\nQuestion: {GSM8K['question']}\nAnswer:"
    )


def test_math_compares_strings_and_mathematics(tmp_path):
    (instance,) = read(tmp_path, "math", MATH)
    assert instance.groups == {"subject": "Prealgebra", "level": "Level 1"}
    assert scores("math", instance, r"\boxed{\frac{2}{4}}") == {"math_equivalence": 0.0, "math_verify": 1.0}
    (worded,) = read(tmp_path, "math500", MATH500 | {"answer": r"\text{Tuesday}"})
    assert scores("math500", worded, r"\boxed{\text{Tuesday}}") == {"math_equivalence": 1.0, "math_verify": 1.0}
    assert scores("math500", worded, r"\boxed{\text{Monday}}") == {"math_equivalence": 0.0, "math_verify": 0.0}


def test_aime_averages_and_votes(tmp_path):
    (instance,) = read(tmp_path, "aime24", AIME)
    box = r"\boxed{%s}"
    found = scores("aime24", instance, box % 73, box % "9", "none", box % "073")
    assert found == {"boxed_integer": 0.5, "boxed_integer_any": 1.0, "boxed_integer_majority": 1.0}
    assert scores("aime24", instance, box % 9, box % 73)["boxed_integer_majority"] == 0.0  # tied: the first one
    assert scores("aime24", instance, "a", "b")["boxed_integer_majority"] == 0.0
    (other,) = read(tmp_path, "aime24", {"ID": "2024-I-1", "Problem": "p", "Solution": "s", "Answer": 73})
    assert scores("aime24", other, box % 73) == {"boxed_integer": 1.0}
    assert r"\boxed{}" in get_scenario("aime24").adapter.instructions
    assert get_scenario("aime25").adapter.n > 1


def test_gpqas_choices_are_shuffled_by_the_question_only(tmp_path):
    rows = [GPQA | {"Record ID": f"rec{number}"} for number in range(200)]
    found = read(tmp_path, "gpqa_diamond", *rows)
    assert [one.id for one in found[:2]] == ["rec0", "rec1"]
    assert found == read(tmp_path, "gpqa_diamond", *rows)
    assert found[7].references == read(tmp_path, "gpqa_main", rows[7])[0].references
    places = Counter(one.correct_indices for one in found)
    assert set(places) == {(0,), (1,), (2,), (3,)}
    assert min(places.values()) > 25  # 50 expected each
    assert {one.correct_texts for one in found} == {("a photon",)}
    letter = "ABCD"[found[0].correct_indices[0]]
    assert scores("gpqa_main", found[0], f"Hmm.\nAnswer: {letter}") == {
        "letter_choice": 1.0,
        "letter_found": 1.0,
        "choice_accuracy": 1.0,
    }
    assert scores("gpqa_main", found[0], "I do not know") == {
        "letter_choice": 0.0,
        "letter_found": 0.0,
        "choice_accuracy": 0.0,
    }
    assert prompt("gpqa_main", found[0]).endswith(
        "Which is light?\n\n"
        + "\n".join(f"{mark}) {one.text}" for mark, one in zip("ABCD", found[0].references, strict=True))
        + "\n"
    )


def test_mmlus_prompt_names_the_subject_and_its_examples_are_of_it(tmp_path):
    (instance,) = read(tmp_path, "mmlu", MMLU)
    pool = [
        MMLU | {"question": "Other?", "subject": "anatomy"},
        *(MMLU | {"question": f"Sum {number}?", "answer": number % 4} for number in range(6)),
    ]
    text = prompt("mmlu", instance, load_examples(get_scenario("mmlu"), data=written(tmp_path, *pool)))
    start = "The following are multiple choice questions (with answers) about abstract algebra.\n\nSum 0?\nA. 3\nB. 4\n"
    assert text.startswith(start)
    assert text.endswith("D. 6\nAnswer: A\n\nTwo and two?\nA. 3\nB. 4\nC. 5\nD. 6\nAnswer:")
    assert [f"Sum {number}?" in text for number in range(6)] == [True] * 5 + [False]
    assert "Other?" not in text
    assert scores("mmlu", instance, predicted=1) == {"exact_match": 1.0}
    assert scores("mmlu", instance, predicted=2) == {"exact_match": 0.0}


def test_mmlu_without_choices_in_the_prompt(tmp_path):
    (instance,) = read(tmp_path, "mmlu_cloze", MMLU)
    start = "The following are questions about abstract algebra.\n"
    assert prompt("mmlu_cloze", instance) == f"{start}Question: Two and two?\nAnswer:"
    (unnamed,) = read(tmp_path, "mmlu_cloze", {name: value for name, value in MMLU.items() if name != "subject"})
    assert prompt("mmlu_cloze", unnamed) == "The following are questions.\nQuestion: Two and two?\nAnswer:"


def test_mmlus_folder_of_tables_gives_the_subject_by_the_files_names(tmp_path):
    for name, question in (("high_school_physics_test", "Why?"), ("anatomy_test", "Where?")):
        (tmp_path / f"{name}.csv").write_text(
            f"question,choice0,choice1,choice2,choice3,answer\n{question},a,b,c,d,3\n"
        )
    found = load_instances(get_scenario("mmlu"), data=str(tmp_path))
    assert [(one.id, one.input, one.groups["subject"]) for one in found] == [
        ("0", "Where?", "anatomy"),
        ("1", "Why?", "high_school_physics"),
    ]
    assert found[1].correct_texts == ("d",)
    (single,) = load_instances(get_scenario("mmlu"), data=str(tmp_path / "anatomy_test.csv"))
    assert single.groups == {"subject": "anatomy"}


def test_mmlu_pro_reasons_after_worked_examples_of_the_category(tmp_path):
    (instance,) = read(tmp_path, "mmlu_pro", MMLU_PRO)
    assert (instance.id, [one.text for one in instance.references]) == ("70", ["stone", "apple", "cloud"])
    worked = MMLU_PRO | {
        "question": "Which is hot?",
        "cot_content": "A: Let's think step by step. Fire is. The answer is (B).",
    }
    pool = [worked | {"question_id": 1, "category": "law"}, worked]
    text = prompt("mmlu_pro", instance, load_examples(get_scenario("mmlu_pro"), data=written(tmp_path, *pool)))
    assert text.startswith(
        "You are an expert in biology. Below is a series of example questions (with answers) about bio"
    )
    assert text.split("Question:\n", 1)[1] == (
        "Which is hot?\nOptions:\nA. stone\nB. apple\nC. cloud\nAnswer: Let's think step by step. Fire is. The answer "
        "is (B).\n\nQuestion:\nWhich is a fruit?\nOptions:\nA. stone\nB. apple\nC. cloud\n"
        "Answer: Let's think step by step."
    )
    assert scores("mmlu_pro", instance, "An apple is. The answer is (B).") == {
        "letter_choice": 1.0,
        "letter_found": 1.0,
        "choice_accuracy": 1.0,
    }
    unread = [scores("mmlu_pro", instance, "no idea") for _ in range(3)]
    assert unread[0] == unread[1] == unread[2]
    assert unread[0]["letter_found"] == 0.0


def test_ifevals_four_accuracies(tmp_path):
    both, one = read(
        tmp_path, "ifeval", IFEVAL, IFEVAL | {"key": 6, "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]}
    )
    outcomes = [
        Outcome(both, outputs=(GeneratedOutput('Sure!\n"hi"'),)),
        Outcome(one, outputs=(GeneratedOutput("a, b"),)),
    ]
    metrics = {metric.name: function for metric, function in get_scenario("ifeval").bind_metrics()}
    scored = [ScoredOutcome(outcome, metrics["instructions"](outcome)) for outcome in outcomes]
    assert scored[0].scores == {"prompt_strict": 0, "prompt_loose": 1, "followed_strict": 0.5, "followed_loose": 1}
    assert scored[1].scores == dict.fromkeys(scored[0].scores, 0)
    flat = {name: value.mean for name, value in metrics["instruction_accuracy"](scored).items()}
    assert flat == {"instruction_strict": pytest.approx(1 / 3), "instruction_loose": pytest.approx(2 / 3)}
    kinds = {name: (value.mean, value.n) for name, value in metrics["instruction_kinds"](scored).items()}
    assert kinds == {"strict:punctuation:no_comma": (0.5, 2), "strict:startend:quotation": (0.0, 1)}


def test_bfcls_answers_are_found_next_to_the_rows(tmp_path):
    rows = written(tmp_path, BFCL, BFCL | {"id": "simple_1"}, name="BFCL_v4_simple_python.json")
    beside = "possible_answer/BFCL_v4_simple_python.json"
    second = BFCL_ANSWER | {"id": "simple_1", "ground_truth": [{"phone": {"who": ["Bo"]}}]}
    written(tmp_path, second, BFCL_ANSWER, name=beside)
    first, other = load_instances(get_scenario("bfcl_simple"), data=rows)
    assert (first.correct_texts, other.correct_texts) == (("[phone(who='Ann')]",), ("[phone(who='Bo')]",))
    system, *rest = first.data["history"]
    assert (system["role"], rest, first.input) == ("system", [], "Phone Ann.")
    assert '"name": "phone"' in system["content"]
    written(tmp_path, BFCL_ANSWER, name=beside)
    with pytest.raises(UserError, match=r"line 2: .*has no row with id 'simple_1'"):
        load_instances(get_scenario("bfcl_simple"), data=rows)


def test_a_systems_message_of_a_row_follows_the_functions(tmp_path):
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Phone Ann."}]
    (instance,) = read(tmp_path, "bfcl_simple", BFCL | BFCL_ANSWER | {"question": [messages]})
    (system,) = instance.data["history"]
    assert system["content"].endswith("\n\nBe brief.")


def test_calls_read_is_separate_from_correctness(tmp_path):
    (instance,) = read(tmp_path, "bfcl_simple", BFCL | BFCL_ANSWER)
    assert scores("bfcl_simple", instance, "[phone(who='Bo')]") == {"tool_calls": 0.0, "calls_read": 1.0}
    assert scores("bfcl_simple", instance, "Calling Bo") == {"tool_calls": 0.0, "calls_read": 0.0}


@pytest.mark.parametrize(
    ("name", "row", "message"),
    [
        ("gsm8k", GSM8K | {"answer": "seven"}, "line 1: answer: expected a solution that ends in ####"),
        ("math", MATH | {"solution": "one half"}, r"solution: expected a solution with its answer in \\boxed{}"),
        ("aime24", AIME | {"answer": "x"}, "answer: expected a whole number, got 'x'"),
        ("math500", {"problem": "p", "unique_id": "a"}, "answer: missing"),
        ("gpqa_main", GPQA | {"Incorrect Answer 2": None}, "Incorrect Answer 2: expected some text"),
        ("mmlu", MMLU | {"answer": 4}, "answer: '4' is no index of the 4 choices"),
        ("mmlu_pro", MMLU_PRO | {"answer": "D"}, "answer: 'D' is no index of the 3 choices"),
        ("ifeval", IFEVAL | {"kwargs": [{}]}, "kwargs: expected a list with an entry for each instruction"),
        ("ifeval", IFEVAL | {"instruction_id_list": ["a", "b"]}, "instruction 'a' is not known"),
        ("bfcl_simple", BFCL, "ground_truth: missing; expected it in the row, or in possible_answer/"),
        ("bfcl_simple", BFCL | {"ground_truth": [{"fax": {}}]}, "ground_truth: expected calls of phone"),
        ("bfcl_irrelevance", BFCL | {"question": []}, "question: expected a non-empty list"),
    ],
)
def test_a_row_of_the_wrong_schema_is_named_with_its_line(name, row, message, tmp_path):
    with pytest.raises(UserError, match=message):
        read(tmp_path, name, row)


@pytest.mark.parametrize("name", [name for name in NAMES.split() if name.startswith("bfcl")])
def test_bfcl_names_the_files_it_needs(name):
    with pytest.raises(UserError, match=r"provide it with --data, as BFCL_v4_"):
        load_instances(get_scenario(name))


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("gsm8k", "gsm8k/test.jsonl"),
        ("aime24", "aime/aime2024.jsonl"),
        ("aime25", "aime/aime2025.jsonl"),
        ("mmlu", "mmlu/test"),
        ("ifeval", "ifeval/input_data.jsonl"),
        ("bfcl_simple", "bfcl/BFCL_v4_simple_python.json"),
        ("bfcl_multiple", "bfcl/BFCL_v4_multiple.json"),
        ("bfcl_parallel", "bfcl/BFCL_v4_parallel.json"),
        ("bfcl_irrelevance", "bfcl/BFCL_v4_irrelevance.json"),
    ],
)
def test_every_real_row_is_read_and_its_own_answer_is_right(name, path, datasets_folder):
    one = get_scenario(name)
    found = load_instances(one, data=str(datasets_folder / path))
    assert len(found) == one.num_rows
    if name in ("mmlu", "ifeval"):
        return
    box = r"\boxed{%s}" if name.startswith("aime") else "%s"
    wrong = [item.id for item in found if scores(name, item, box % item.correct_texts[0])[one.main] != 1.0]
    assert not wrong


@pytest.mark.real_data
def test_the_real_mmlu_has_57_subjects_with_five_examples_each(datasets_folder):
    pool = load_examples(get_scenario("mmlu"), data=str(datasets_folder / "mmlu" / "dev"))
    assert set(Counter(one.groups["subject"] for one in pool).values()) == {5}
    assert len({one.groups["subject"] for one in pool}) == 57


@pytest.mark.real_data
def test_altered_real_calls_are_wrong(datasets_folder):
    for name, file in (("bfcl_simple", "simple_python"), ("bfcl_multiple", "multiple"), ("bfcl_parallel", "parallel")):
        found = load_instances(get_scenario(name), data=str(datasets_folder / "bfcl" / f"BFCL_v4_{file}.json"))
        for number, item in enumerate(found):
            right = item.correct_texts[0]
            call, _, rest = right.partition("(")
            altered = (f"{call}_x({rest}", f"[{right[1:-1]}, {right[1:]}", f"{call}(not_a_parameter=1, {rest}", "[]")
            assert scores(name, item, altered[number % 4])["tool_calls"] == 0.0, altered[number % 4]
