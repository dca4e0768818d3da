"""Group-relative policy optimisation, and its relatives: RLOO, Dr. GRPO, DAPO, GSPO.

Each prompt is answered several times; an answer is good if its reward beats the others'. No critic, and where the KL
coefficient is 0 no reference either. The sampler's own log-probabilities are the old ones. The variants are settings of
the same few options (see VARIANTS); an option that is given wins over its variant.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import torch
from transformers import PreTrainedModel

from zhenlong.data import ChatTemplate
from zhenlong.errors import UserError
from zhenlong.forest import Microbatch, forward, log_probs, make_microbatches
from zhenlong.loop import FlopEstimator, Learner, Run, StepLoss, TrainingOptions
from zhenlong.models import save_model
from zhenlong.objectives.advantage import group_advantages
from zhenlong.objectives.kl import kl_estimate, kl_loss
from zhenlong.objectives.policy_gradient import policy_loss
from zhenlong.objectives.reduce import AGGREGATION_UNITS, token_weights
from zhenlong.records import Task
from zhenlong.rewards import build_reward_fn
from zhenlong.sampling import SamplingParams, TorchSampler
from zhenlong.stages.evaluate_during_training import with_evaluations
from zhenlong.stages.prepare_data import read_training_data
from zhenlong.stages.reference import ReferencePolicy
from zhenlong.stages.rollout import (
    Group,
    RolloutBuffer,
    compute_per_token,
    count_sampling_cost,
    gather_from_groups,
    generate_rollouts,
    response_index_of,
    rollout_metrics,
    rollout_sampling,
    sample_rows,
    scatter_to_groups,
    token_log_probs,
    tokenize_prompts,
)
from zhenlong.stages.stage_steps import load_for_training, optimizer_step, prepare_for_saving, resolve_max_length

Variant = Literal["grpo", "rloo", "dr_grpo", "dapo", "gspo"]


@dataclass(frozen=True)
class GRPOSettings:
    """What distinguishes the variants; see `grpo` for each."""

    advantage_baseline: str = "mean"
    scale_rewards: str = "group"
    loss_aggregation: str = "sequence"
    importance_sampling_level: str = "token"
    clip_low: float = 0.2
    clip_high: float = 0.2
    kl_coef: float = 0.04
    dynamic_sampling_rounds: int = 0


VARIANTS: Final[dict[str, GRPOSettings]] = {
    "grpo": GRPOSettings(),  # Shao et al. 2024
    "rloo": GRPOSettings(
        advantage_baseline="leave_one_out", scale_rewards="none", loss_aggregation="constant", kl_coef=0.0
    ),  # Ahmadian et al. 2024
    "dr_grpo": GRPOSettings(scale_rewards="none", loss_aggregation="constant", kl_coef=0.0),  # Liu et al. 2025
    "dapo": GRPOSettings(
        loss_aggregation="token", clip_high=0.28, kl_coef=0.0, dynamic_sampling_rounds=4
    ),  # Yu et al. 2025
    "gspo": GRPOSettings(
        importance_sampling_level="sequence", clip_low=3e-4, clip_high=4e-4, kl_coef=0.0
    ),  # Zheng et al. 2025
}


def grpo(
    *,
    model: str,
    data: str,
    output: str,
    reward: str = "verifier",
    variant: Variant = "grpo",
    samples_per_prompt: int = 8,
    rollout_prompts: int = 32,
    update_epochs: int = 1,
    advantage_baseline: Literal["mean", "leave_one_out", "none"] | None = None,
    scale_rewards: Literal["group", "batch", "none"] | None = None,
    loss_aggregation: Literal["token", "sequence", "constant"] | None = None,
    importance_sampling_level: Literal["token", "sequence"] | None = None,
    clip_low: float | None = None,
    clip_high: float | None = None,
    kl_coef: float | None = None,
    kl_estimator: Literal["k2", "k3+"] = "k3+",
    dynamic_sampling_rounds: int | None = None,
    mask_truncated: bool = False,
    max_tokens: int = 256,
    temperature: float = 1.0,
    overlong: Literal["error", "drop"] = "error",
    chat_template: str = "auto",
    skip_bad_rows: bool = False,
    lr: float = 1e-6,
    schedule: Literal["constant", "linear", "cosine", "wsd"] = "constant",
    **training: Any,
) -> Path:
    """Optimise a policy against rewards, comparing several answers to each prompt.

    Args:
        model: Policy to start from, as a rule the SFT model: pocket, a model or run folder, or a hub id.
        data: Tasks (prompts with references): files, hf:owner/name or world:tasks.
        output: Run folder to make.
        reward: What an answer is worth: verifier, model:<folder>, or a combination such as `gate(verifier, model:rm)`.
        variant: The method: grpo, rloo, dr_grpo, dapo or gspo; it sets the options below that are not given.
        samples_per_prompt: Responses sampled for each prompt.
        rollout_prompts: Prompts answered before learning from them, in minibatches of batch_size prompts.
        update_epochs: Times that each rollout is learned from.
        advantage_baseline: What a reward is compared with: the group's mean, the mean of the others, or none.
        scale_rewards: Divide advantages by the standard deviation of the group, of the batch, or by none.
        loss_aggregation: Mean over tokens, over sequences, or sum over tokens divided by max_tokens (constant).
        importance_sampling_level: Probability ratio token by token, or one for the sequence (GSPO).
        clip_low: The ratio is clipped below 1 - clip_low.
        clip_high: The ratio is clipped above 1 + clip_high; above clip_low it is DAPO's clip-higher.
        kl_coef: Weight of the KL to the model as it began, in the loss; 0 needs no reference.
        kl_estimator: How that KL is estimated: k2, or k3+ (the value of k3 with the gradient of k2).
        dynamic_sampling_rounds: Rounds of new prompts instead of groups whose rewards are all equal (DAPO).
        mask_truncated: Leave answers that were cut off at max_tokens out of the loss.
        max_tokens: Longest answer.
        temperature: Sampling temperature; log-probabilities are taken at the same.
        overlong: What to do with a prompt that leaves no room for max_tokens: stop with an error, or drop and count it.
        chat_template: The tokenizer's own (auto), or chatml, llama2, llama3 or alpaca.
        skip_bad_rows: Leave bad rows out, count them and list them in the run folder.
        lr: Peak learning rate.
        schedule: Learning rate after the warm-up.

    Returns the run folder. Equation: L = -Σ w min(ρ A, clip(ρ) A) + kl_coef KL, A = (r - mean r) / std r in the group
    (Eq. 3, Shao et al. 2024).
    """
    config = dict(locals())
    options = TrainingOptions(lr=lr, schedule=schedule, **training)
    explicit = {name.name: config[name.name] for name in fields(GRPOSettings) if config[name.name] is not None}
    settings = GRPOSettings(
        **{**{f.name: getattr(VARIANTS[variant], f.name) for f in fields(GRPOSettings)}, **explicit}
    )
    _check_options(settings, config)
    with Run(output, config, options, "grpo") as run:
        if run.finished:
            return run.output
        tasks, order = read_training_data(run, data, Task, options)
        policy, tokenizer = load_for_training(model, options, dropout=False)
        template = ChatTemplate.from_tokenizer(tokenizer, chat_template)
        tasks, prompts, order = tokenize_prompts(
            run, tasks, order, template, resolve_max_length(policy), max_tokens, overlong
        )
        reward_fn = build_reward_fn(reward, device=options.device, judge_cache=run.output / "judge_cache.sqlite")
        sampler = TorchSampler(policy, tokenizer)
        reference = ReferencePolicy(policy) if settings.kl_coef else None
        num_minibatches = max(1, math.ceil(rollout_prompts / options.batch_size))
        num_buffers = math.ceil(options.epochs * order.epoch_size / rollout_prompts)
        total = options.steps or num_buffers * update_epochs * num_minibatches
        learner, cost, buffer = Learner(policy, options, total), FlopEstimator.for_model(policy), RolloutBuffer()
        run.track(learner=learner, order=order, buffer=buffer)
        collect_rollouts = partial(
            _collect_rollouts,
            run,
            cost,
            tasks,
            prompts,
            sampler,
            reward_fn,
            settings,
            samples_per_prompt,
            rollout_prompts,
        )
        for _ in with_evaluations(run, policy, tokenizer, run.steps(total), chat_template):
            if not buffer.pending:
                with run.eval_mode(), learner.autocast():
                    sampling = rollout_sampling(run, template, temperature, max_tokens)
                    groups, metrics = collect_rollouts(sampling, order.draw)
                    if reference is not None:
                        metrics |= _add_reference_log_probs(run, cost, reference, groups, temperature, options)
                _add_advantages(groups, settings, mask_truncated)
                run.log(metrics)
                buffer.fill(groups, update_epochs, num_minibatches, run.generator("minibatches"))
            if run.should_sample():
                run.write_samples(sample_rows(tasks, buffer.groups))
            run.log(
                _train_step(
                    run, learner, cost, buffer.next_minibatch(), policy, settings, kl_estimator, max_tokens, temperature
                )
            )
        return run.finish(*prepare_for_saving(policy, template), save_model)


def group_loss(
    policy: PreTrainedModel,
    groups: Sequence[Group],
    settings: GRPOSettings,
    kl_estimator: str,
    max_tokens: int,
    temperature: float,
    batch: Microbatch,
) -> StepLoss:
    """The clipped surrogate over a micro-batch's tokens, with the KL to the reference where there is one."""
    forest = batch.forest
    policy_log_probs, entropy = log_probs(
        policy, forward(policy, forest), forest, temperature, return_entropy=True
    )  # [M]
    weights = token_weights(forest.response_index, forest.num_responses, settings.loss_aggregation, max_tokens)
    weights = weights.to(policy_log_probs.device) * gather_from_groups("loss_mask", groups, batch)
    old_log_probs, advantages = (gather_from_groups(name, groups, batch) for name in ("old_log_probs", "advantages"))
    total, metric_sums = policy_loss(
        policy_log_probs,
        old_log_probs,
        advantages,
        forest.response_index,
        forest.num_responses,
        weights=weights,
        clip_low=settings.clip_low,
        clip_high=settings.clip_high,
        importance_sampling_level=settings.importance_sampling_level,
    )
    if settings.kl_coef:
        total = (
            total
            + settings.kl_coef
            * (
                weights
                * kl_loss(policy_log_probs, gather_from_groups("reference_log_probs", groups, batch), kl_estimator)
            ).sum()
        )
    tokens = float(len(forest.target))
    return StepLoss(total, {name: (value, tokens) for name, value in {**metric_sums, "entropy": entropy.sum()}.items()})


def _train_step(
    run: Run,
    learner: Learner,
    cost: FlopEstimator,
    groups: Sequence[Group],
    policy: PreTrainedModel,
    settings: GRPOSettings,
    kl_estimator: str,
    max_tokens: int,
    temperature: float,
) -> dict[str, float]:
    """One update from a minibatch of groups. Groups that would add nothing to the gradient are not computed."""
    trainable = [group for group in groups if _has_gradient(group, settings)]
    if not trainable:
        return {"skipped_update": 1.0}
    loss_masks = [group.per_token["loss_mask"] for group in groups]
    if AGGREGATION_UNITS[settings.loss_aggregation] == "tokens":
        count = float(sum(part.sum() for part in loss_masks))
    else:  # an answer that is masked is no answer of the mean
        starts = [np.cumsum([0, *map(len, group.responses)])[:-1] for group in groups]
        count = float(sum(part[start].sum() for part, start in zip(loss_masks, starts, strict=True)))
    batches = make_microbatches([group.tree for group in trainable], learner.options.tokens_per_microbatch, run.device)
    loss = partial(group_loss, policy, trainable, settings, kl_estimator, max_tokens, temperature)
    return optimizer_step(run, learner, cost, batches, loss, count, [group.task_index for group in trainable])


def _has_gradient(group: Group, settings: GRPOSettings) -> bool:
    """Whether a group adds anything to the gradient: some token that counts, and an advantage or a KL to pay for."""
    loss_mask = group.per_token["loss_mask"]
    return bool((loss_mask * group.per_token["advantages"]).any() or (settings.kl_coef and loss_mask.any()))


def _collect_rollouts(
    run: Run,
    cost: FlopEstimator,
    tasks: Sequence[Task],
    prompts: Sequence[list[int]],
    sampler: TorchSampler,
    reward_fn: Any,
    settings: GRPOSettings,
    samples_per_prompt: int,
    num_prompts: int,
    sampling: SamplingParams,
    draw_tasks: Callable[[int], list[int]],
) -> tuple[list[Group], dict[str, float]]:
    """`num_prompts` groups; with dynamic sampling those whose rewards vary, as far as more rounds find them."""
    groups = generate_rollouts(
        tasks, prompts, draw_tasks(num_prompts), sampler, sampling, samples_per_prompt, reward_fn
    )
    count_sampling_cost(run, cost, groups)
    metrics = rollout_metrics(groups)
    varied = [group for group in groups if len(set(group.rewards)) > 1]
    metrics["frac_groups_nonzero_std"] = len(varied) / len(groups)
    rounds = 0
    while settings.dynamic_sampling_rounds > rounds and len(varied) < num_prompts:
        rounds += 1
        reseeded = SamplingParams(**{**sampling.__dict__, "seed": sampling.seed + rounds})
        new_groups = generate_rollouts(
            tasks, prompts, draw_tasks(num_prompts - len(varied)), sampler, reseeded, samples_per_prompt, reward_fn
        )
        count_sampling_cost(run, cost, new_groups)
        varied += [group for group in new_groups if len(set(group.rewards)) > 1]
    if settings.dynamic_sampling_rounds:
        metrics["dynamic_sampling_rounds"] = float(rounds)
        groups = varied or groups
    return groups, metrics


def _add_advantages(groups: Sequence[Group], settings: GRPOSettings, mask_truncated: bool) -> None:
    """Give each token its response's advantage, and whether it counts in the loss."""
    rewards = torch.tensor([reward for group in groups for reward in group.rewards], dtype=torch.float64)
    group_index = torch.tensor([number for number, group in enumerate(groups) for _ in group.responses])
    advantages = group_advantages(
        rewards, group_index, advantage_baseline=settings.advantage_baseline, scale_rewards=settings.scale_rewards
    ).float()
    truncated = torch.tensor([cut for group in groups for cut in group.truncated])
    loss_mask = ~truncated if mask_truncated else torch.ones_like(truncated)
    response_index, _ = response_index_of(groups)
    scatter_to_groups("advantages", groups, advantages[response_index].numpy())
    scatter_to_groups("loss_mask", groups, loss_mask[response_index].float().numpy())


def _add_reference_log_probs(
    run: Run,
    cost: FlopEstimator,
    reference: ReferencePolicy,
    groups: Sequence[Group],
    temperature: float,
    options: TrainingOptions,
) -> dict[str, float]:
    """Give the groups the reference's log-probabilities; returns the KL to it, in nats per response."""
    with reference() as frozen:
        token_fn = partial(token_log_probs, frozen, temperature)
        compute_per_token("reference_log_probs", groups, token_fn, options.tokens_per_microbatch, run, cost)
    k3 = kl_estimate(
        gather_from_groups("old_log_probs", groups), gather_from_groups("reference_log_probs", groups), "k3"
    )
    return {"kl": float(k3.sum()) / sum(len(group.responses) for group in groups)}


def _check_options(settings: GRPOSettings, config: dict[str, Any]) -> None:
    for name in ("samples_per_prompt", "rollout_prompts", "update_epochs", "max_tokens"):
        if config[name] < 1:
            raise UserError(f"{name}: expected a whole number of 1 or more, got {config[name]}")
    if config["samples_per_prompt"] == 1 and settings.advantage_baseline != "none":
        raise UserError("samples_per_prompt: expected 2 or more, for a group of one has nothing to compare with; got 1")
    if not 0 < config["temperature"] < math.inf:
        raise UserError(f"temperature: expected a finite number above 0, got {config['temperature']}")
    if settings.advantage_baseline == "none" and settings.scale_rewards == "group":
        raise UserError(
            "scale_rewards: group needs an advantage_baseline; with advantage_baseline none use batch or none"
        )
    for name in ("clip_low", "clip_high", "kl_coef", "dynamic_sampling_rounds"):
        if not getattr(settings, name) >= 0:
            raise UserError(f"{name}: expected a number of 0 or more, got {getattr(settings, name)}")
