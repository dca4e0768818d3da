"""`zhenlong evaluate`: models on scenarios, the table of their numbers, and the report."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from typing_extensions import Unpack

from zhenlong.errors import UserError
from zhenlong.evaluate.results.result_files import read_manifest
from zhenlong.evaluate.run import Evaluation, results_table, run_evaluation
from zhenlong.evaluate.run.console import cached_note
from zhenlong.evaluate.run.options import EvaluationOptions
from zhenlong.options import take_options
from zhenlong.options.keywords import EvaluationKwargs


def evaluate_command(*, model: Sequence[str], output: str, **options: Unpack[EvaluationKwargs]) -> Evaluation:
    """Evaluate models on a suite or on scenarios, with intervals; a second run asks only what is not answered yet.

    Args:
        model: A model: pocket, a model or run folder, a hub id, or openai:name@url. Give it again for each model.
        output: Folder for the numbers, every instance, the report, and the cache of answers.
    """
    (evaluation_options,) = take_options(options, EvaluationOptions())
    found = run_evaluation(list(model), output, evaluation_options)
    _print_and_report(found)
    return found


def evaluate_step(
    *, models: Mapping[str, str], output: str, **options: Unpack[EvaluationKwargs]
) -> dict[str, dict[str, Any]]:
    """The same as a step of a recipe: models by name, and files in place of a scenario's data as a mapping.

    Returns each model's main measure of each scenario, and its calibration where there is one. Raises `UserError` where
    a scenario could not be run: a recipe's table has no holes that nobody asked for.
    """
    (evaluation_options,) = take_options(options, EvaluationOptions())
    found = run_evaluation(dict(models), output, evaluation_options)
    if found.failed:
        model, scenario, reason = found.failed[0]
        raise UserError(f"scenario {scenario}{f' with {model}' if model else ''}: {reason}")
    _write_report(found)
    summary: dict[str, dict[str, Any]] = {name: {} for name in models}
    for one in found.results:
        if (one.main or one.measure == "ece_10_bin") and not one.group and not one.perturbation:
            shown = f"{one.scenario}@{one.shots}" if len(evaluation_options.shot_counts) > 1 else one.scenario
            summary[one.model][shown if one.main else f"{shown}_{one.measure}"] = one.value.as_json()
    return summary


def _print_and_report(found: Evaluation) -> None:
    """Print the table, write the report, and name on stderr what could not be run."""
    if found.results:
        print(results_table(found.results))
        for name, ledger in read_manifest(found.folder)["ledger"].items():
            if note := cached_note(name, ledger, time.time()):
                print(note)
        print(f"\n{_write_report(found)}")
    for model, scenario, reason in found.failed:
        print(f"zhenlong: failed: {scenario}{f' with {model}' if model else ''}: {reason}", file=sys.stderr)


def _write_report(found: Evaluation) -> str:
    from zhenlong.report.evaluation import write_evaluation_report

    return str(write_evaluation_report(str(found.folder)))
