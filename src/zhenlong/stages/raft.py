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
from typing_extensions import Unpack

from zhenlong.data import ChatTemplate
from zhenlong.data.options import PromptOptions
from zhenlong.errors import UserError
from zhenlong.forest import make_microbatches
from zhenlong.loop import Learner, Run, TrainingOptions
from zhenlong.models import save_model
from zhenlong.models.options import ModelOptions
from zhenlong.options import take_options
from zhenlong.options.keywords import OnlineGroupKwargs
from zhenlong.records import Task
from zhenlong.rewards import build_reward_fn
from zhenlong.rewards.options import RewardOptions
from zhenlong.sampling import TorchSampler
from zhenlong.stages.evaluate_during_training import with_evaluations
from zhenlong.stages.options import GroupRolloutOptions
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
    keep_truncated: bool = False,
    **options: Unpack[OnlineGroupKwargs],
) -> Path:
    """Fine-tune a model on the best of its own answers, or on those that are right, round after round.

    Args:
        selection: The best answer to each prompt (RAFT), or every different one that is correct (expert iteration).
        reward_threshold: Least reward of an answer to keep; not given: none for best, 1 for correct.
        max_per_prompt: Correct answers kept per prompt and round, so that easy prompts do not dominate; 0 keeps all.
        keep_truncated: Keep answers that were cut off at max_tokens too; they do not teach to end.

    Returns the run folder. Equation: L = -1/T Σ log π(y_t | x, y_<t) over the kept answers y (Dong et al. 2023).
    """
    config = dict(locals())
    prompt_options, rollout_options, reward_options, model_options, training = take_options(
        options,
        PromptOptions(),
        GroupRolloutOptions(),
        RewardOptions(),
        ModelOptions(),
        TrainingOptions(lr=1e-5, schedule="constant"),
    )
    min_reward = reward_threshold if reward_threshold is not None else (1.0 if selection == "correct" else -math.inf)
    _check_options(config)
    with Run(
        output,
        config,
        training,
        name="raft",
        model_options=model_options,
        other_options=(prompt_options, rollout_options, reward_options),
    ) as run:
        if run.finished:
            return run.output
        tasks, order = read_training_data(run, data, Task, training)
        policy, tokenizer = load_for_training(run, model, dropout=False)
        template = ChatTemplate.from_tokenizer(tokenizer, prompt_options.template_spec)
        prompts = tokenize_prompts(run, tasks, order, template, resolve_max_length(policy), rollout_options)
        reward_fn = build_reward_fn(
            reward, device=model_options.device, judge_cache=run.output / "judge_cache.sqlite", options=reward_options
        )
        sampler = TorchSampler(policy, tokenizer)
        num_minibatches = max(1, math.ceil(rollout_options.rollout_prompts / training.batch_size))
        num_buffers = math.ceil(training.epochs * prompts.order.epoch_size / rollout_options.rollout_prompts)
        total = training.steps or num_buffers * rollout_options.update_epochs * num_minibatches
        learner, buffer = Learner(policy, training, total, dtype=run.dtype), RolloutBuffer()
        run.track(learner=learner, order=prompts.order, buffer=buffer)
        for _ in with_evaluations(run, policy, tokenizer, run.steps(total), prompt_options.template_spec):
            if not buffer.pending:
                with run.eval_mode(), learner.autocast():
                    sampling = rollout_sampling(run, template, rollout_options)
                    task_indices = prompts.order.draw(rollout_options.rollout_prompts)
                    groups = generate_rollouts(
                        prompts, task_indices, sampler, sampling, rollout_options.samples_per_prompt, reward_fn
                    )
                count_sampling_cost(run, learner.flops, groups)
                selected = select_groups(groups, selection, min_reward, max_per_prompt, keep_truncated)
                run.log(rollout_metrics(groups) | _selection_metrics(groups, selected))
                buffer.fill(selected, rollout_options.update_epochs, num_minibatches, run.generator("minibatches"))
            if run.should_sample():
                run.write_samples(sample_rows(prompts.tasks, buffer.groups))
            minibatch = buffer.next_minibatch()
            if not minibatch:
                run.log({"skipped_update": 1.0})
                continue
            microbatches = make_microbatches(
                [group.tree for group in minibatch], training.tokens_per_microbatch, run.device
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
    if config["max_per_prompt"] < 0:
        raise UserError(f"max_per_prompt: expected a whole number of 0 or more, got {config['max_per_prompt']}")
    if config["reward_threshold"] is not None and not math.isfinite(config["reward_threshold"]):
        raise UserError(f"reward_threshold: expected a finite number, got {config['reward_threshold']}")
