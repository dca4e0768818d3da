"""The tutorial works: it is followed from top to bottom in one folder, with the least work in each step."""

import re

import yaml
from pages import ROOT
from walkthrough import SMALL, blocks, walk

from zhenlong.cli import main

TUTORIAL = ROOT / "docs" / "tutorial.md"
RECIPE = ROOT / "src" / "zhenlong" / "recipes" / "demo.yaml"
QUESTIONS = ("--limit=20", "--max_tokens=4", "--progress=false")  # so many that each rule of the gate has some
LEAST = {"steps": 1, "batch_size": 4, "rollout_prompts": 4, "samples_per_prompt": 2, "max_tokens": 4}


def shortened_demo():
    """The demo's recipe with one optimiser step in each stage, a few rows, and the world's rankings alone.

    A model of one step says nothing that annotators could rank.
    """
    text = re.sub(r"n=\d+", "n=8", RECIPE.read_text(encoding="utf-8"))
    text = re.sub(r'\{simulate_\w+\}/rankings.jsonl(,[^"\s]*)?', "world:rankings?n=8", text)
    recipe = yaml.safe_load(text)
    recipe["steps"] = [step for step in recipe["steps"] if "simulate_preferences" not in step]
    for step in recipe["steps"]:
        for options in step.values():
            options.pop("epochs", None)
            steps = {"steps": 1} if "lr" in options else {}
            options |= steps | {name: value for name, value in LEAST.items() if name in options}
    return recipe


def test_the_tutorial_can_be_followed(tmp_path, monkeypatch):
    def make_demo():
        (tmp_path / "demo.yaml").write_text(yaml.safe_dump(shortened_demo(), sort_keys=False), encoding="utf-8")
        main(["run", "demo.yaml"])

    monkeypatch.chdir(tmp_path)
    instead = {"make demo": make_demo, "source .venv/bin/activate": lambda: None}
    ran = walk(TUTORIAL, tmp_path, instead, {**SMALL, "evaluate": QUESTIONS})
    assert set(ran) == {"sample", "data", "sft", "evaluate", "compare", "gate"}
    assert (tmp_path / "runs" / "demo" / "report.html").is_file()
    assert (tmp_path / "runs" / "evaluation" / "report.html").is_file()


def test_the_last_rules_are_the_first_ones_and_one_more():
    first, last = (block.text for block in blocks(TUTORIAL) if block.file == "gate.yaml")
    assert last.startswith(first)
    assert len(yaml.safe_load(last)["rules"]) == len(yaml.safe_load(first)["rules"]) + 1


def test_training_sees_none_of_the_questions_that_are_measured():
    rows = {block.file: set(block.text.splitlines()) for block in blocks(TUTORIAL) if block.file.endswith(".jsonl")}
    assert rows["tea.jsonl"].isdisjoint(rows["tea-test.jsonl"])
