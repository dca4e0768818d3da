"""Every command of the tutorial runs, in order, in one folder; only the amounts of work are smaller."""

import re
import shlex
import subprocess

import pytest
import yaml
from pages import ROOT, fences

from zhenlong.cli import main

TUTORIAL = ROOT / "docs" / "tutorial.md"
SHORTER = [  # patterns in a command, and what the test runs instead
    (r"--epochs \d+", "--steps 1"),
    (r"--steps \d+", "--steps 1"),
    (r"\?n=\d+", "?n=20"),
    (r"^(zhenlong evaluate .*)$", r"\1 --limit 12 --max_tokens 4"),
    (r"^(zhenlong sample .*)$", r"\1 --max_tokens 4"),
]
STEP_OPTIONS = {"steps": 1, "batch_size": 4, "rollout_prompts": 4, "samples_per_prompt": 2, "max_tokens": 4}


def commands():
    """The tutorial's commands one by one; a here-document belongs to the command that it follows."""
    text = "\n".join(fences(TUTORIAL, "sh")).replace("\\\n", " ")
    return re.findall(r"^(.*<<'END'\n(?:.*\n)*?END|.+)$", text, re.MULTILINE)


def shortened_demo():
    """The demo's recipe with its steps, models and names, and the least work in each step."""
    text = re.sub(r"n=\d+", "n=8", (ROOT / "recipes" / "demo.yaml").read_text(encoding="utf-8"))
    text = re.sub(r'\{simulate_\w+\}/rankings.jsonl(,[^"\s]*)?', "world:rankings?n=8", text)
    recipe = yaml.safe_load(text)  # a model of one step says nothing that annotators could rank
    recipe["steps"] = [step for step in recipe["steps"] if "simulate_preferences" not in step]
    for step in recipe["steps"]:
        for options in step.values():
            options.pop("epochs", None)
            options |= {name: value for name, value in STEP_OPTIONS.items() if name in options}
            if "lr" in options:
                options["steps"] = 1
    return recipe


def run(command):
    """Run one command of the tutorial; its exit code."""
    if command == "make demo":
        with open("demo.yaml", "w", encoding="utf-8") as file:
            yaml.safe_dump(shortened_demo(), file, sort_keys=False)
        command = "zhenlong run demo.yaml"
    for pattern, shorter in SHORTER:
        command = re.sub(pattern, shorter, command)
    if not command.startswith("zhenlong"):
        return subprocess.run(["bash", "-c", command], check=False).returncode
    arguments = re.split(r"\s(?:\|\||&&)\s", command)[0]
    try:
        main(shlex.split(arguments)[1:])
    except SystemExit as stop:
        return stop.code or 0
    return 0


def test_every_command_of_the_tutorial_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = [one for one in commands() if not one.startswith("source ")]
    assert {one.split()[1] for one in found if one.startswith("zhenlong")} >= {"sft", "evaluate", "compare", "gate"}
    for command in found:
        allowed = (0, 1) if command.startswith("zhenlong gate") else (0,)  # a gate's verdict needs the whole training
        assert run(command) in allowed, command
    assert (tmp_path / "runs" / "evaluation" / "report.html").is_file()
    assert len(yaml.safe_load((tmp_path / "gate.yaml").read_text())["rules"]) == 4


def test_the_shortened_demo_makes_every_model_that_the_tutorial_uses():
    names = {options.get("name", name) for step in shortened_demo()["steps"] for name, options in step.items()}
    used = set(re.findall(r"runs/demo/(\w+)(?![\w.])", "\n".join(fences(TUTORIAL, "sh"))))
    assert used
    assert used <= names


@pytest.mark.parametrize("page", ["README.md", "docs/tutorial.md"])
def test_the_pictures_are_there(page):
    path = ROOT / page
    pictures = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", path.read_text(encoding="utf-8"))
    assert all((path.parent / one).is_file() for one in pictures)
