"""Recorded outputs are scored by a scenario's metrics; an invalid row is a one-line error."""

import json
import math
from pathlib import Path

import pytest

from zhenlong.cli import main
from zhenlong.errors import UserError
from zhenlong.evaluate.adapters.spec import Adapter
from zhenlong.evaluate.compare.compare import compare
from zhenlong.evaluate.results.instance import Instance, Reference
from zhenlong.evaluate.results.result_files import read_manifest, read_records, read_results
from zhenlong.evaluate.run.recorded_outputs import MISSING_OUTPUT, MatchingOptions, read_recorded_outputs
from zhenlong.evaluate.run.score_command import score, with_metric_option
from zhenlong.evaluate.scenarios.scenario import Scenario, all_scenarios

CHOICES = [
    {"question": f"What is {n} + 1?", "subject": "sums", "choices": ["0", "1", str(n + 1), "none"], "answer": 2}
    for n in range(5, 9)
]


def scenario(method="generation", **adapter):
    reading = ({"using": "question_answer"},)
    return Scenario("quiz", "Quiz", "none", reading, ("exact_match",), "exact_match", Adapter(method, **adapter))


INSTANCES = [Instance(id_, "q", (Reference("red"), Reference("blue", False))) for id_ in ("a", "b", "3")]


@pytest.fixture
def outcomes(tmp_path):
    """Read rows as the outputs of the three instances; missing ones are filled in."""

    def run(*rows, chosen=None, instances=INSTANCES, allow_missing=False, fill=True):
        given = {str(row.get("id")) for row in rows if isinstance(row, dict)}
        rest = [{"id": one.id, "output": "?"} for one in instances if fill and one.id not in given]
        path = tmp_path / "o.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in [*rows, *rest]))
        return read_recorded_outputs(chosen or scenario(), instances, path, MatchingOptions(allow_missing)).outcomes

    return run


def test_rows_are_matched_by_id_in_any_order(outcomes):
    found = outcomes({"id": 3, "output": "three"}, {"id": "b", "output": "two"}, {"id": "a", "output": "one"})
    assert [(one.instance.id, one.text) for one in found] == [("a", "one"), ("b", "two"), ("3", "three")]


def test_several_outputs_and_turns(outcomes):
    talk = [Instance("a", "q", turns=("and then?",)), *INSTANCES[1:]]
    one, other, third = outcomes(
        {"id": "a", "turns": ["first", "second"]}, {"id": "b", "outputs": ["x", "y"]}, instances=talk
    )
    assert (one.text, one.outputs[0].turns) == ("first", ("second",))
    assert [output.text for output in other.outputs] == ["x", "y"]
    assert third.text == "?"


def test_other_fields_of_a_row_are_recorded(outcomes):
    found = outcomes({"id": "a", "output": "x", "log_prob": -1.5, "truncated": True, "verdict": "A>B", "note": None})[0]
    assert found.metadata == {"verdict": "A>B", "note": None}  # null: an unparsed verdict
    assert (found.outputs[0].log_prob, found.outputs[0].truncated) == (-1.5, True)


def test_the_prediction_is_the_most_likely_choice_by_the_scenarios_rule(outcomes):
    row = {"id": "a", "choice_log_probs": [-4.0, -3.0], "choice_tokens": [4, 1], "choice_baseline": [-5.0, -2.0]}
    predicted = {
        method: outcomes(row, chosen=scenario(f"multiple_choice_{method}"))[0].predicted
        for method in ("joint", "separate", "calibrated")
    }
    assert predicted == {"joint": 1, "separate": 0, "calibrated": 0}
    plain = {"id": "a", "choice_log_probs": [-4.0, -3.0]}
    assert outcomes(plain, chosen=scenario("multiple_choice_separate"))[0].predicted == 1
    assert outcomes(row, chosen=scenario("multiple_choice_separate", normalise_by="none"))[0].predicted == 1


@pytest.mark.parametrize(
    ("said", "place"),
    [("A", 0), (" B.", 1), ("(b) blue", 1), ("red or blue", None), ("(B) it is", 1), ("blue", 1), ("green", None)],
)
def test_a_text_names_a_choice_by_letter_or_by_its_text(said, place, outcomes):
    assert outcomes({"id": "a", "output": said}, chosen=scenario("multiple_choice_joint"))[0].predicted == place


def test_no_choice_is_parsed_if_the_scenario_requests_text(outcomes):
    assert outcomes({"id": "a", "output": "A"})[0].predicted is None


def test_no_choice_is_predicted_if_all_have_probability_zero(outcomes):
    assert outcomes({"id": "a", "choice_log_probs": [-math.inf, -math.inf]})[0].predicted is None


def test_the_instances_own_text_has_its_log_probability(outcomes):
    found = outcomes({"id": "a", "text_log_prob": -20.0, "text_tokens": 7}, chosen=scenario("language_modelling"))[0]
    assert (found.text_log_prob, found.text_tokens) == (-20.0, 7)


def test_a_row_may_record_a_failure(outcomes):
    assert outcomes({"id": "a", "failed": "timed out"})[0].failed == "timed out"


def test_missing_ids_are_an_error_or_counted(outcomes):
    with pytest.raises(UserError, match=r"o.jsonl: 2 of 3 ids have no row: b, 3; .*--allow-missing"):
        outcomes({"id": "a", "output": "x"}, fill=False)
    found = outcomes({"id": "a", "output": "x"}, fill=False, allow_missing=True)
    assert [one.failed for one in found] == ["", MISSING_OUTPUT, MISSING_OUTPUT]


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"output": "x"}, "line 2: id: expected text or a whole number, got None"),
        ({"id": True, "output": "x"}, "line 2: id: expected text"),
        ({"id": "a", "output": "x"}, "line 2: duplicate id 'a' .*line 1"),
        ({"id": "z", "output": "x"}, "line 2: unknown id 'z'; quiz has 3 ids: a, b, 3"),
        ({"id": "b"}, "line 2: expected output, outputs or choice_log_probs; the fields here are id"),
        ({"id": "b", "outptu": "x"}, "line 2: expected output, .* the fields here are id, outptu"),
        ({"id": "b", "output": ["x"]}, r"line 2: output: expected text, got \['x'\] \(id 'b'\)"),
        ({"id": "b", "outputs": "x"}, "line 2: outputs: expected a list"),
        ({"id": "b", "outputs": []}, "line 2: outputs: expected a list"),
        ({"id": "b", "outputs": ["x", 3]}, "line 2: outputs: expected a list"),
        ({"id": "b", "output": "x", "outputs": ["x"]}, "line 2: expected one of output, outputs"),
        ({"id": "b", "turns": ["x", "y"]}, "line 2: turns: expected 1 responses, got 2"),
        (
            {"id": "b", "choice_log_probs": [-1]},
            "line 2: choice_log_probs: expected a list of 2 numbers.*got 1 of them",
        ),
        ({"id": "b", "choice_log_probs": [-1, "x"]}, "line 2: choice_log_probs: expected a number, got 'x'"),
        ({"id": "b", "choice_log_probs": [-1, math.nan]}, "line 2: choice_log_probs: expected a number, got nan"),
        ({"id": "b", "output": "x", "log_prob": "low"}, "line 2: log_prob: expected a number"),
        ({"id": "b", "output": "x", "truncated": 1}, "line 2: truncated: expected true or false"),
        ([1], "line 2: "),
    ],
)
def test_an_invalid_row_is_an_error_with_its_location(row, expected, outcomes):
    with pytest.raises(UserError, match=expected) as error:
        outcomes({"id": "a", "output": "first"}, row)
    assert "\n" not in str(error.value)


@pytest.fixture
def files(tmp_path):
    """The questions, and outputs of which three are right and one is wrong."""
    data, outputs = tmp_path / "questions.jsonl", tmp_path / "robot.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in CHOICES))
    said = ["C", "C.", "B"]
    rows = [{"id": number, "output": text} for number, text in enumerate(said)]
    rows.append({"id": 3, "choice_log_probs": [-3, -2, -1, -4]})
    outputs.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {"data": str(data), "outputs": str(outputs)}


def test_the_command_prints_a_table_and_makes_an_evaluation(files, tmp_path, capsys):
    folder = tmp_path / "e"
    main(["score", "mmlu", "--data", files["data"], "--outputs", files["outputs"], "--output", str(folder)])
    assert "0.75" in capsys.readouterr().out
    main_result = next(one for one in read_results(folder) if one.main)
    assert (main_result.model, main_result.scenario, main_result.value.mean) == ("robot", "mmlu", 0.75)
    records = list(read_records(folder, "robot", "mmlu"))
    assert [one.scores["exact_match"] for one in records] == [1.0, 1.0, 0.0, 1.0]
    assert [one.predicted for one in records] == [2, 2, 1, 2]
    assert read_manifest(folder)["models"]["robot"]["scored"]["mmlu"]["outputs"] == files["outputs"]


def test_json_is_printed_alone(files, capsys):
    score("mmlu", **files, json=True)
    found = json.loads(capsys.readouterr().out)
    assert found["model"] == "robot"
    assert found["results"][0]["value"]["mean"] == 0.75


def test_a_folder_accepts_several_models_and_keeps_the_newest_result_of_each(files, tmp_path, capsys):
    folder = str(tmp_path / "e")
    for model in ("one", "two", "one"):
        score("mmlu", **files, output=folder, model=model)
    mains = [one for one in read_results(folder) if one.main]
    assert sorted(one.model for one in mains) == ["one", "two"]
    compare(folder, model_a="one", model_b="two")
    assert "mmlu exact_match" in capsys.readouterr().out


def test_an_error_leaves_no_folder(files, tmp_path, capsys):
    (tmp_path / "robot.jsonl").write_text('{"id": 0, "output": "C"}\n')
    with pytest.raises(SystemExit) as stop:
        main(["score", "mmlu", "--data", files["data"], "--outputs", files["outputs"], "--output", str(tmp_path / "e")])
    assert stop.value.code == 2
    assert not (tmp_path / "e").exists()
    assert capsys.readouterr().err.count("\n") == 1
    main(["score", "mmlu", "--data", files["data"], "--outputs", files["outputs"], "--allow-missing"])
    assert "3 failed" in capsys.readouterr().out


def test_a_folder_with_other_files_is_left_alone(files, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "novel.txt").write_text("chapter 1")
    with pytest.raises(UserError, match="has other files"):
        score("mmlu", **files, output=str(tmp_path / "mine"))
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["novel.txt"]


def test_an_unknown_scenario_is_an_error_with_the_closest_name(files):
    with pytest.raises(UserError, match="did you mean mmlu"):
        score("mmlo", **files)


def test_an_option_goes_to_the_metrics_that_have_it():
    with pytest.raises(UserError, match="none of its metrics has the option sandbox"):
        with_metric_option(scenario(), "sandbox", "none")
    known = Scenario(
        "c", "C", "n", ({"using": "x"},), ({"name": "calibration", "per_token": False}, "exact_match"), "x"
    )
    changed = with_metric_option(known, "unnormalised", True).metrics
    assert changed == ({"name": "calibration", "per_token": False, "unnormalised": True}, {"name": "exact_match"})


def test_options_of_metrics_are_read_as_yaml(tmp_path, capsys):
    data, outputs = tmp_path / "tasks.jsonl", tmp_path / "o.jsonl"
    row = {"task_id": "t/0", "prompt": "def f():\n", "entry_point": "f", "canonical_solution": "    return 1\n"}
    data.write_text(json.dumps({**row, "test": "def check(f):\n    assert f() == 1\n"}) + "\n")
    outputs.write_text(json.dumps({"id": "t/0", "outputs": ["    return 1\n", "    return 2\n"]}) + "\n")
    main(
        [
            "score",
            "humaneval",
            "--data",
            str(data),
            "--outputs",
            str(outputs),
            "--metric_option",
            "k=[1, 2]",
            "--sandbox",
            "none",
        ]
    )
    said = capsys.readouterr().out
    assert "pass@1" in said
    assert "pass@2" in said
    with pytest.raises(UserError, match="option 'k': expected name=value"):
        score("humaneval", data=str(data), outputs=str(outputs), metric_option=["k"])


def test_a_classifier_takes_the_place_of_the_toxicity_lexicon(tmp_path):
    data, outputs = tmp_path / "data.jsonl", tmp_path / "outputs.jsonl"
    data.write_text(json.dumps({"prompt": {"text": "You are", "toxicity": 0.1}}) + "\n")
    outputs.write_text(json.dumps({"id": "0", "output": "kind"}) + "\n")
    given = {"data": str(data), "outputs": str(outputs)}
    assert score("real_toxicity_prompts", **given)
    with pytest.raises(
        UserError, match="toxicity scorer nowhere: expected lexicon or a classifier; model nowhere: no such folder"
    ):
        score("real_toxicity_prompts", toxicity_classifier="nowhere", **given)


def test_the_page_lists_every_scenario_with_an_id_field():
    page = (Path(__file__).resolve().parents[2] / "docs" / "evaluation" / "scoring.md").read_text()
    listed = {}
    for line in page.split("| id field | scenarios |\n|---|---|\n")[1].split("\n\n")[0].splitlines():
        ids, names = (cell.strip() for cell in line.strip("|").split("|"))
        listed |= {name: ids.replace("`", "").replace(" or ", "|") for name in names.split(", ")}
    assert listed == {one.name: one.id for one in all_scenarios().values() if one.id and not one.base_scenario}
