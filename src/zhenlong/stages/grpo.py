"""Group-relative policy optimisation, and its relatives: RLOO, Dr. GRPO, DAPO, GSPO, CISPO, GMPO, SAPO, REINFORCE++.

Each prompt is answered several times; an answer is good if its reward beats the others'. No critic, and where the KL
coefficient is 0 no reference either. The sampler's own log-probabilities are the old ones. The variants are settings of
the same few options (see VARIANTS); an option that is given wins over its variant.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import torch
from transformers import PreTrainedModel
from typing_extensions import Unpack

from zhenlong.data import ChatTemplate
from zhenlong.data.options import PromptOptions
from zhenlong.errors import UserError
from zhenlong.forest import Microbatch, forward, log_probs, make_microbatches
from zhenlong.loop import Learner, Run, StepLoss, TrainingOptions
from zhenlong.models import save_model
from zhenlong.models.options import ModelOptions
from zhenlong.objectives.advantage import group_advantages
from zhenlong.objectives.kl import kl_estimate, kl_loss
from zhenlong.objectives.policy_gradient import RatioSettings, policy_loss, sampled_entropy
from zhenlong.objectives.reduce import AGGREGATION_UNITS, token_weights
from zhenlong.options import take_options
from zhenlong.options.keywords import OnlineGroupKwargs
from zhenlong.records import Task
from zhenlong.rewards import build_reward_fn
from zhenlong.rewards.options import RewardOptions
from zhenlong.sampling import TorchSampler
from zhenlong.stages.evaluate_during_training import with_evaluations
from zhenlong.stages.options import GroupRolloutOptions
from zhenlong.stages.prepare_data import read_training_data
from zhenlong.stages.reference import ReferencePolicy
from zhenlong.stages.rollout import (
    Group,
    RolloutBuffer,
    TokenFields,
    compute_per_token,
    count_sampling_cost,
    generate_rollouts,
    response_index_of,
    rollout_metrics,
    rollout_sampling,
    sample_rows,
    split_by_group,
    token_log_probs,
    tokenize_prompts,
)
from zhenlong.stages.stage_steps import (
    load_for_training,
    optimizer_step,
    prepare_for_saving,
    resolve_max_length,
)

Variant = Literal[
    "grpo", "rloo", "dr_grpo", "dapo", "gspo", "cispo", "gmpo", "sapo", "reinforce_pp", "reinforce_pp_baseline"
]


@dataclass(frozen=True)
class GRPOSettings:
    """What distinguishes the variants; see `grpo` for each."""

    advantage_baseline: str = "mean"
    scale_rewards: str = "group"
    loss_aggregation: str = "sequence"
    importance_sampling_level: str = "token"
    surrogate: str = "clip"
    clip_low: float = 0.2
    clip_high: float = 0.2
    kl_coef: float = 0.04
    kl_estimator: str = "k3+"
    dual_clip: float = 0.0
    entropy_coef: float = 0.0
    dynamic_sampling_rounds: int = 0
    max_tokens: int = 256
    temperature: float = 1.0


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
    "cispo": GRPOSettings(
        surrogate="cispo", loss_aggregation="token", clip_low=1.0, clip_high=4.0, kl_coef=0.0
    ),  # MiniMax 2025; weights up to 5 as in Khatri et al. 2025
    "gmpo": GRPOSettings(surrogate="gmpo", clip_low=0.4, clip_high=0.4, kl_coef=0.0),  # Zhao et al. 2025
    "sapo": GRPOSettings(surrogate="sapo", kl_coef=0.0),  # Gao et al. 2025
    "reinforce_pp": GRPOSettings(
        advantage_baseline="none", scale_rewards="whiten", loss_aggregation="token", kl_estimator="k2", kl_coef=0.01
    ),  # Hu et al. 2025
    "reinforce_pp_baseline": GRPOSettings(
        scale_rewards="whiten", loss_aggregation="token", kl_estimator="k2", kl_coef=0.01
    ),  # the same
}


def grpo(
    *,
    model: str,
    data: str,
    output: str,
    reward: str = "verifier",
    variant: Variant = "grpo",
    advantage_baseline: Literal["mean", "leave_one_out", "none"] | None = None,
    scale_rewards: Literal["group", "batch", "whiten", "none"] | None = None,
    loss_aggregation: Literal["token", "sequence", "constant"] | None = None,
    importance_sampling_level: Literal["token", "sequence"] | None = None,
    surrogate: Literal["clip", "cispo", "gmpo", "sapo"] | None = None,
    clip_low: float | None = None,
    clip_high: float | None = None,
    dual_clip: float = 0.0,
    kl_coef: float | None = None,
    kl_estimator: Literal["k2", "k3+"] | None = None,
    entropy_coef: float = 0.0,
    dynamic_sampling_rounds: int | None = None,
    mask_truncated: bool = False,
    **options: Unpack[OnlineGroupKwargs],
) -> Path:
    """Optimise a policy against rewards, comparing several answers to each prompt.

    Args:
        variant: The method; it sets the options below that are not given.
        advantage_baseline: What a reward is compared with: the group's mean, the mean of the others, or none.
        scale_rewards: Divide advantages by the standard deviation of the group, of the batch, or by none; or whiten
            them over the batch (REINFORCE++).
        loss_aggregation: Mean over tokens, over sequences, or sum over tokens divided by max_tokens (constant).
        importance_sampling_level: Probability ratio token by token, or one for the sequence (GSPO).
        surrogate: The objective: clip, or that of CISPO, GMPO or SAPO in its place.
        clip_low: The ratio is clipped below 1 - clip_low.
        clip_high: The ratio is clipped above 1 + clip_high; above clip_low it is DAPO's clip-higher.
        kl_coef: Weight of the KL to the model as it began, in the loss; 0 needs no reference.
        kl_estimator: How that KL is estimated: k2, or k3+ (the value of k3 with the gradient of k2).
        entropy_coef: Weight of an entropy bonus on the sampled tokens, weighted as the loss.
        dynamic_sampling_rounds: Rounds of new prompts instead of groups whose rewards are all equal (DAPO).
        mask_truncated: Leave answers that were cut off at max_tokens out of the loss.

    Returns the run folder. Equation: L = -Σ w min(ρ A, clip(ρ) A) + kl_coef KL, A = (r - mean r) / std r in the group
    (Eq. 3, Shao et al. 2024).
    """
    config = dict(locals())
    prompt_options, rollout_options, reward_options, model_options, training = take_options(
        options,
        PromptOptions(),
        GroupRolloutOptions(rollout_prompts=32),
        RewardOptions(),
        ModelOptions(),
        TrainingOptions(lr=1e-6, schedule="constant"),
    )
    settings = _settings(variant, config | rollout_options.as_dict())
    _check_options(settings, rollout_options.samples_per_prompt)
    with Run(
        output,
        config,
        training,
        name="grpo",
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
        reference = ReferencePolicy(policy) if settings.kl_coef else None
        num_minibatches = max(1, math.ceil(rollout_options.rollout_prompts / training.batch_size))
        num_buffers = math.ceil(training.epochs * prompts.order.epoch_size / rollout_options.rollout_prompts)
        total = training.steps or num_buffers * rollout_options.update_epochs * num_minibatches
        learner, buffer = Learner(policy, training, total, dtype=run.dtype), RolloutBuffer()
        run.track(learner=learner, order=prompts.order, buffer=buffer)

        def rollout(num_prompts: int, attempt: int = 0) -> list[Group]:
            """Sample G responses y_i to each of the next prompts x, and reward them: r_i = R(x, y_i)."""
            sampling = rollout_sampling(run, template, rollout_options)
            sampling = replace(sampling, seed=sampling.seed + attempt)
            task_indices = prompts.order.draw(num_prompts)
            groups = generate_rollouts(
                prompts, task_indices, sampler, sampling, rollout_options.samples_per_prompt, reward_fn
            )
            count_sampling_cost(run, learner.flops, groups)
            return groups

        for _ in with_evaluations(run, policy, tokenizer, run.steps(total), prompt_options.template_spec):
            if not buffer.pending:
                # Sample and reward.
                with run.eval_mode(), learner.autocast():
                    groups = rollout(rollout_options.rollout_prompts)
                    varied = [group for group in groups if group.rewards_differ]
                    metrics = rollout_metrics(groups) | {"frac_groups_nonzero_std": len(varied) / len(groups)}
                    if settings.dynamic_sampling_rounds:  # DAPO: more prompts, until enough groups have an advantage
                        attempt = 0
                        while (
                            len(varied) < rollout_options.rollout_prompts and attempt < settings.dynamic_sampling_rounds
                        ):
                            attempt += 1
                            more = rollout(rollout_options.rollout_prompts - len(varied), attempt)
                            varied += [group for group in more if group.rewards_differ]
                        groups = varied or groups
                        metrics["dynamic_sampling_rounds"] = float(attempt)
                    if reference is not None:
                        metrics["kl"] = _add_reference_log_probs(run, groups, reference, settings, learner)
                # Advantages: A_i = (r_i - mean r) / std r in the group, for every token of y_i.
                _add_advantages(groups, settings, mask_truncated)
                run.log(metrics)
                # Minibatches: every group `update_epochs` times.
                buffer.fill(groups, rollout_options.update_epochs, num_minibatches, run.generator("minibatches"))
            if run.should_sample():
                run.write_samples(sample_rows(prompts.tasks, buffer.groups))
            minibatch = buffer.next_minibatch()
            trainable = [group for group in minibatch if _has_gradient(group, settings)]
            if not trainable:
                run.log({"skipped_update": 1.0})
                continue
            # Loss: L = -Σ w min(ρ A, clip(ρ) A) + kl_coef KL, normalised over the whole minibatch.
            microbatches = make_microbatches(
                [group.tree for group in trainable], training.tokens_per_microbatch, run.device
            )
            loss = partial(grpo_loss, policy, trainable, settings)
            count, task_ids = _loss_count(minibatch, settings), [group.task_index for group in trainable]
            run.log(optimizer_step(run, learner, microbatches, loss, count, task_ids))
        return run.finish(*prepare_for_saving(policy, template), save_model)


def grpo_loss(
    policy: PreTrainedModel, groups: Sequence[Group], settings: GRPOSettings, microbatch: Microbatch
) -> StepLoss:
    """The clipped surrogate over a micro-batch's tokens, with the KL to the reference where there is one."""
    forest, rollout = microbatch.forest, TokenFields.of_microbatch(groups, microbatch)
    policy_log_probs, entropy = log_probs(
        policy, forward(policy, forest), forest, settings.temperature, return_entropy=True
    )  # [M]
    weights = token_weights(forest.response_index, forest.num_responses, settings.loss_aggregation, settings.max_tokens)
    weights = weights.to(policy_log_probs.device) * rollout.loss_mask
    total, metric_sums = policy_loss(
        policy_log_probs,
        rollout.old_log_probs,
        rollout.advantages,
        forest.response_index,
        forest.num_responses,
        _ratio_settings(settings),
        weights,
    )
    if settings.kl_coef:
        kl = kl_loss(policy_log_probs, rollout.reference_log_probs, settings.kl_estimator)  # [M]
        total = total + settings.kl_coef * (weights * kl).sum()
    if settings.entropy_coef:
        total = total - settings.entropy_coef * (weights * sampled_entropy(policy_log_probs)).sum()
    tokens = float(len(forest.target))
    return StepLoss(total, {name: (value, tokens) for name, value in {**metric_sums, "entropy": entropy.sum()}.items()})


def _add_reference_log_probs(
    run: Run, groups: Sequence[Group], reference: ReferencePolicy, settings: GRPOSettings, learner: Learner
) -> float:
    """Give the groups the reference's log-probabilities; returns the KL to it, in nats per response."""
    with reference() as frozen:
        token_fn = partial(token_log_probs, frozen, settings.temperature)
        budget = learner.options.tokens_per_microbatch
        arrays = compute_per_token(run, groups, token_fn, budget, learner.flops)
    for group, group_log_probs in zip(groups, arrays, strict=True):
        group.reference_log_probs = group_log_probs
    rollout = TokenFields.of_groups(groups)
    k3 = kl_estimate(rollout.old_log_probs, rollout.reference_log_probs, "k3")
    return float(k3.sum()) / sum(len(group.responses) for group in groups)


def _add_advantages(groups: Sequence[Group], settings: GRPOSettings, mask_truncated: bool) -> None:
    """Give each token its response's advantage, and whether it counts in the loss."""
    rewards = torch.tensor([reward for group in groups for reward in group.rewards], dtype=torch.float64)
    group_index = torch.tensor([number for number, group in enumerate(groups) for _ in group.responses])
    advantages = group_advantages(
        rewards, group_index, advantage_baseline=settings.advantage_baseline, scale_rewards=settings.scale_rewards
    ).float()  # [R]
    truncated = torch.tensor([cut for group in groups for cut in group.truncated])
    loss_mask = (~truncated if mask_truncated else torch.ones_like(truncated)).float()  # [R]
    response_index, _ = response_index_of(groups)
    per_token = (split_by_group(values[response_index], groups) for values in (advantages, loss_mask))
    for group, own_advantages, own_mask in zip(groups, *per_token, strict=True):
        group.advantages, group.loss_mask = own_advantages, own_mask


def _has_gradient(group: Group, settings: GRPOSettings) -> bool:
    """Whether a group adds to the gradient: some token in the loss, with an advantage, a KL or a bonus."""
    always = settings.kl_coef or settings.entropy_coef
    return bool((group.loss_mask * group.advantages).any() or (always and group.loss_mask.any()))


def _loss_count(groups: Sequence[Group], settings: GRPOSettings) -> float:
    """What the minibatch's loss is divided by: its tokens or its responses, those outside the loss left out."""
    if AGGREGATION_UNITS[settings.loss_aggregation] == "tokens":
        return float(sum(group.loss_mask.sum() for group in groups))
    starts = [np.cumsum([0, *map(len, group.responses)])[:-1] for group in groups]
    return float(sum(group.loss_mask[start].sum() for group, start in zip(groups, starts, strict=True)))


def _settings(variant: Variant, config: Mapping[str, Any]) -> GRPOSettings:
    """The variant's settings, with the options that were given instead of its own."""
    given = {one.name: config[one.name] for one in fields(GRPOSettings) if config[one.name] is not None}
    return replace(VARIANTS[variant], **given)


def _ratio_settings(settings: GRPOSettings) -> RatioSettings:
    return RatioSettings(
        settings.clip_low,
        settings.clip_high,
        settings.importance_sampling_level,
        settings.dual_clip,
        settings.surrogate,
    )


def _check_options(settings: GRPOSettings, samples_per_prompt: int) -> None:
    _ratio_settings(settings)
    if samples_per_prompt == 1 and settings.advantage_baseline != "none":
        raise UserError("samples_per_prompt: expected 2 or more, for a group of one has nothing to compare with; got 1")
    if settings.advantage_baseline == "none" and settings.scale_rewards == "group":
        raise UserError(
            "scale_rewards: group needs an advantage_baseline; with advantage_baseline none use batch, whiten or none"
        )
    for name in ("clip_low", "clip_high", "kl_coef", "entropy_coef", "dynamic_sampling_rounds"):
        if not getattr(settings, name) >= 0:
            raise UserError(f"{name}: expected a number of 0 or more, got {getattr(settings, name)}")
