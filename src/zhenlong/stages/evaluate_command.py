"""`zhenlong evaluate`: models on scenarios, the table of their numbers, and the report."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from zhenlong.errors import UserError
from zhenlong.evaluate.run import Evaluation, evaluate, results_table


def evaluate_command(
    *,
    model: Sequence[str],
    output: str,
    suite: str = "",
    scenario: Sequence[str] = (),
    limit: int | None = None,
    shots: str = "",
    trials: int = 1,
    seed: int = 0,
    perturbations: str = "",
    judge: str = "",
    data: Sequence[str] = (),
    examples: Sequence[str] = (),
    baseline_outputs: Sequence[str] = (),
    reference_answers: Sequence[str] = (),
    metric_option: Sequence[str] = (),
    attack_template: Sequence[str] = (),
    unsafe: bool = False,
    chat_template: str = "auto",
    as_chat: bool = False,
    max_tokens: int | None = None,
    cache: str = "",
    tokens_per_microbatch: int = 8192,
    max_num_seqs: int = 64,
    device: str = "auto",
    dtype: str = "float32",
    progress: bool = True,
) -> None:
    """Evaluate models on a suite or on scenarios, with intervals; a second run asks only what is not answered yet.

    Args:
        model: A model: pocket, a model or run folder, a hub id, or openai:name@url. Give it again for each model.
        output: Folder for the numbers, every instance, the report, and the cache of answers.
        suite: A list of scenarios: quick, world, holistic, helm, safety, chat, reasoning, code or tools.
        scenario: A scenario, a pattern such as helm_*, a YAML file, or lm_eval:<task>. Give it again for each.
        limit: Only the first so many instances of each scenario; unset takes what the suite says, else all.
        shots: In-context examples, such as 5, or 0,2,4 for several runs; unset takes what each scenario says.
        trials: Runs with other examples (the seed of their choice is the number of the trial) and other draws.
        seed: Seed of sampled answers and of generated scenarios.
        perturbations: none, all, canonical (HELM's), or names separated by commas; unset takes what the suite says.
        judge: The model that judges conversations, where a scenario needs one.
        data: A file in place of a scenario's data, as name=path. Give it again for each scenario.
        examples: A file in place of a scenario's in-context examples, as name=path.
        baseline_outputs: The answers that a judge compares with, as name=path, rows with id and output.
        reference_answers: The answers that a judge is shown as right, as name=path.
        metric_option: An option of metrics, as name=value, such as a judge's own prompt. Given to all that have it.
        attack_template: A file in place of an attack's template, as name=path, such as code_go_list=mine.txt.
        unsafe: Run programs that models wrote without isolation, where there is none.
        chat_template: The tokenizer's own (auto), chatml, llama2, llama3, alpaca, or none for plain text.
        as_chat: Put text prompts, too, as a user's turn in the chat template.
        max_tokens: Longest answer, where a scenario allows more.
        cache: File of the answers; unset is cache.sqlite in the output folder. Folders may share one.
        tokens_per_microbatch: Tokens of one forward pass when scoring; fewer need less memory.
        max_num_seqs: Answers generated at a time; fewer need less memory.
        device: Where to compute: auto, cpu, cuda, cuda:1, ...
        dtype: Type of the weights, float32, bfloat16 or float16.
        progress: Show a bar for each scenario, on a terminal.
    """
    found = evaluate(
        list(model),
        output,
        suite=suite,
        scenario=scenario,
        shots=_parse_shots(shots),
        trials=trials,
        limit=limit,
        seed=seed,
        perturbations=perturbations,
        judge=judge,
        data=_parse_assignments("data", data),
        examples=_parse_assignments("examples", examples),
        baseline_outputs=_parse_assignments("baseline_outputs", baseline_outputs),
        reference_answers=_parse_assignments("reference_answers", reference_answers),
        metric_option=_parse_options(metric_option) | ({"unsafe": True} if unsafe else {}),
        attack_template=_parse_assignments("attack_template", attack_template),
        chat_template=chat_template,
        as_chat=as_chat,
        max_tokens=max_tokens,
        cache=cache,
        tokens_per_microbatch=tokens_per_microbatch,
        max_num_seqs=max_num_seqs,
        device=device,
        dtype=dtype,
        progress=progress,
    )
    _print_and_report(found)


def evaluate_step(
    *,
    models: Mapping[str, str],
    output: str,
    suite: str = "",
    scenario: Sequence[str] = (),
    data: Mapping[str, str] | None = None,
    examples: Mapping[str, str] | None = None,
    shots: Sequence[int] = (),
    limit: int | None = None,
    perturbations: str = "",
    judge: str = "",
    unsafe: bool = False,
    chat_template: str = "auto",
    as_chat: bool = False,
    max_tokens: int | None = None,
    tokens_per_microbatch: int = 8192,
    max_num_seqs: int = 64,
    seed: int = 0,
) -> dict[str, dict[str, Any]]:
    """The same as a step of a recipe: models by name, and files in place of a scenario's data as a mapping.

    Returns each model's main measure of each scenario, and its calibration where there is one. Raises `UserError` where
    a scenario could not be run: a recipe's table has no holes that nobody asked for.
    """
    found = evaluate(
        dict(models),
        output,
        suite=suite,
        scenario=scenario,
        data=data,
        examples=examples,
        shots=shots,
        limit=limit,
        seed=seed,
        perturbations=perturbations,
        judge=judge,
        metric_option={"unsafe": True} if unsafe else {},
        chat_template=chat_template,
        as_chat=as_chat,
        max_tokens=max_tokens,
        tokens_per_microbatch=tokens_per_microbatch,
        max_num_seqs=max_num_seqs,
    )
    if found.failed:
        model, scenario, reason = found.failed[0]
        raise UserError(f"scenario {scenario}{f' with {model}' if model else ''}: {reason}")
    _write_report(found)
    summary: dict[str, dict[str, Any]] = {name: {} for name in models}
    for one in found.results:
        if (one.main or one.measure == "ece_10_bin") and not one.group and not one.perturbation:
            shown = f"{one.scenario}@{one.shots}" if len(shots) > 1 else one.scenario
            summary[one.model][shown if one.main else f"{shown}_{one.measure}"] = one.value.as_json()
    return summary


def _print_and_report(found: Evaluation) -> None:
    """Print the table and write the report; exit with 1 where a scenario could not be run."""
    if found.results:
        print(results_table(found.results))
        print(f"\n{_write_report(found)}")
    for model, scenario, reason in found.failed:
        print(f"zhenlong: failed: {scenario}{f' with {model}' if model else ''}: {reason}", file=sys.stderr)
    if found.failed:
        raise SystemExit(1)


def _write_report(found: Evaluation) -> str:
    from zhenlong.report.evaluation import write_evaluation_report

    return str(write_evaluation_report(str(found.folder)))


def _parse_shots(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(",")) if text else ()
    except ValueError:
        raise UserError(f"--shots {text}: expected a number of examples, or several such as 0,2,4") from None


def _parse_options(given: Sequence[str]) -> dict[str, Any]:
    """The values as YAML reads them: numbers, true and false, lists, words."""
    return {name: yaml.safe_load(text) for name, text in _parse_assignments("metric_option", given).items()}


def _parse_assignments(option: str, given: Sequence[str]) -> dict[str, str]:
    found = {}
    for one in given:
        name, sign, path = one.partition("=")
        if not (name and sign and path):
            raise UserError(f"--{option} {one}: expected name=path, such as gsm8k=rows.jsonl")
        found[name] = path
    return found
