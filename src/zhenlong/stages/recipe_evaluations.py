"""Did the model get better? Several models measured on the same held-out data, paired with a baseline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from zhenlong.data import ChatTemplate, read
from zhenlong.errors import UserError
from zhenlong.evaluate.heldout.sampled_responses import exact_match, mean_reward
from zhenlong.evaluate.heldout.text_metrics import perplexity, preference_accuracy
from zhenlong.evaluate.world.behaviour import (
    WorldResponse,
    evaluate_behaviour,
    paired_gain,
    summarise_behaviour,
    write_world_responses,
)
from zhenlong.evaluate.world.world_results import PromptWithLength, write_world_evaluation
from zhenlong.loop.atomic import write_json
from zhenlong.models import load_model
from zhenlong.models.load import load_tokenizer
from zhenlong.records import Demonstration, Ranking, Task
from zhenlong.rewards import build_reward_fn
from zhenlong.sampling import SamplingParams

Summary = dict[str, dict[str, Any]]


def evaluate_world(
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
    task_list = read(tasks, Task)
    proxy = build_reward_fn(reward) if reward else None
    reference = load_model(models[baseline])
    sampling = SamplingParams(temperature=temperature, max_tokens=max_tokens, seed=seed)
    rows: dict[str, list[WorldResponse]] = {}
    summaries: Summary = {}
    for name, model in models.items():
        rows[name] = evaluate_behaviour(
            model,
            task_list,
            reference=reference,
            reward=proxy,
            sampling=sampling,
            chat_template=chat_template,
        )
        write_world_responses(rows[name], Path(output) / f"{name}.jsonl")
        summaries[name] = summarise_behaviour(rows[name])
        if baseline in rows and name != baseline:
            summaries[name][f"gold_gain_over_{baseline}"] = paired_gain(rows[name], rows[baseline]).as_json()
    prompts = {name: _rendered_prompts(model, task_list, chat_template) for name, model in models.items()}
    settings = {"tasks": tasks, "baseline": baseline, "reward": reward, "max_tokens": max_tokens, "seed": seed}
    settings |= {"temperature": temperature, "chat_template": chat_template}
    write_world_evaluation(output, task_list, rows, prompts, settings)
    write_json(Path(output) / "summary.json", summaries)
    return summaries


def evaluate_heldout(
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
    reward_prompts = read(prompts, Task, skip_bad_rows=True, skipped=[]) if prompts else []
    reward_fn = build_reward_fn(reward) if reward else None
    reference_model = load_model(reference) if reference else None
    summaries: Summary = {}
    for name, model in models.items():
        loaded = load_model(model)
        summary: dict[str, Any] = {}
        if texts:
            summary |= perplexity(loaded, texts, chat_template=chat_template)
        if rankings:
            preference = preference_accuracy(loaded, rankings, reference=reference_model, chat_template=chat_template)
            summary["preference_accuracy"] = preference["accuracy"]
        if tasks:
            greedy = SamplingParams(temperature=0.0, max_tokens=max_tokens, seed=seed)
            solved = exact_match(loaded, tasks, sampling=greedy, chat_template=chat_template)
            summary["exact_match"] = solved["exact_match"]
        if reward_fn is not None:
            drawn = SamplingParams(max_tokens=max_tokens, seed=seed)
            summary |= mean_reward(loaded, reward_prompts, reward_fn, sampling=drawn, chat_template=chat_template)
        summaries[name] = summary
    write_json(Path(output) / "summary.json", summaries)
    return summaries


def _rendered_prompts(model: str, tasks: Sequence[Task], chat_template: str) -> list[PromptWithLength]:
    """Each task's prompt as the model sees it, and its tokens."""
    tokenizer = load_tokenizer(model)
    template = ChatTemplate.from_tokenizer(tokenizer, chat_template)
    every = [template.encode_prompt(task.prompt) for task in tasks]
    return [(str(tokenizer.decode(ids)), len(ids)) for ids in every]
