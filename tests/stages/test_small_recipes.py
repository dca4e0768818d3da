"""The small recipes run from end to end, each for a step or two on a tiny model and rows in the upstream schemas."""

import functools
import gzip
import json
from importlib import import_module
from pathlib import Path

import pytest
import torch
import yaml
from tiny import tiny_model, tiny_tokenizer
from tiny_files import write_jsonl_file

from zhenlong.data import read
from zhenlong.data.row_formats import convert_row, detect_format
from zhenlong.errors import UserError
from zhenlong.feedback.demonstration_pairs import demonstration_pairs
from zhenlong.loop.atomic import write_text
from zhenlong.models import save_model
from zhenlong.objectives.preference import PREFERENCE_LOSSES
from zhenlong.recipes import shipped_recipes
from zhenlong.records import Demonstration, Ranking, Task, to_json
from zhenlong.registry import steps as known_steps
from zhenlong.stages.dpo import dpo
from zhenlong.stages.recipe import read_recipe, run
from zhenlong.stages.tool_tasks import tasks_of, tool_tasks
from zhenlong.studies.leaderboard import leaderboard
from zhenlong.verify import verify
from zhenlong.world import World

SMALL = {"steps": 1, "batch_size": 2, "rollout_prompts": 2, "samples_per_prompt": 2, "max_tokens": 8}
SIDES = {"type": "array", "items": {"type": "integer"}}
PARAMETERS = {"type": "object", "properties": {"sides": SIDES, "unit": {"type": "string"}}, "required": ["sides"]}
TOOLS = [{"name": "area", "description": "Area of a shape", "parameters": PARAMETERS}]


def glaive(sides, called=True):
    turns = [{"from": "human", "value": f"Area of {sides}?"}]
    if called:
        call = {"name": "area", "arguments": {"sides": sides}}
        turns += [{"from": "function_call", "value": json.dumps(call)}, {"from": "observation", "value": '{"area": 6}'}]
    return {"conversations": [*turns, {"from": "gpt", "value": "It is 6."}], "tools": json.dumps(TOOLS)}


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("model")
    save_model(tiny_model("llama", max_position_embeddings=1024), tiny_tokenizer(), folder / "m")
    return str(folder / "m")


@pytest.fixture(scope="module")
def datasets(tmp_path_factory) -> str:
    """A folder with a few rows of each data set that the recipes name."""
    folder = tmp_path_factory.mktemp("datasets")
    for name in ("sst", "llamafactory_demo", "gsm8k"):
        (folder / name).mkdir()
    for split in ("train", "dev", "test"):
        lines = [f"{i % 2} a {('dull', 'fine')[i % 2]} film number {i}" for i in range(12)]
        (folder / "sst" / f"stsa.binary.{split}").write_text("\n".join(lines))
    identity = [{"instruction": f"Who are you? ({i})", "input": "", "output": "I am {{name}}, by {{author}}."}
                for i in range(80)]  # fmt: skip
    (folder / "llamafactory_demo" / "identity.json").write_text(json.dumps(identity))
    calls = [glaive([i, 2], called=i % 3 > 0) for i in range(246)]
    (folder / "llamafactory_demo" / "glaive_toolcall_en_demo.json").write_text(json.dumps(calls))
    problems = [{"question": f"What is {i} + 1?", "answer": f"Add one.\n#### {i + 1}"} for i in range(6)]
    text = "".join(json.dumps(row) + "\n" for row in problems)
    (folder / "gsm8k" / "test.jsonl").write_text(text)
    (folder / "gsm8k" / "train.jsonl.gz").write_bytes(gzip.compress(text.encode()))
    return str(folder)


def shortened(name, path, **changes):
    """The recipe with the sizes of its steps cut and nothing else."""
    content = yaml.safe_load(shipped_recipes()[name].read_text())
    for step in content["steps"]:
        ((kind, options),) = step.items()
        cut = {key: value for key, value in SMALL.items() if key in options and options[key] != "{max_tokens}"}
        options.update(cut)
        if kind in ("sft", "dpo", "kto", "reward_model", "grpo", "ppo", "raft", "best_of_n", "classify"):
            options |= {"steps": 1, "progress": False, "device": "cpu", **changes.get(kind, {})}
        for key in ("tasks", "data", "heldout", "problems", "prompts", "preferences"):
            if "world:" not in str(options.get(key)):
                continue
            options[key] = options[key].replace("n=6000", "n=4").replace("n=600", "n=4")
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return str(path)


def finished(name, tmp_path, model, arguments, **changes):
    recipe = shortened(name, tmp_path / f"{name}.yaml", **changes)
    given = {"output": str(tmp_path / "out"), **({"model": model} if model else {}), **arguments}
    output = run(recipe, **given)
    assert (output / "report.html").stat().st_size > 1000
    return output, json.loads((output / "summary.json").read_text())["models"]


def test_classify(tmp_path, datasets):
    output, models = finished("classify", tmp_path, "", {"datasets": datasets})
    assert list(models) == ["encoder", "decoder", "encoder_decoder"]
    assert all(one["accuracy"]["n"] == 12 for one in models.values())
    assert len(json.loads((output / "evaluation" / "classifiers.json").read_text())["differences"]) == 2


def test_identity(tmp_path, datasets, model):
    output, models = finished(
        "identity", tmp_path, model, {"datasets": datasets, "assistant": "Ada", "max_tokens": "8"}
    )
    rankings = read(str(output / "demonstration_pairs" / "rankings.jsonl"), Ranking)
    assert {one.responses[0] for one in rankings} == {"I am Ada, by the zhenlong project."}
    assert {"reward", "preference_accuracy"} <= set(models["after"])


def test_maths(tmp_path, datasets, model):
    output, models = finished("maths", tmp_path, model, {"datasets": datasets, "max_tokens": "8", "limit": "3"})
    assert [models[name]["gsm8k"]["n"] for name in ("before", "sft", "grpo")] == [3, 3, 3]
    assert (output / "evaluation" / "report.html").exists()


def test_tools(tmp_path, datasets, model):
    output, models = finished("tools", tmp_path, model, {"datasets": datasets, "max_tokens": "8"})
    assert models["grpo"]["exact_match"]["n"] == 6
    assert json.loads((output / "grpo" / "finished.json").read_text())["steps"] == 1


def test_length_dpo(tmp_path, model):
    worlds = {"demonstrations": "world:demonstrations?n=4", "rankings": "world:rankings?n=4&length_bias=0.5",
              "heldout": "world:rankings?n=4&split=heldout", "tasks": "world:tasks?n=4&split=heldout"}  # fmt: skip
    _, models = finished("length_dpo", tmp_path, model, worlds)
    assert all("mean_response_tokens" in models[name] for name in ("sft", "dpo", "dpo_norm", "simpo"))


def test_arguments_may_name_arguments_and_keep_their_types(tmp_path):
    settings, steps = read_recipe(str(shipped_recipes()["identity"]), {"datasets": "d", "lr": "5e-6", "epochs": "3"})
    assert settings["data"] == "d/llamafactory_demo/identity.json"
    by_name = {step.name: step.options for step in steps}
    assert by_name["dpo"]["lr"] == 5e-6
    assert by_name["dpo"]["epochs"] == 3
    assert by_name["demonstration_pairs"]["template_values"] == ["name=Zhen", "author=the zhenlong project"]


def brief_model(path) -> str:
    """A tiny model that ends its answers soon: about one token in six is the end of the turn."""
    network = tiny_model("llama", max_position_embeddings=1024)
    with torch.no_grad():
        usual = network.model(torch.arange(250)[None]).last_hidden_state[0].mean(0)
        network.lm_head.weight[258] = 4 * usual / usual.square().sum()
    save_model(network, tiny_tokenizer(), path)
    return str(path)


def simulated_preferences(*, output, seed, **options):
    """What `simulate_preferences` would write if the model's answers were worth telling apart."""
    rankings = World().rankings(4, seed=seed)
    write_text(Path(output) / "rankings.jsonl", "".join(json.dumps(to_json(one)) + "\n" for one in rankings))


def self_rewarded(*, model, output, **options):
    """What `self_reward` would learn if the model could judge."""
    return dpo(model=model, data="world:rankings?n=4", output=output, steps=1, progress=False, device="cpu")


def test_methods_and_their_table(tmp_path, monkeypatch):
    """Every method for a step, and the table of it."""
    for name, stand_in in (
        ("simulate_preferences", simulated_preferences),
        ("ai_feedback", simulated_preferences),
        ("self_reward", self_rewarded),
    ):
        step = known_steps()[name]
        module, _, function = step.target.partition(":")
        monkeypatch.setattr(
            import_module(module), function, functools.wraps(step.load_step())(functools.partial(stand_in))
        )
    model = brief_model(tmp_path / "model")
    worlds = {"demonstrations": "world:demonstrations?n=4", "rankings": "world:rankings?n=4&seed={seed}",
              "more_rankings": "world:rankings?n=4&seed={seed}", "safety": "world:safety?n=4&seed={seed}",
              "general": "world:demonstrations?n=4&seed={seed}",
              "tasks": "world:tasks?n=6&seed={seed}", "heldout_tasks": "world:tasks?n=3&seed={seed}&split=heldout",
              "max_tokens": "16", "facts": "4", "model": model}  # fmt: skip
    recipe = shortened("methods", tmp_path / "methods.yaml", ppo={"update_epochs": 1})
    output = run(recipe, output=str(tmp_path / "0"), **worlds)
    text = leaderboard([str(output)], output=str(tmp_path / "table")).read_text()
    rows_found = json.loads((tmp_path / "table" / "leaderboard.json").read_text())["methods"]
    assert text.count("\n|") == len(rows_found) + 1  # the line under the titles
    shown = {"gold reward", "proxy reward", "KL", "tokens", "accuracy %", "ECE", "GFLOP", "seconds"}
    assert all(shown <= set(rows_found[name]) for name in ("dpo", "kto", "grpo", "ppo", "raft", "best_of_n"))


def test_every_method_is_measured_alike_and_from_one_model():
    _, steps = read_recipe(str(shipped_recipes()["methods"]), {"seed": "2", "output": "o"})
    by_name = {step.name: step for step in steps}
    models = by_name["evaluate_world"].options["models"]
    assert models == by_name["evaluate"].options["models"]
    assert {step.options["loss"] for step in steps if "loss" in step.options} == set(PREFERENCE_LOSSES) - {"sigmoid"}
    others = {
        "sft",
        "dpo",
        "dpo_sft",
        "kto",
        "best_of_n",
        "raft",
        "expert",
        "ppo",
        "grpo",
        "rloo",
        "dr_grpo",
        "dapo",
        "gspo",
    }
    assert others | {"derta", "judge", "dpo_ai_feedback", "self_reward"} <= set(models)
    measures = ("evaluate_world", "evaluate", "simulate_preferences", "judge_demonstrations", "ai_feedback")
    trained = {step.name: step.options["model"] for step in steps if step.kind not in measures and step.name != "sft"}
    assert trained.pop("self_reward") == "o/judge"  # the only one that has to judge
    assert set(trained.values()) == {"o/sft"}
    assert all("seed=2" in step.options["tasks"] for step in steps if "tasks" in step.options)


def test_slots_without_a_value_and_values_without_a_slot_are_refused(tmp_path, model):
    data = write_jsonl_file(tmp_path / "a.jsonl", [{"instruction": "Who?", "output": "I am {{ name }} of {{author}}."}])
    with pytest.raises(UserError, match=r"no value for \{\{author\}\}"):
        demonstration_pairs(model=model, data=data, output=str(tmp_path / "o"), template_values=["name=Ada"])
    with pytest.raises(UserError, match=r"no demonstration has \{\{town\}\}"):
        demonstration_pairs(
            model=model, data=data, output=str(tmp_path / "o"), template_values=["name=Ada", "author=B", "town=C"]
        )
    assert not (tmp_path / "o").exists()


def test_every_own_answer_ranks_below_the_demonstration(tmp_path, model):
    data = write_jsonl_file(tmp_path / "a.jsonl", [{"instruction": f"Who? {i}", "output": "Ada."} for i in range(4)])
    path = demonstration_pairs(model=model, data=data, output=str(tmp_path / "o"), samples_per_prompt=3, max_tokens=8)
    for ranking in read(str(path), Ranking):
        assert ranking.responses[0] == "Ada."
        assert ranking.pairs() == [(0, i) for i in range(1, len(ranking.responses))]


def test_tool_tasks_accept_the_demonstrated_call_and_no_other(tmp_path):
    data = write_jsonl_file(tmp_path / "a.jsonl", [glaive([2, 3]), glaive([4, 5], called=False)])
    called, silent = read(str(tool_tasks(data=data, output=str(tmp_path / "o"))), Task)
    right = '<tool_call>\n{"name": "area", "arguments": {"sides": [2, 3]}}\n</tool_call>'
    assert verify(called, right) == 1.0
    assert verify(called, right.replace("3", "4")) == 0.0
    assert verify(called, "It is 6.") == 0.0
    assert verify(silent, "It is 20.") == 1.0
    assert verify(silent, right) == 0.0
    assert called.prompt[-1].content == "Area of [2, 3]?"


def test_a_call_that_is_not_described_is_counted_and_left_out(tmp_path):
    strange = glaive([1, 2])
    strange["tools"] = json.dumps([{**TOOLS[0], "name": "volume"}])
    data = write_jsonl_file(tmp_path / "a.jsonl", [strange, glaive([2, 3])])
    tool_tasks(data=data, output=str(tmp_path / "o"))
    counts = json.loads((tmp_path / "o" / "tool_tasks.json").read_text())
    assert (counts["calls"], counts["unverifiable"]) == (1, 1)
    with pytest.raises(UserError, match="no conversation has tools"):
        tool_tasks(
            data=write_jsonl_file(tmp_path / "b.jsonl", [{"instruction": "a", "output": "b"}]),
            output=str(tmp_path / "p"),
        )


def test_later_turns_can_be_left_out():
    (row,) = (Demonstration(one.messages + one.messages[1:]) for one in [_conversation()])
    assert len(list(tasks_of(row))) == 2
    assert len(list(tasks_of(row, later_turns=False))) == 1


def _conversation():
    fields = glaive([2, 3])
    (found,) = convert_row(detect_format(fields), fields, Demonstration)
    return found
