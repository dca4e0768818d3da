"""From rewards without reinforcement: answer prompts, keep the answers worth imitating, fine-tune on them, repeat.

With `selection best` it is rejection-sampling fine-tuning (RAFT): the best of several answers to each prompt. With
`selection correct` it is expert iteration on tasks that can be verified: all correct answers, each once. The kept
answers are learned as the ids that were sampled, and every round samples from the model as it then is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from zhenlong.data import ChatTemplate
from zhenlong.errors import UserError
from zhenlong.forest import make_microbatches
from zhenlong.loop import Learner, Run, TrainingOptions
from zhenlong.models import save_model
from zhenlong.records import Task
from zhenlong.rewards import build_reward_fn
from zhenlong.sampling import TorchSampler
from zhenlong.stages.evaluate_during_training import with_evaluations
from zhenlong.stages.prepare_data import read_training_data
from zhenlong.stages.rollout import (
    Group,
    RolloutBuffer,
    count_sampling_cost,
    generate_rollouts,
    rollout_metrics,
    rollout_sampling,
    sample_rows,
    tokenize_prompts,
)
from zhenlong.stages.selection import best_response, correct_responses, subset
from zhenlong.stages.stage_steps import (
    load_for_training,
    optimizer_step,
    prepare_for_saving,
    resolve_max_length,
    token_loss,
)

Selection = Literal["best", "correct"]


def raft(
    *,
    model: str,
    data: str,
    output: str,
    reward: str = "verifier",
    selection: Selection = "best",
    reward_threshold: float | None = None,
    max_per_prompt: int = 4,
    samples_per_prompt: int = 8,
    rollout_prompts: int = 128,
    update_epochs: int = 1,
    keep_truncated: bool = False,
    max_tokens: int = 256,
    temperature: float = 1.0,
    overlong: Literal["error", "drop"] = "error",
    chat_template: str = "auto",
    skip_bad_rows: bool = False,
    lr: float = 1e-5,
    schedule: Literal["constant", "linear", "cosine", "wsd"] = "constant",
    **training: Any,
) -> Path:
    """Fine-tune a model on the best of its own answers, or on those that are right, round after round.

    Args:
        model: Model to start from, as a rule the SFT model: pocket, a model or run folder, or a hub id.
        data: Tasks (prompts with references): files, hf:owner/name or world:tasks.
        output: Run folder to make.
        reward: What an answer is worth: verifier, model:<folder>, or a combination such as `gate(verifier, model:rm)`.
        selection: The best answer to each prompt (RAFT), or every different one that is correct (expert iteration).
        reward_threshold: Least reward of an answer to keep; not given: none for best, 1 for correct.
        max_per_prompt: Correct answers kept per prompt and round, so that easy prompts do not dominate; 0 keeps all.
        samples_per_prompt: Responses sampled for each prompt.
        rollout_prompts: Prompts answered in a round.
        update_epochs: Times that each round's answers are learned from.
        keep_truncated: Keep answers that were cut off at max_tokens too; they do not teach to end.
        max_tokens: Longest answer.
        temperature: Sampling temperature.
        overlong: What to do with a prompt that leaves no room for max_tokens: stop with an error, or drop and count it.
        chat_template: The tokenizer's own (auto), or chatml, llama2, llama3 or alpaca.
        skip_bad_rows: Leave bad rows out, count them and list them in the run folder.
        lr: Peak learning rate.
        schedule: Learning rate after the warm-up.

    Returns the run folder. Equation: L = -1/T Σ log π(y_t | x, y_<t) over the kept answers y (Dong et al. 2023).
    """
    config = dict(locals())
    options = TrainingOptions(lr=lr, schedule=schedule, **training)
    min_reward = reward_threshold if reward_threshold is not None else (1.0 if selection == "correct" else -math.inf)
    _check_options(config)
    with Run(output, config, options, "raft") as run:
        if run.finished:
            return run.output
        tasks, order = read_training_data(run, data, Task, options)
        policy, tokenizer = load_for_training(model, options, dropout=False)
        template = ChatTemplate.from_tokenizer(tokenizer, chat_template)
        prompts = tokenize_prompts(run, tasks, order, template, resolve_max_length(policy), max_tokens, overlong)
        reward_fn = build_reward_fn(reward, device=options.device, judge_cache=run.output / "judge_cache.sqlite")
        sampler = TorchSampler(policy, tokenizer)
        num_minibatches = max(1, math.ceil(rollout_prompts / options.batch_size))
        num_buffers = math.ceil(options.epochs * prompts.order.epoch_size / rollout_prompts)
        total = options.steps or num_buffers * update_epochs * num_minibatches
        learner, buffer = Learner(policy, options, total), RolloutBuffer()
        run.track(learner=learner, order=prompts.order, buffer=buffer)
        for _ in with_evaluations(run, policy, tokenizer, run.steps(total), chat_template):
            if not buffer.pending:
                with run.eval_mode(), learner.autocast():
                    sampling = rollout_sampling(run, template, temperature, max_tokens)
                    task_indices = prompts.order.draw(rollout_prompts)
                    groups = generate_rollouts(prompts, task_indices, sampler, sampling, samples_per_prompt, reward_fn)
                count_sampling_cost(run, learner.flops, groups)
                selected = select_groups(groups, selection, min_reward, max_per_prompt, keep_truncated)
                run.log(rollout_metrics(groups) | _selection_metrics(groups, selected))
                buffer.fill(selected, update_epochs, num_minibatches, run.generator("minibatches"))
            if run.should_sample():
                run.write_samples(sample_rows(prompts.tasks, buffer.groups))
            minibatch = buffer.next_minibatch()
            if not minibatch:
                run.log({"skipped_update": 1.0})
                continue
            microbatches = make_microbatches(
                [group.tree for group in minibatch], options.tokens_per_microbatch, run.device
            )
            count, task_ids = float(sum(group.num_tokens for group in minibatch)), [one.task_index for one in minibatch]
            run.log(optimizer_step(run, learner, microbatches, partial(token_loss, policy), count, task_ids))
        return run.finish(*prepare_for_saving(policy, template), save_model)


def select_groups(
    groups: Sequence[Group], selection: Selection, min_reward: float, max_per_prompt: int, keep_truncated: bool = False
) -> list[Group]:
    """The groups that have answers to keep, with those alone. `keep_truncated` keeps truncated ones as well."""
    seen: set[tuple[int, str]] = set()
    selected = []
    for group in groups:
        if selection == "best":
            indices = [place for place in best_response(group, keep_truncated) if group.rewards[place] >= min_reward]
        else:
            indices = correct_responses(group, min_reward, max_per_prompt, seen, keep_truncated)
        if indices:
            selected.append(subset(group, indices))
    return selected


def _selection_metrics(groups: Sequence[Group], selected: Sequence[Group]) -> dict[str, float]:
    """What was kept of a round: the share of prompts, the answers, and their mean reward (none without answers)."""
    rewards = [reward for group in selected for reward in group.rewards]
    metrics = {"selected_prompt_fraction": len(selected) / len(groups), "selected_responses": float(len(rewards))}
    return metrics | ({"selected_reward": float(np.mean(rewards))} if rewards else {})


def _check_options(config: dict[str, Any]) -> None:
    for name in ("samples_per_prompt", "rollout_prompts", "update_epochs", "max_tokens"):
        if config[name] < 1:
            raise UserError(f"{name}: expected a whole number of 1 or more, got {config[name]}")
    if config["max_per_prompt"] < 0:
        raise UserError(f"max_per_prompt: expected a whole number of 0 or more, got {config['max_per_prompt']}")
    if config["reward_threshold"] is not None and not math.isfinite(config["reward_threshold"]):
        raise UserError(f"reward_threshold: expected a finite number, got {config['reward_threshold']}")
    if not 0 < config["temperature"] < math.inf:
        raise UserError(f"temperature: expected a finite number above 0, got {config['temperature']}")
