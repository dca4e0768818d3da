"""The evaluation run: models x scenarios x shots x trials x perturbations in one folder, resumed and extended."""

import json
import math
from importlib import import_module

import pytest
from scripted_backend import Killed, ScriptedBackend

from zhenlong.errors import UserError
from zhenlong.evaluate.results.result_files import read_manifest, read_records, read_results
from zhenlong.evaluate.run import evaluate, prepare, results_table, suites
from zhenlong.evaluate.run.options import EvaluationOptions
from zhenlong.evaluate.scenarios.scenario import parse_scenario

scenarios = import_module("zhenlong.evaluate.scenarios.scenario")  # the package has a function of that name
YAML = {
    "title": "A test",
    "source": "",
    "convert": {"using": "question_answer", "question": "question", "answer": "answer", "groups": {"kind": "kind"}},
    "adapter": {"max_tokens": 5, "input_prefix": "Q: ", "output_prefix": "A: "},
    "metrics": ["exact_match"],
    "main": "exact_match",
}


@pytest.fixture
def known(tmp_path, monkeypatch):
    """The test's own scenarios: `capitals`, with examples and groups, and `missing`, without data."""
    rows = [{"question": f"Capital of land {n}?", "answer": f"Town {n % 3}", "kind": "ab"[n % 2]} for n in range(8)]
    for name, part in (("rows", rows[:5]), ("pool", rows[5:])):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    own = [
        YAML | {"name": "capitals", "source": str(tmp_path / "rows.jsonl"), "examples": str(tmp_path / "pool.jsonl")},
        YAML | {"name": "missing", "source": str(tmp_path / "none.jsonl")},
        YAML | {"name": "plain", "source": str(tmp_path / "rows.jsonl")},
        YAML | {"name": "judged", "source": str(tmp_path / "rows.jsonl"), "judge": True},
        YAML | {"name": "choices", "source": str(tmp_path / "rows.jsonl"), "adapter": {"method": "ranking"}},
    ]
    found = {one["name"]: parse_scenario(one, one["name"]) for one in own}
    monkeypatch.setattr(scenarios, "all_scenarios", lambda: found)
    monkeypatch.setattr(suites, "all_scenarios", lambda: found)
    return found


def right(request):
    """The right answer of the rows: the capital of land n is town n mod 3."""
    number = int(request.prompt.rsplit("land ", 1)[1][0])
    return f" Town {number % 3}"


def value(found, model="stand-in", scenario="capitals", measure="exact_match", **where):
    rest = {"perturbation": "", "group": "", **where}
    (one,) = [
        one
        for one in found.results
        if (one.model, one.scenario, one.measure) == (model, scenario, measure)
        and all(getattr(one, name) == given for name, given in rest.items())
    ]
    return one


def test_numbers_groups_records_and_costs_of_a_run(known, tmp_path):
    wrong_at_3 = ScriptedBackend(lambda request: "no" if "land 3" in request.prompt else right(request))
    found = evaluate([wrong_at_3], tmp_path / "e", scenario=["capitals"], shots=[0])
    assert (value(found).value.mean, value(found).value.n, value(found).main) == (0.8, 5, True)
    assert value(found, group="kind=a").value.mean == 1.0
    assert value(found, group="kind=b").value.mean == 0.5
    assert value(found, measure="seconds_per_request").value.mean == 0.5
    records = list(read_records(tmp_path / "e", "stand-in", "capitals"))
    assert [one.scores["exact_match"] for one in records] == [1, 1, 1, 0, 1]
    assert records[3].prompt == "Q: Capital of land 3?\nA:"
    assert read_results(tmp_path / "e") == list(found.results) or len(read_results(tmp_path / "e")) == len(
        found.results
    )
    assert list(read_manifest(tmp_path / "e")["models"]) == ["stand-in"]
    ledger = read_manifest(tmp_path / "e")["ledger"]["stand-in"]
    assert (ledger["requests"], ledger["from_cache"], ledger["seconds"]) == (5, 0, 2.5)
    evaluate([wrong_at_3], tmp_path / "e", scenario=["capitals"], shots=[0])
    ledger = read_manifest(tmp_path / "e")["ledger"]["stand-in"]
    assert (ledger["requests"], ledger["from_cache"], ledger["seconds"]) == (5, 5, 0.0)


def test_several_shots_are_several_results_with_that_many_examples(known, tmp_path):
    model = ScriptedBackend(right)
    found = evaluate([model], tmp_path / "e", scenario=["capitals"], shots=[0, 2, 3])
    prompts = {shots: [one.prompt for one in read_records(tmp_path / "e", "stand-in", "capitals") if one.shots == shots]
               for shots in (0, 2, 3)}  # fmt: skip
    for shots, several in prompts.items():
        assert value(found, shots=shots).value.mean == 1.0
        assert all(prompt.count("Q: ") == shots + 1 for prompt in several)
        assert len({prompt.rsplit("Q: ", 1)[0] for prompt in several}) == 1  # one set for all
    assert read_manifest(tmp_path / "e")["scenarios"]["capitals"]["shots"] == [0, 2, 3]


def test_trials_differ_in_their_examples_and_an_instance_is_the_mean_over_them(known, tmp_path):
    model = ScriptedBackend(
        lambda request: right(request) if request.prompt.startswith("Q: Capital of land 6") else "no"
    )
    found = evaluate([model], tmp_path / "e", scenario=["capitals"], shots=[1], trials=4)
    firsts = {one.prompt[:20] for one in read_records(tmp_path / "e", "stand-in", "capitals")}
    assert len(firsts) > 1
    assert value(found).value.n == 5
    share = sum(one.scores["exact_match"] for one in read_records(tmp_path / "e", "stand-in", "capitals")) / 20
    assert value(found).value.mean == pytest.approx(share)
    assert 0 < share < 1


def test_the_worst_case_over_perturbations_is_per_instance(known, tmp_path):
    model = ScriptedBackend(lambda request: right(request) if "Capital" in request.prompt else "no")  # lower case: lost
    found = evaluate([model], tmp_path / "e", scenario=["capitals"], shots=[0], perturbations="lowercase")
    assert value(found).value.mean == 1.0
    assert value(found, perturbation="lowercase").value.mean == 0.0
    worst = value(found, perturbation="worst_case/robustness")
    assert (worst.value.mean, worst.category) == (0.0, "robustness")


def test_unchanged_copies_send_no_request_and_unknown_perturbations_are_errors(known, tmp_path):
    model = ScriptedBackend(right)
    evaluate([model], tmp_path / "e", scenario=["capitals"], shots=[0], perturbations="contractions")
    assert len(model.requests) == 5  # nothing to contract
    with pytest.raises(UserError, match="lowercas"):
        EvaluationOptions(perturbations="lowercas")


def test_failed_instances_are_counted_and_enter_no_mean(known, tmp_path, capsys):
    model = ScriptedBackend(lambda request: "FAIL timed out" if "land 3" in request.prompt else right(request))
    found = evaluate([model], tmp_path / "e", scenario=["capitals"], shots=[0])
    assert (value(found).value.mean, value(found).value.n, value(found).failed) == (1.0, 4, 1)
    assert "1 of 5 have no answer (id 3: timed out)" in capsys.readouterr().err
    again = ScriptedBackend(right)
    found = evaluate([again], tmp_path / "e", scenario=["capitals"], shots=[0])
    assert len(again.requests) == 1
    assert (value(found).value.n, value(found).failed) == (5, 0)


def test_a_killed_run_resumes_with_the_same_numbers(known, tmp_path):
    evaluate([ScriptedBackend(right)], tmp_path / "whole", scenario=["capitals"], shots=[0, 2])
    dying = ScriptedBackend(right, dies_at=3)
    with pytest.raises(Killed):
        evaluate([dying], tmp_path / "e", scenario=["capitals"], shots=[0, 2])
    resumed = ScriptedBackend(right)
    evaluate([resumed], tmp_path / "e", scenario=["capitals"], shots=[0, 2])
    assert len(dying.requests) == 6
    assert len(dying.requests) + len(resumed.requests) == 10
    assert not {one.prompt for one in dying.requests} & {one.prompt for one in resumed.requests}
    numbers = [(tmp_path / name / "results.json").read_text() for name in ("whole", "e")]
    assert numbers[0] == numbers[1]
    files = [(tmp_path / name / "instances" / "stand-in" / "capitals.jsonl").read_text() for name in ("whole", "e")]
    assert files[0] == files[1]


def test_a_folder_accepts_more_models_and_scenarios_but_no_other_settings(known, tmp_path):
    evaluate([ScriptedBackend(right, name="a")], tmp_path / "e", scenario=["capitals"], shots=[0])
    found = evaluate([ScriptedBackend(right, name="b")], tmp_path / "e", scenario=["capitals", "plain"], shots=[0])
    assert {(one.model, one.scenario) for one in found.results} == {
        ("a", "capitals"),
        ("b", "capitals"),
        ("b", "plain"),
    }
    with pytest.raises(UserError, match="seed 0, asked is 7"):
        evaluate([ScriptedBackend(right, name="c")], tmp_path / "e", scenario=["capitals"], shots=[0], seed=7)
    with pytest.raises(UserError, match=r"capitals with shots \[0\]"):
        evaluate([ScriptedBackend(right, name="c")], tmp_path / "e", scenario=["capitals"], shots=[2])
    assert list(read_manifest(tmp_path / "e")["models"]) == ["a", "b"]


def test_a_scenario_that_cannot_run_is_reported_and_the_others_run(known, tmp_path):
    found = evaluate([ScriptedBackend(right)], tmp_path / "e", scenario=["missing", "judged", "capitals"], shots=[0])
    assert value(found).value.mean == 1.0
    reasons = {scenario: reason for _, scenario, reason in found.failed}
    assert "none.jsonl" in reasons["missing"]
    assert "--judge" in reasons["judged"]
    assert len(read_manifest(tmp_path / "e")["failed"]) == 2


def test_data_of_the_wrong_schema_names_file_line_and_field(known, tmp_path):
    (tmp_path / "odd.jsonl").write_text('{"question": "a", "answer": "b", "kind": "c"}\n{"question": "a"}\n')
    data = {"capitals": str(tmp_path / "odd.jsonl")}
    found = evaluate([ScriptedBackend()], tmp_path / "e", scenario=["capitals"], shots=[0], data=data)
    ((_, _, reason),) = found.failed
    assert "odd.jsonl, line 2" in reason
    assert "answer" in reason


def test_missing_or_too_few_examples_are_reported(known, tmp_path, capsys):
    found = evaluate([ScriptedBackend(right)], tmp_path / "e", scenario=["plain", "capitals"], shots=[5])
    said = capsys.readouterr().err
    assert "plain: has no examples" in said
    assert "capitals: 3 examples are all there are, 5 were asked for" in said
    assert value(found, scenario="plain").shots == 0
    assert read_manifest(tmp_path / "e")["notes"]
    bad = {"capitals": str(tmp_path / "none.jsonl")}
    found = evaluate([ScriptedBackend(right)], tmp_path / "f", scenario=["capitals"], shots=[2], examples=bad)
    assert "--examples" in found.failed[0][2]


def test_dropped_examples_are_counted_with_their_ids(known, tmp_path, capsys):
    evaluate([ScriptedBackend(right, context=26)], tmp_path / "e", scenario=["capitals"], shots=[3])
    said = capsys.readouterr().err
    assert "5 of 5 prompts did not fit with all examples; up to the last 2 were dropped (id 0, 1, 2, ...)" in said


def test_an_item_is_not_among_its_own_examples(known, tmp_path, capsys):
    rows = str(tmp_path / "rows.jsonl")
    evaluate(
        [ScriptedBackend(right)], tmp_path / "e", scenario=["capitals"], shots=[5], examples=[f"capitals={rows}"],
        perturbations="lowercase",
    )  # fmt: skip
    assert "items were among their own examples and left out there (id 0, 1, 2, ...)" in capsys.readouterr().err
    for one in read_records(tmp_path / "e", "stand-in", "capitals"):
        assert one.prompt.count("Q: ") == 5  # four examples and the question, of the changed copy too
        assert one.prompt.lower().count(f"land {one.id}?") == 1


def test_unknown_names_are_errors_with_the_closest_names(known, tmp_path):
    with pytest.raises(UserError, match="did you mean capitals"):
        evaluate([ScriptedBackend()], tmp_path / "e", scenario=["capitls"])
    with pytest.raises(UserError, match="did you mean quick"):
        evaluate([ScriptedBackend()], tmp_path / "e", suite="quik")
    with pytest.raises(UserError, match="'plain' is none of the scenarios asked for"):
        evaluate([ScriptedBackend()], tmp_path / "e", scenario=["capitals"], data={"plain": "x"})
    with pytest.raises(UserError, match="something to evaluate"):
        evaluate([ScriptedBackend()], tmp_path / "e")


def test_scoring_choices_without_log_probabilities_fails_and_says_what_to_do(known, tmp_path):
    class Mute(ScriptedBackend):
        def score(self, requests):
            raise UserError("model stand-in: no log-probabilities; use a local model")

    found = evaluate([Mute(right)], tmp_path / "e", scenario=["choices", "capitals"], shots=[0])
    assert [(scenario, "local model" in reason) for _, scenario, reason in found.failed] == [("choices", True)]
    assert value(found).value.mean == 1.0


def test_baseline_outputs_are_joined_by_id(known, tmp_path):
    (tmp_path / "base.jsonl").write_text(
        "".join(json.dumps({"id": str(n), "output": f"b{n}"}) + "\n" for n in range(5))
    )
    asked = EvaluationOptions(shots=(0,), baseline_outputs={"plain": str(tmp_path / "base.jsonl")})
    ready = prepare.prepare_scenario(suites.SuiteEntry(known["plain"]), asked)
    assert [one.data["baseline"] for one in ready.instances] == [(f"b{n}",) for n in range(5)]


def test_options_reach_the_metrics_that_have_them_and_no_others(known, tmp_path):
    with pytest.raises(UserError, match="option 'grade'"):
        evaluate([ScriptedBackend()], tmp_path / "e", scenario=["plain"], metric_option={"grade": 2})
    ready = prepare.prepare_scenario(
        suites.SuiteEntry(known["plain"]), EvaluationOptions(metric_option={"sandbox": "none"})
    )
    assert ready.scenario.metrics == ({"name": "exact_match"},)


def test_the_table_has_a_column_for_each_model_and_marks_what_is_missing(known, tmp_path):
    evaluate([ScriptedBackend(right, name="a")], tmp_path / "e", scenario=["capitals"], shots=[0])
    found = evaluate(
        [ScriptedBackend(lambda request: "FAIL x", name="b")], tmp_path / "e", scenario=["plain"], shots=[0]
    )
    head, first, second = results_table(found.results).splitlines()
    assert head.split() == ["scenario", "shots", "measure", "n", "a", "b"]
    assert first.split()[:5] == ["capitals", "0", "exact_match", "5", "1"]
    assert first.endswith("-")
    assert second.endswith("not observed, 5 failed")
    assert math.isnan(value(found, model="b", scenario="plain").value.mean)
