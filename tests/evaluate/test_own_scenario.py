"""A scenario, a suite and a metric of the user's own; what is wrong in them is one line."""

import json

import pytest

from zhenlong.errors import UserError
from zhenlong.evaluate.results.result_files import read_results
from zhenlong.evaluate.run.scenarios_command import scenarios
from zhenlong.evaluate.run.score_command import score
from zhenlong.evaluate.run.suites import all_suites, select_entries
from zhenlong.evaluate.scenarios.scenario import all_scenarios, get_scenario

ROWS = [
    {"question": "Which tea is powdered?", "answer": "Matcha", "cups": 2},
    {"question": "Smoked?", "answer": "Lapsang", "cups": 3},
]
GRADE = """
def named(row, answer):
    return row["answer"] in answer

def several(row, answer, *, weight=1):
    found = {"cups": row["cups"] * weight}
    if answer:
        found["length"] = len(answer)
    return found

def odd(row, answer):
    return {"a number": 1}[answer] if answer == "a number" else answer

def nothing(answer):
    return 1
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A folder beside the working one with rows, a scenario and metrics; the scenario's path by its text."""
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    (folder / "grade.py").write_text(GRADE)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")

    def write(text="source: rows.jsonl\nmetrics: [grade.py:named]\n", name="tea.yaml", **files):
        for file, content in files.items():
            (folder / f"{file}.py").write_text(content)
        (folder / name).write_text(text)
        return f"../mine/{name}"

    return write


def graded(scenario, *texts, **options):
    with open("outputs.jsonl", "w") as file:
        file.writelines(json.dumps({"id": place, "output": text}) + "\n" for place, text in enumerate(texts))
    return {one.measure: one for one in score(scenario, outputs="outputs.jsonl", **options)}


def test_two_lines_are_a_scenario_with_paths_of_its_own_folder(own):
    found = graded(own(), "<think>Lapsang?</think>Matcha, I think.", "Sencha")
    assert (found["named"].value.mean, found["named"].value.n, found["named"].main) == (0.5, 2, True)
    assert found["named"].scenario == "tea"


def test_a_dict_gives_its_measures_and_options_of_the_yaml_are_keywords(own):
    options = "weight: 10, higher_is_better: false, category: toxicity"
    text = f'source: rows.jsonl\nmetrics: [{{name: "grade.py:several", {options}}}]\nmain: cups\n'
    found = graded(own(text), "four", "")
    assert found["cups"].value.mean == 25
    assert (found["length"].value.mean, found["length"].value.n) == (4, 1)  # it does not apply to the empty answer
    assert (found["cups"].higher_is_better, found["cups"].category) == (False, "toxicity")
    assert graded(own(text), "four", "", metric_option=["weight=1"])["cups"].value.mean == 2.5


def test_an_answer_that_the_function_cannot_grade_fails_alone(own):
    found = graded(
        own("source: rows.jsonl\nmetrics: [grade.py:odd, grade.py:named]\nmain: named\n"),
        "a number",
        "Lapsang",
        output="e",
    )
    assert found["named"].value.n == 1
    assert found["named"].failed == 1
    assert next(one for one in read_results("e") if one.main).failed == 1


@pytest.mark.parametrize("returned", ["'yes'", "None", "float('nan')", "[1]", "{'a': 'b'}", "{1: 2}"])
def test_a_wrong_return_on_every_row_is_one_line(returned, own):
    path = own("source: rows.jsonl\nmetrics: [bad.py:f]\n", bad=f"def f(row, answer):\n    return {returned}\n")
    with pytest.raises(
        UserError, match=r"metric .*bad.py:f: expected a finite number, true or false, or a dict"
    ) as error:
        graded(path, "x", "y")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("metrics: [exact_match]", "tea.yaml: source is missing"),
        ("source: rows.jsonl", "tea.yaml: metrics is missing"),
        (
            "source: rows.jsonl\nmetrics: [exact_matsch]",
            "tea.yaml: metric 'exact_matsch' is not known; did you mean exact_match",
        ),
        (
            "source: rows.jsonl\nmetrics: [exact_match]\nadaptor: {}",
            "tea.yaml: no key adaptor; expected some of adapter",
        ),
        ("source: rows.jsonl\nmetrics: exact_match\nmain: a", "tea.yaml: metrics: expected a list, got 'exact_match'"),
        (
            "source: rows.jsonl\nmetrics: [exact_match]\nadapter: {method: talk}",
            "tea.yaml: adapter: method 'talk' is not known",
        ),
        (
            "source: rows.jsonl\nmetrics: [exact_match]\nperturbations: [typo]",
            "tea.yaml: perturbations: expected some of robustness",
        ),
        ("source: rows.jsonl\nmetrics: [grade.py:missing]", "grade.py has no function 'missing'"),
        ("source: rows.jsonl\nmetrics: [none.py:f]", "tea.yaml: metric .*none.py:f: no file"),
        (
            "source: rows.jsonl\nmetrics: [broken.py:f]",
            "broken.py cannot be run .ModuleNotFoundError: No module named 'nowhere'",
        ),
        (
            "source: rows.jsonl\nmetrics: [grade.py:nothing]",
            r"expected a function of \(row, answer\), got nothing\(answer\)",
        ),
        ("source: rows.jsonl\nmetrics: [{name: 'grade.py:named', loud: 1}]", "no option loud; expected none"),
        (
            "source: rows.jsonl\nmetrics: [{name: 'grade.py:named', category: fun}]",
            "category: expected one of accuracy",
        ),
        (
            "source: rows.jsonl\nmetrics: [[1]]",
            r"tea.yaml: metrics: expected names, or mappings with a name, got \[1\]",
        ),
        ("name: gsm8k\nsource: rows.jsonl\nmetrics: [exact_match]", "gsm8k is a built-in scenario"),
        ("- a", "tea.yaml: expected a mapping of keys, got list"),
        ("a: [", "tea.yaml: not valid YAML"),
    ],
)
def test_an_error_in_the_file_is_one_line_that_names_it(text, expected, own):
    path = own(text, broken="import nowhere\n")
    with pytest.raises(UserError, match=expected) as error:
        get_scenario(path)
    assert "\n" not in str(error.value)
    assert "scenario " in str(error.value)


def test_a_row_without_the_field_names_file_line_and_field(own):
    path = own(
        "source: rows.jsonl\nconvert: {using: question_answer, question: ask, answer: answer}\nmetrics: [exact_match]\n"
    )
    with pytest.raises(UserError, match=r"rows.jsonl, line 1: ask: missing"):
        graded(path, "x", "y")


def test_a_scenario_without_answers_is_graded_by_the_row(own):
    convert = 'convert: {using: question_answer, question: question, answer: ""}'
    path = own(f"source: rows.jsonl\n{convert}\nmetrics: [grade.py:several]\nmain: cups\n")
    assert graded(path, "x", "y")["cups"].value.mean == 2.5


def test_a_suite_of_ones_own_has_its_files_and_built_in_ones(own):
    own()
    path = own("limit: 9\nscenarios:\n  - {name: tea.yaml, limit: 1, shots: 0}\n  - bfcl_s*\n", name="suite.yaml")
    entries = {one.scenario.name: one for one in select_entries(path, [])}
    assert list(entries) == ["tea", "bfcl_simple"]
    assert (entries["tea"].limit, entries["tea"].shots, entries["bfcl_simple"].limit) == (1, (0,), 9)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("scenarios: []", "suite.yaml: scenarios: expected a list of names"),
        ("scenarios: [1]", "suite.yaml: scenarios: expected names"),
        ("scenarios: [{name: gsm8k, limits: 1}]", "suite.yaml: scenarios: no key limits; expected some of name, shots"),
        ("scenario: [gsm8k]", "suite.yaml: no key scenario; expected some of name, scenarios"),
        ("scenarios: [gsm9k]", "scenario 'gsm9k' is not known; did you mean gsm8k"),
        ("scenarios: [none.yaml]", "none.yaml: cannot be read"),
        ("[]", "suite.yaml: expected a mapping of keys"),
    ],
)
def test_an_error_in_a_suite_is_one_line(text, expected, own):
    path = own(text, name="suite.yaml")
    with pytest.raises(UserError, match=expected) as error:
        select_entries(path, [])
    assert "\n" not in str(error.value)


def test_near_names_of_suites_are_suggested():
    with pytest.raises(UserError, match="did you mean safety"):
        select_entries("savety", [])


def test_the_list_has_every_scenario_with_its_category_and_number(capsys):
    found = {one.name: one for one in scenarios()}
    assert "gsm8k" in capsys.readouterr().out
    assert found.keys() == {one.name for one in all_scenarios().values() if not one.base_scenario}
    assert (found["gsm8k"].category, found["gsm8k"].instances) == ("maths", 1319)
    assert found["world_facts"].instances == 500  # generated
    assert found["tau_bench"].data.startswith("only scored")
    assert all(one.category and one.data for one in found.values())


def test_the_list_is_chosen_by_name_pattern_category_and_suite(capsys):
    assert {one.name for one in scenarios("bfcl_*")} == {one for one in all_scenarios() if one.startswith("bfcl_")}
    assert {one.category for one in scenarios(category="code")} == {"code"}
    assert "helm_gsm8k" in {one.name for one in scenarios("gsm8k")}
    assert {one.name for one in scenarios("advbench", attacks=True)} > {"advbench"}
    assert "ifeval" in {
        one.name for one in scenarios(suite=next(one for one in all_suites() if one in get_scenario("ifeval").suites))
    }
    capsys.readouterr()
    scenarios("mmlu", category="knowledge", json=True)
    assert [one["name"] for one in json.loads(capsys.readouterr().out)] == ["mmlu", "mmlu_cloze", "mmlu_pro"]
    for wrong, expected in (
        ({"name": "mmlo"}, "did you mean mmlu"),
        ({"category": "math"}, "maths"),
        ({"suite": "hem"}, "did you mean helm"),
    ):
        with pytest.raises(UserError, match=expected):
            scenarios(**wrong)
