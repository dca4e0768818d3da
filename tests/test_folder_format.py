"""Folders that another version wrote are refused with one line wherever they are read; those of this one are not."""

import json
import re

import pytest
import yaml
from evaluation_folders import records, write_evaluation
from tiny import tiny_model, tiny_tokenizer

from zhenlong.api.folder_format import FORMAT, FORMAT_NOTE, require_run_format
from zhenlong.errors import UserError
from zhenlong.evaluate.compare.compare import compare
from zhenlong.evaluate.run import evaluate
from zhenlong.loop.config import check_run_folder, write_config
from zhenlong.models import resolve_model_path, save_model
from zhenlong.report import write_report
from zhenlong.stages.recipe import run
from zhenlong.studies.leaderboard import leaderboard

CONFIG = {"model": "pocket", "seed": 0}


@pytest.fixture
def run_folder(tmp_path):
    """A run's folder with a model, as this version writes it."""
    write_config(tmp_path / "run" / "config.yaml", "sft", CONFIG)
    (tmp_path / "run" / "ledger.json").write_text("{}")
    save_model(tiny_model(), tiny_tokenizer(), tmp_path / "run" / "model")
    return tmp_path / "run"


@pytest.fixture(params=["none", "older", "newer"])
def other(request):
    """Turns a folder of this version into that of another one."""
    number = {"none": None, "older": FORMAT - 1, "newer": FORMAT + 1}[request.param]

    def change(folder):
        for path in (*folder.rglob("config.yaml"), *folder.rglob("evaluation.json"), *folder.rglob("progress.json")):
            if path.suffix == ".yaml":
                path.write_text(path.read_text().replace(FORMAT_NOTE, f"folder format {number}" if number else "sft"))
            else:
                content = json.loads(path.read_text())
                assert content.pop("format") == FORMAT
                path.write_text(json.dumps(content | ({"format": number} if number else {})))

    return change


def refused(read, folder):
    with pytest.raises(UserError) as error:
        read()
    said = str(error.value)
    assert "\n" not in said
    assert re.search(rf"{folder}: was written by .* of zhenlong, and this one reads folder format {FORMAT}; ", said), (
        said
    )


def test_a_run_is_not_resumed_reported_or_loaded(run_folder, other):
    readers = (
        lambda: check_run_folder(run_folder, CONFIG, resume=True),
        lambda: write_report(run_folder),
        lambda: write_report(run_folder.parent),  # a folder of runs
        lambda: resolve_model_path(str(run_folder)),
    )
    for read in readers:
        read()
    other(run_folder)
    for read in readers:
        refused(read, run_folder)
    assert resolve_model_path(str(run_folder / "model")) == str(run_folder / "model")


def test_an_evaluation_is_not_compared_reported_or_added_to(tmp_path, other, capsys):
    folders = [write_evaluation(tmp_path / name, {"quiz": records([1, 0, 1])}) for name in ("a", "b")]
    compare(*folders)
    write_report(folders[0])
    other(tmp_path / "a")
    refused(lambda: compare(*folders), folders[0])
    refused(lambda: compare(*reversed(folders)), folders[0])
    refused(lambda: write_report(folders[0]), folders[0])
    refused(lambda: evaluate(["pocket"], folders[0], scenario=["world_facts"], limit=1, progress=False), folders[0])


def test_a_recipe_does_not_go_on_and_is_in_no_table(tmp_path, other):
    step = {"simulate_preferences": {"model": "pocket", "tasks": "world:tasks?n=2"}}
    recipe = {"arguments": {"output": str(tmp_path / "out")}, "steps": [step]}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    out = tmp_path / "out"
    out.mkdir()
    (out / "progress.json").write_text(json.dumps({"format": FORMAT, "recipe": None, "seconds": {}, "models": {}}))
    (out / "summary.json").write_text(
        json.dumps({"seed": 0, "models": {"sft": {"gold_reward": 1.0}}, "step_seconds": {}})
    )
    other(out)
    refused(lambda: run(str(tmp_path / "recipe.yaml")), out)
    refused(lambda: write_report(out), out)
    refused(lambda: leaderboard([str(out)], output=str(tmp_path / "table")), out)


def test_what_is_no_run_is_no_matter(tmp_path):
    """A model's own folder may hold any config.yaml, and a folder without one is no run."""
    save_model(tiny_model(), tiny_tokenizer(), tmp_path / "model")
    (tmp_path / "model" / "config.yaml").write_text("made_by: another program\n")
    assert resolve_model_path(str(tmp_path / "model")) == str(tmp_path / "model")
    require_run_format(tmp_path)
