"""Recipes: stages and evaluations one after the other, from one YAML file.

    arguments: {output: runs/mine, model: pocket, seed: 0}
    steps:
      - sft: {model: "{model}", data: train.jsonl}
      - dpo: {model: "{sft}", data: pairs.jsonl, beta: 0.2}
      - evaluate_world: {models: {sft: "{sft}", dpo: "{dpo}"}, tasks: "world:tasks?n=400"}

A step is a stage's name and its options; `name` gives it another name than its stage's. It works in a folder of its
name below `output`, and later steps write that name in braces. Arguments are written in braces too, and the command
line sets them. Everything is checked before the first step begins. A finished step is not repeated, a broken-off one is
resumed.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml
from rich.console import Console

from zhenlong.api.folder_format import FORMAT, require_json_format
from zhenlong.errors import UserError
from zhenlong.loop.atomic import write_json
from zhenlong.loop.config import RECIPE_PROGRESS_FILE
from zhenlong.options.signature import REQUIRED, read_signature
from zhenlong.recipes import find_recipe
from zhenlong.registry import steps as known_steps
from zhenlong.report import terminal_table, write_report

_PLACEHOLDER: Final = re.compile(r"\{(\w+)\}")
_SCIENTIFIC_NOTATION: Final = re.compile(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+")


@dataclass(frozen=True)
class Step:
    """One step of a recipe: what it is called, which stage or evaluation it is, and its options, all filled in."""

    name: str
    kind: str
    options: dict[str, Any]


def run(recipe: str, **arguments: str) -> Path:
    """Run a recipe and write its summary.json and report.html.

    Args:
        recipe: YAML file, or the name of a recipe that comes with the package, such as demo.
        arguments: Values for the recipe's own arguments, such as output, model or seed.

    Returns the output folder. Raises `UserError` for an unknown argument, step or option, before anything is run.
    """
    settings, steps = read_recipe(recipe, arguments)
    output = Path(settings["output"])
    progress = _read_progress(output)
    if progress["recipe"] not in (None, _describe_steps(steps)):
        raise UserError(
            f"{output}: holds the results of another recipe or other arguments; choose another output, "
            "or give it the arguments it began with"
        )
    progress["recipe"] = _describe_steps(steps)
    console = Console(stderr=True)
    for number, step in enumerate(steps, 1):
        if step.name in progress["seconds"]:
            console.print(f"[{number}/{len(steps)}] {step.name}: done", highlight=False, markup=False)
            continue
        console.print(f"[{number}/{len(steps)}] {step.name}", highlight=False, markup=False)
        begun = time.perf_counter()
        step_measures = _run_step(step, output)
        progress["seconds"][step.name] = time.perf_counter() - begun
        for name, measures in step_measures.items():  # several evaluations may measure the same model
            progress["models"].setdefault(name, {}).update(measures)
        write_json(output / RECIPE_PROGRESS_FILE, progress)
    summary = recipe_summary(output, steps, settings, progress)
    write_json(output / "summary.json", summary)
    report = write_report(output)
    if summary["models"]:
        Console().print(terminal_table(summary))
    print(f"{report}  {output / 'summary.json'}  {summary['seconds']:.0f} s")
    return output


def read_recipe(recipe: str, arguments: Mapping[str, str]) -> tuple[dict[str, Any], list[Step]]:
    """The recipe's arguments with the given values, and its steps with everything in braces filled in."""
    try:
        loaded = yaml.safe_load(find_recipe(recipe).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{recipe}: cannot be read as YAML ({error})") from None
    if not isinstance(loaded, Mapping) or not isinstance(loaded.get("steps"), list) or not loaded["steps"]:
        raise UserError(f"{recipe}: expected arguments and a list of steps")
    settings = {"seed": 0} | dict(loaded.get("arguments") or {})
    unknown = sorted(set(arguments) - set(settings))
    if unknown:
        raise UserError(f"{recipe}: has no argument {', '.join(unknown)}; expected {', '.join(settings)}")
    settings |= {name: _parse_value(str(value)) for name, value in arguments.items()}
    missing = [name for name, value in settings.items() if value is None]
    if missing or "output" not in settings:
        needed = ", ".join(missing or ["output"])
        raise UserError(f"{recipe}: needs {needed}; give it on the command line, as --{needed.split(', ')[0]} <value>")
    names: dict[str, Any] = {"seed": settings["seed"]}
    for name, value in settings.items():  # a default may name the arguments before it, and the seed
        names[str(name)] = settings[name] = _substitute(f"{recipe}: arguments", value, names)
    steps: list[Step] = []
    for number, row in enumerate(loaded["steps"], 1):
        step = _parse_step(f"{recipe}: step {number}", row, names, settings)
        if step.name in names:
            raise UserError(f"{recipe}: step {number}: the name {step.name} is taken; give it another with name:")
        names[step.name] = str(Path(str(settings["output"])) / step.name)
        steps.append(step)
    return settings, steps


def _parse_step(place: str, row: Any, names: Mapping[str, Any], settings: Mapping[str, Any]) -> Step:
    if not isinstance(row, Mapping) or len(row) != 1 or not isinstance(next(iter(row.values())), Mapping):
        raise UserError(f"{place}: expected one stage with its options, as `sft: {{model: pocket, data: a.jsonl}}`")
    kind, given = next(iter(row.items()))
    entry = known_steps().get(kind)
    if entry is None:
        raise UserError(f"{place}: no such step {kind!r}; expected one of {', '.join(known_steps())}")
    options = {key: _substitute(place, value, names) for key, value in given.items() if key != "name"}
    signature = read_signature(entry.step_target or entry.target)
    if "seed" in signature.names:
        options.setdefault("seed", settings["seed"])
    own = {"output", "resume"} if entry.step == "stage" else {"output"}  # what the recipe itself gives
    unknown = sorted(set(options) - (set(signature.names) - own))
    if unknown:
        raise UserError(f"{place}: {kind} has no option {', '.join(unknown)}; see zhenlong {kind} --help")
    required = {one.name for one in signature.parameters if one.default is REQUIRED} - own
    if missing := sorted(required - set(options)):
        raise UserError(f"{place}: {kind} needs {', '.join(missing)}")
    return Step(str(given.get("name", kind)), kind, options)


def _substitute(place: str, value: Any, names: Mapping[str, Any]) -> Any:
    """The value with every `{name}` replaced by what it stands for; one that is nothing else keeps its type."""
    if isinstance(value, Mapping):
        return {key: _substitute(place, item, names) for key, item in value.items()}
    if isinstance(value, list):
        return [_substitute(place, item, names) for item in value]
    if not isinstance(value, str):
        return value
    unknown = sorted(set(_PLACEHOLDER.findall(value)) - set(names))
    if unknown:
        raise UserError(f"{place}: {value!r}: no such name {unknown[0]!r}; expected one of {', '.join(names)}")
    only_placeholder = _PLACEHOLDER.fullmatch(value)
    return (
        names[only_placeholder[1]] if only_placeholder else _PLACEHOLDER.sub(lambda found: str(names[found[1]]), value)
    )


def _parse_value(text: str) -> Any:
    """What YAML reads, and 1e-6 as a number, which YAML 1.1 takes for text."""
    return float(text) if _SCIENTIFIC_NOTATION.fullmatch(text) else yaml.safe_load(text)


def _run_step(step: Step, output: Path) -> dict[str, Any]:
    """Run one step; an evaluation returns each model's measures, other steps nothing."""
    entry = known_steps()[step.kind]
    function = entry.load_step()
    if entry.step == "evaluation":
        folder = step.name if step.kind == "evaluate" else "evaluation"  # a suite has a folder of its own
        return function(**step.options, output=str(output / folder))
    function(**step.options, output=str(output / step.name), **({"resume": True} if entry.step == "stage" else {}))
    return {}


def recipe_summary(
    output: Path, steps: list[Step], settings: Mapping[str, Any], progress: Mapping[str, Any]
) -> dict[str, Any]:
    """What the recipe found: seconds, seed, each reward model's held-out accuracy, and every model's measures."""
    summary: dict[str, Any] = {"seconds": sum(progress["seconds"].values()), "seed": settings["seed"]}
    for step in steps:
        if step.kind != "reward_model":
            continue
        results = json.loads((output / step.name / "finished.json").read_text(encoding="utf-8"))["results"]
        if results:
            accuracy = results["accuracy"]
            summary[step.name] = {
                "heldout_accuracy": {"mean": accuracy["mean"], "ci95": accuracy["ci95"]},
                "n": accuracy["n"],
                "by_strength": results["by_strength"],
            }
    return summary | {"models": progress["models"], "step_seconds": progress["seconds"]}


def _read_progress(output: Path) -> dict[str, Any]:
    """The steps done before, with their seconds and what they found."""
    path = output / RECIPE_PROGRESS_FILE
    if not path.exists():
        return {"format": FORMAT, "recipe": None, "seconds": {}, "models": {}}
    try:
        progress = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        raise UserError(f"{path}: is not the progress of a recipe; choose another output") from None
    require_json_format(output, progress)
    return progress


def _describe_steps(steps: list[Step]) -> list[Any]:
    return json.loads(json.dumps([[step.name, step.kind, step.options] for step in steps], default=str))
