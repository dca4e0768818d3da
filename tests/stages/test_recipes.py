"""Recipes: checked before they begin, resumed where they broke off, and the shipped ones are sound."""

import functools
import json
import re
from importlib import import_module
from pathlib import Path

import pytest
import yaml
from tiny import tiny_model, tiny_tokenizer

from zhenlong.errors import UserError
from zhenlong.models import save_model
from zhenlong.recipes import recipe_description, shipped_recipes
from zhenlong.stages.recipe import read_recipe, run

SHIPPED = list(shipped_recipes().values())
NEEDED = {"real": {"datasets": "folder"}}


def write(path: Path, content: dict) -> str:
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return str(path)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("model")
    save_model(tiny_model("qwen2"), tiny_tokenizer(), folder / "qwen")
    return str(folder / "qwen")


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_recipe_is_sound(path):
    settings, steps = read_recipe(str(path), NEEDED.get(path.stem, {}))
    assert steps
    assert all(step.options.get("seed", settings["seed"]) == settings["seed"] for step in steps)
    assert re.fullmatch(r"[^#:].{10,110}", recipe_description(path))


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        ([{"sft": {"model": "pocket", "data": "a", "bata": 1}}], "sft has no option bata"),
        ([{"sft": {"model": "pocket"}}], "sft needs data"),
        ([{"sftt": {}}], "no such step 'sftt'"),
        ([{"sft": {"model": "{base}", "data": "a"}}], "no such name 'base'"),
        ([{"sft": {"model": "{sft}", "data": "a"}}], "no such name 'sft'"),
        ([{"sft": {"model": "pocket", "data": "a"}}] * 2, "the name sft is taken"),
        ([{"sft": {"model": "pocket", "data": "a"}, "dpo": {}}], "expected one stage with its options"),
        ([], "expected arguments and a list of steps"),
    ],
)
def test_a_mistake_is_found_before_anything_is_run(tmp_path, steps, said):
    path = write(tmp_path / "recipe.yaml", {"arguments": {"output": str(tmp_path / "out")}, "steps": steps})
    with pytest.raises(UserError, match=said):
        run(path)
    assert not (tmp_path / "out").exists()


def test_arguments_are_filled_in_and_missing_or_unknown_ones_are_named(tmp_path):
    steps = [{"sft": {"name": "first", "model": "{model}", "data": "x?seed={seed}", "batch_size": "{size}"}},
             {"dpo": {"model": "{first}", "data": "y"}}]  # fmt: skip
    path = write(tmp_path / "r.yaml", {"arguments": {"output": "o", "model": None, "size": 4}, "steps": steps})
    with pytest.raises(UserError, match="needs model"):
        read_recipe(path, {})
    with pytest.raises(UserError, match="has no argument modle"):
        read_recipe(path, {"modle": "m"})
    _, found = read_recipe(path, {"model": "m", "seed": "7"})
    assert found[0].options == {"model": "m", "data": "x?seed=7", "batch_size": 4, "seed": 7}
    assert found[1].options["model"] == str(Path("o") / "first")


def test_a_broken_off_recipe_goes_on_where_it_stopped(tmp_path, model, monkeypatch):
    sft = {"model": model, "data": "world:demonstrations?n=8", "steps": 2, "batch_size": 4, "progress": False}
    dpo = {"model": "{sft}", "data": "world:rankings?n=8", "steps": 2, "batch_size": 4, "progress": False}
    content = {"arguments": {"output": str(tmp_path / "out")}, "steps": [{"sft": sft}, {"dpo": dpo}]}
    path = write(tmp_path / "r.yaml", content)
    dpo_stage = import_module("zhenlong.stages.dpo")

    @functools.wraps(dpo_stage.dpo)
    def broken(**options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(dpo_stage, "dpo", broken)
        with pytest.raises(KeyboardInterrupt):
            run(path)
    trained = (tmp_path / "out" / "sft" / "model" / "model.safetensors").stat().st_mtime_ns
    run(path)
    assert (tmp_path / "out" / "sft" / "model" / "model.safetensors").stat().st_mtime_ns == trained
    assert {"seconds", "seed", "models"} <= set(json.loads((tmp_path / "out" / "summary.json").read_text()))
    assert (tmp_path / "out" / "report.html").stat().st_size > 1000
    with pytest.raises(UserError, match="another recipe or other arguments"):
        run(path, seed="5")


def rows(path: Path, found: list[dict]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in found))
    return str(path)


def turns(*texts: str) -> list[dict]:
    return [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts)]


def test_the_one_gpu_recipe_runs_on_its_architecture_and_row_formats(tmp_path, model):
    """qwen.yaml with a random model of that family and rows in the upstream schemas; only the sizes are cut."""
    content = yaml.safe_load((SHIPPED[0].parent / "qwen.yaml").read_text())
    alpaca = [
        {"instruction": f"Say {w}.", "input": "", "output": w, "text": f"Say {w}. {w}"} for w in ("a", "b", "c", "d")
    ]
    dialogue = "\n\nHuman: Say {0}.\n\nAssistant: {1}"
    hh = [{"chosen": dialogue.format(w, w), "rejected": dialogue.format(w, "no")} for w in ("a", "b", "c", "d")]
    binarized = [
        {
            "chosen": turns(f"Say {w}.", w),
            "rejected": turns(f"Say {w}.", "no"),
            "score_chosen": 8.0,
            "score_rejected": 2.0,
        }
        for w in ("a", "b", "c", "d")
    ]
    gsm8k = [{"question": f"What is {i} + 1?", "answer": f"Add one.\n#### {i + 1}"} for i in range(4)]
    files = {"demonstrations": alpaca, "preferences": hh, "pairs": binarized, "problems": gsm8k}
    arguments = {"output": str(tmp_path / "out"), "model": model}
    for name, found in files.items():
        arguments[name] = arguments[f"heldout_{name}"] = rows(tmp_path / f"{name}.jsonl", found)
    for step in content["steps"]:
        ((kind, options),) = step.items()
        small = {"steps": 1, "batch_size": 2, "epochs": 1, "progress": False, "max_length": 512}
        options.update({key: value for key, value in small.items() if key in options or key == "progress"})
        options.update({key: 8 for key in ("max_tokens",) if key in options})
        options.update({key: 2 for key in ("rollout_prompts", "samples_per_prompt") if key in options})
        if kind in ("sft", "reward_model", "dpo"):
            options["steps"] = 1
        if kind == "evaluate_heldout":
            del options["progress"]
    run(write(tmp_path / "qwen.yaml", content), **arguments)
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert list(summary["models"]) == ["base", "sft", "dpo", "ppo", "grpo"]
    assert {"perplexity", "preference_accuracy", "exact_match", "reward"} <= set(summary["models"]["grpo"])
