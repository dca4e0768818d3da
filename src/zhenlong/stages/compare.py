"""Did the model get better? Several models measured on the same held-out data, paired with a baseline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from zhenlong.data import Template, read
from zhenlong.errors import UserError
from zhenlong.evaluate.behaviour import Row, evaluate_behaviour, gain, summarise, write_rows
from zhenlong.evaluate.responses import exact_match, mean_reward
from zhenlong.evaluate.text import perplexity, preference_accuracy
from zhenlong.evaluate.world_results import Prompt, write_world_evaluation
from zhenlong.loop.atomic import write_json
from zhenlong.models import load_model
from zhenlong.models.load import load_tokenizer
from zhenlong.records import Demonstration, Ranking, Task
from zhenlong.rewards import reward_from

Summary = dict[str, dict[str, Any]]


def behaviour(
    *,
    models: Mapping[str, str],
    tasks: str,
    output: str,
    baseline: str = "sft",
    reward: str = "",
    max_tokens: int = 128,
    temperature: float = 1.0,
    chat_template: str = "auto",
    seed: int = 0,
) -> Summary:
    """Compare models on tasks of the built-in world, whose gold reward is known.

    Args:
        models: Name and model of each, in the order of the table.
        tasks: Held-out tasks, such as `world:tasks?n=400&split=heldout`.
        output: Folder for the rows, one file of <name>.jsonl for each model, for summary.json, and for the same as an
            evaluation (evaluation.json, results.json, instances/), which `zhenlong compare` and the report read.
        baseline: The model that gains and the KL are measured from; those listed before it have no gain.
        reward: The proxy reward that training used; empty measures none.
        max_tokens: Longest answer.
        temperature: Sampling temperature; 1 is where the KL is unbiased.
        chat_template: The tokenizer's own (auto), or chatml, llama2, llama3 or alpaca.
        seed: Seed of the sampling.

    Every model answers the same prompts with the same random numbers. Returns the summary of each model.
    """
    if baseline not in models:
        raise UserError(f"baseline: expected one of {', '.join(models)}, got {baseline!r}")
    asked = read(tasks, Task)
    proxy = reward_from(reward) if reward else None
    reference = load_model(models[baseline])
    rows: dict[str, list[Row]] = {}
    found: Summary = {}
    for name, model in models.items():
        rows[name] = evaluate_behaviour(
            model,
            asked,
            reference=reference,
            reward=proxy,
            max_tokens=max_tokens,
            temperature=temperature,
            seed=seed,
            chat_template=chat_template,
        )
        write_rows(rows[name], Path(output) / f"{name}.jsonl")
        found[name] = summarise(rows[name])
        if baseline in rows and name != baseline:
            found[name][f"gold_gain_over_{baseline}"] = gain(rows[name], rows[baseline]).as_json()
    prompts = {name: _prompts(model, asked, chat_template) for name, model in models.items()}
    told = {"tasks": tasks, "baseline": baseline, "reward": reward, "max_tokens": max_tokens, "seed": seed}
    told |= {"temperature": temperature, "chat_template": chat_template}
    write_world_evaluation(output, asked, rows, prompts, told)
    write_json(Path(output) / "summary.json", found)
    return found


def measure(
    *,
    models: Mapping[str, str],
    output: str,
    demonstrations: str = "",
    preferences: str = "",
    problems: str = "",
    prompts: str = "",
    reward: str = "",
    reference: str = "",
    max_tokens: int = 128,
    chat_template: str = "auto",
    seed: int = 0,
) -> Summary:
    """Compare models on recorded data: each measure is taken where its data is named.

    Args:
        models: Name and model of each, in the order of the table.
        output: Folder for summary.json.
        demonstrations: Held-out demonstrations for the perplexity of their answers.
        preferences: Held-out rankings for the accuracy of the policy's implicit preference.
        problems: Tasks with verifiers for exact match, answered greedily.
        prompts: Prompts for the mean `reward` of sampled answers.
        reward: That reward.
        reference: Model that implicit preferences are taken relative to; empty takes plain log-probabilities.
        max_tokens: Longest answer.
        chat_template: The tokenizer's own (auto), or chatml, llama2, llama3 or alpaca.
        seed: Seed of the sampling.
    """
    if bool(prompts) != bool(reward):
        raise UserError("prompts and reward: expected both or neither; one alone measures nothing")
    texts = read(demonstrations, Demonstration) if demonstrations else []
    rankings = read(preferences, Ranking, skip_bad_rows=True, skipped=[]) if preferences else []
    tasks = read(problems, Task) if problems else []
    asked = read(prompts, Task, skip_bad_rows=True, skipped=[]) if prompts else []
    worth = reward_from(reward) if reward else None
    anchor = load_model(reference) if reference else None
    found: Summary = {}
    for name, model in models.items():
        subject = load_model(model)
        summary: dict[str, Any] = {}
        if texts:
            summary |= perplexity(subject, texts, chat_template=chat_template)
        if rankings:
            judged = preference_accuracy(subject, rankings, reference=anchor, chat_template=chat_template)
            summary["preference_accuracy"] = judged["accuracy"]
        if tasks:
            solved = exact_match(subject, tasks, max_tokens=max_tokens, chat_template=chat_template, seed=seed)
            summary["exact_match"] = solved["exact_match"]
        if worth is not None:
            summary |= mean_reward(subject, asked, worth, max_tokens=max_tokens, chat_template=chat_template, seed=seed)
        found[name] = summary
    write_json(Path(output) / "summary.json", found)
    return found


def _prompts(model: str, tasks: Sequence[Task], chat_template: str) -> list[Prompt]:
    """Each task's prompt as the model sees it, and its tokens."""
    tokenizer = load_tokenizer(model)
    template = Template.of(tokenizer, chat_template)
    every = [template.prompt(task.prompt) for task in tasks]
    return [(str(tokenizer.decode(ids)), len(ids)) for ids in every]
