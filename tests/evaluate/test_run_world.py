"""The world's scenarios equal the metrics that training reports, and the command runs them end to end."""

import json

import pytest
from tiny_files import model_folder

from zhenlong.cli import main
from zhenlong.evaluate import closed_book_accuracy, evaluate_behaviour, summarise_behaviour
from zhenlong.evaluate.results.result_files import read_manifest, read_results
from zhenlong.evaluate.run import evaluate
from zhenlong.evaluate.scenarios.instances import load_instances
from zhenlong.evaluate.scenarios.scenario import get_scenario
from zhenlong.sampling import SamplingParams
from zhenlong.world import World


def numbers(found, scenario):
    return {one.measure: one.value for one in found.results if one.scenario == scenario and not one.group}


def sampled(items, scenario, limit):
    """The items that the limit leaves of a scenario whose ids are their places."""
    return [items[int(one.id)] for one in load_instances(get_scenario(scenario), limit=limit)]


def test_facts_score_equals_closed_book_accuracy(tmp_path):
    found = numbers(evaluate(["pocket"], tmp_path / "e", scenario=["world_facts"], limit=60), "world_facts")
    truth = closed_book_accuracy("pocket", sampled(World(0).closed_book(500, 0), "world_facts", 60))
    assert found["exact_match"].as_json() == truth["accuracy"]
    assert found["exact_match"].mean > 0.5  # pocket knows its world


def test_tasks_score_equals_evaluate_behaviour(tmp_path):
    found = numbers(evaluate(["pocket"], tmp_path / "e", scenario=["world_tasks"], limit=30), "world_tasks")
    tasks = sampled(World(0).tasks(400, 0, "heldout"), "world_tasks", 30)
    greedy = SamplingParams(max_tokens=64, temperature=0.0)
    truth = summarise_behaviour(evaluate_behaviour("pocket", tasks, sampling=greedy))
    for ours, theirs in (("gold_reward", "gold_reward"), ("accuracy", "accuracy"),
                         ("format_following", "format_following"), ("harmful_refused", "harmful_refused")):  # fmt: skip
        if truth[theirs]["n"]:
            assert found[ours].as_json() == truth[theirs]


def test_the_quick_suite_from_the_command_line_to_the_report(tmp_path, capsys):
    model, folder = model_folder(tmp_path / "tiny", max_position_embeddings=2048), tmp_path / "e"
    arguments = ["evaluate", "--model", model, "--suite", "quick", "--limit", "3", "--output", str(folder),
                 "--device", "cpu", "--max_tokens", "4"]  # fmt: skip
    main(arguments)
    said = capsys.readouterr().out
    assert "world_facts" in said
    assert "worst_case/robustness" in said
    asked = read_manifest(folder)
    assert asked["failed"] == []
    assert asked["models"][model]["chat_template"] == "auto"
    found = read_results(folder)
    assert {one.scenario for one in found} == set(asked["scenarios"])
    assert all(one.value.n <= 3 for one in found)
    assert (folder / "report.html").is_file()
    before = (folder / "results.json").read_text()
    main(arguments)  # from the cache, with the costs as measured before
    assert (folder / "results.json").read_text() == before


def test_several_models_in_one_command_and_exit_code_1_if_a_scenario_could_not_run(tmp_path, capsys):
    models = [model_folder(tmp_path / name, seed=seed) for seed, name in enumerate(("one", "two"))]
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"prompt": "a", "choices": ["b"], "answer": 3, "family": "x"}) + "\n")
    with pytest.raises(SystemExit) as ended:
        main(["evaluate", "--model", models[0], "--model", models[1], "--scenario", "world_facts", "--scenario",
              "world_tasks", "--output", str(tmp_path / "e"), "--limit", "2", "--data", f"world_facts={rows}",
              "--max_tokens", "2", "--device", "cpu"])  # fmt: skip
    assert ended.value.code == 1
    said = capsys.readouterr()
    assert "failed: world_facts" in said.err
    assert "rows.jsonl, line 1" in said.err
    assert {one.model for one in read_results(tmp_path / "e")} == set(models)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (["--scenario", "world_fact"], "did you mean world_facts"),
        (["--scenario", "world_facts", "--shots", "two"], "--shots two"),
        (["--scenario", "world_facts", "--data", "rows.jsonl"], "expected name=path"),
        ([], "suites are"),
    ],
)
def test_a_wrong_option_is_one_line_with_exit_code_2(tmp_path, capsys, wrong, said):
    with pytest.raises(SystemExit) as ended:
        main(["evaluate", "--model", "pocket", "--output", str(tmp_path / "e"), *wrong])
    assert ended.value.code == 2
    assert said in capsys.readouterr().err
