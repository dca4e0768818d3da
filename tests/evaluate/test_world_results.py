"""World rows as an evaluation: the same numbers, the exact prompts, in the standard evaluation format."""

import json

import pytest
from tiny import tiny_model, tiny_tokenizer

from zhenlong.data import ChatTemplate
from zhenlong.evaluate.results.result_files import read_manifest, read_records, read_results
from zhenlong.evaluate.world.behaviour import evaluate_behaviour, summarise_behaviour
from zhenlong.evaluate.world.world_results import SCENARIO, write_world_evaluation
from zhenlong.models import save_model
from zhenlong.report import write_report
from zhenlong.sampling import SamplingParams
from zhenlong.stages.recipe_evaluations import evaluate_world
from zhenlong.world import World

TOKENIZER = tiny_tokenizer()
NAMES = {"gold_reward": "gold_reward", "accuracy": "accuracy", "format_following": "format_following",
         "harmful_refused": "harmful_refused", "benign_compliance": "benign_compliance",
         "proxy_reward": "proxy_reward"}  # fmt: skip


def test_the_numbers_are_those_of_the_summary(tmp_path):
    tasks = World(0).tasks(40, split="heldout")
    pair = (tiny_model(), TOKENIZER)
    rows = {
        name: evaluate_behaviour(
            pair,
            tasks,
            reference=pair,
            reward=lambda a: [len(x.text) for x in a],
            sampling=SamplingParams(max_tokens=8, seed=seed),
        )
        for seed, name in enumerate(("a", "b"))
    }
    prompts = [("prompt", 7)] * len(tasks)
    write_world_evaluation(tmp_path, tasks, rows, dict.fromkeys(rows, prompts), {"seed": 0})
    results = {(one.model, one.measure): one for one in read_results(tmp_path) if not one.group}
    for model, own in rows.items():
        summary = summarise_behaviour(own)
        for name, measure in NAMES.items():
            if summary[name]["n"]:
                value = results[model, measure].value
                assert value.mean == pytest.approx(summary[name]["mean"])
                assert value.ci95 == pytest.approx(summary[name]["ci95"])
                assert value.n == summary[name]["n"]
        assert results[model, "generated_tokens"].value.mean == pytest.approx(summary["mean_response_tokens"])
        records = list(read_records(tmp_path, model, SCENARIO))
        assert [one.outputs for one in records] == [(row.response,) for row in own]
        assert [one.scores["kl"] for one in records] == [row.kl for row in own]
        assert [one.groups["family"] for one in records] == [row.family for row in own]
    assert [one.measure for one in read_results(tmp_path) if one.main] == ["gold_reward"] * 2


def test_a_recipe_step_writes_an_evaluation_next_to_its_rows(tmp_path):
    save_model(tiny_model(), TOKENIZER, tmp_path / "model")
    models = {"sft": str(tmp_path / "model"), "dpo": str(tmp_path / "model")}
    output = tmp_path / "run" / "evaluation"
    found = evaluate_world(models=models, tasks="world:tasks?n=5&split=heldout", output=str(output), max_tokens=4)
    assert json.loads((output / "summary.json").read_text()) == found
    assert "gold_gain_over_sft" in found["dpo"]
    assert read_manifest(output)["baseline"] == "sft"
    task = World(0).tasks(5, split="heldout")[0]
    ids = ChatTemplate.from_tokenizer(TOKENIZER).encode_prompt(task.prompt)
    record = next(read_records(output, "dpo", SCENARIO))
    assert record.prompt == TOKENIZER.decode(ids)
    assert record.cost["prompt_tokens"] == len(ids)
    assert "Instances" in write_report(output.parent).read_text(encoding="utf-8")
