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

from zhenlong.data import Template
from zhenlong.errors import UserError
from zhenlong.forest import Batch, forward, log_probs, plant_batches
from zhenlong.loop import Cost, Learner, Options, Run, StepLoss
from zhenlong.models import save_model
from zhenlong.objectives.advantage import group_advantages
from zhenlong.objectives.kl import kl_estimate, kl_loss
from zhenlong.objectives.policy_gradient import policy_loss
from zhenlong.objectives.reduce import UNITS, token_weights
from zhenlong.records import Task
from zhenlong.rewards import reward_from
from zhenlong.sampling import Sampling, TorchSampler
from zhenlong.stages.evaluations import evaluated
from zhenlong.stages.reference import Reference
from zhenlong.stages.rollout import (
    Buffer,
    Group,
    add_array,
    count_sampling,
    fitting_prompts,
    gathered,
    leaf_of,
    roll_out,
    rollout_metrics,
    rollout_sampling,
    sample_rows,
    spread,
    token_log_probs,
)
from zhenlong.stages.setup import context_of, load, ready, update
from zhenlong.stages.trees import read_all

Variant = Literal["grpo", "rloo", "dr_grpo", "dapo", "gspo"]


@dataclass(frozen=True)
class Settings:
    """What distinguishes the variants; see `grpo` for each."""

    baseline: str = "mean"
    scale: str = "group"
    reduction: str = "sequence"
    ratio: str = "token"
    clip_low: float = 0.2
    clip_high: float = 0.2
    kl_coef: float = 0.04
    resample: int = 0


VARIANTS: Final[dict[str, Settings]] = {
    "grpo": Settings(),  # Shao et al. 2024
    "rloo": Settings(baseline="leave_one_out", scale="none", reduction="constant", kl_coef=0.0),  # Ahmadian et al. 2024
    "dr_grpo": Settings(scale="none", reduction="constant", kl_coef=0.0),  # Liu et al. 2025
    "dapo": Settings(reduction="token", clip_high=0.28, kl_coef=0.0, resample=4),  # Yu et al. 2025
    "gspo": Settings(ratio="sequence", clip_low=3e-4, clip_high=4e-4, kl_coef=0.0),  # Zheng et al. 2025
}


def grpo(
    *,
    model: str,
    data: str,
    output: str,
    reward: str = "verifier",
    variant: Variant = "grpo",
    group_size: int = 8,
    rollouts: int = 32,
    passes: int = 1,
    baseline: Literal["mean", "leave_one_out", "none"] | None = None,
    scale: Literal["group", "batch", "none"] | None = None,
    reduction: Literal["token", "sequence", "constant"] | None = None,
    ratio: Literal["token", "sequence"] | None = None,
    clip_low: float | None = None,
    clip_high: float | None = None,
    kl_coef: float | None = None,
    kl: Literal["k2", "k3+"] = "k3+",
    resample: int | None = None,
    mask_truncated: bool = False,
    max_tokens: int = 256,
    temperature: float = 1.0,
    too_long: Literal["error", "drop"] = "error",
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
        group_size: Answers to each prompt.
        rollouts: Prompts answered before learning from them, in minibatches of batch_size prompts.
        passes: Times that each rollout is learned from.
        baseline: What a reward is compared with: the group's mean, the mean of the others, or none.
        scale: Divide advantages by the standard deviation of the group, of the batch, or by none.
        reduction: Mean over tokens, over sequences, or sum over tokens divided by max_tokens (constant).
        ratio: Probability ratio token by token, or one for the sequence (GSPO).
        clip_low: The ratio is clipped below 1 - clip_low.
        clip_high: The ratio is clipped above 1 + clip_high; above clip_low it is DAPO's clip-higher.
        kl_coef: Weight of the KL to the model as it began, in the loss; 0 needs no reference.
        kl: How that KL is estimated: k2, or k3+ (the value of k3 with the gradient of k2).
        resample: Rounds of new prompts in place of groups whose rewards are all equal (DAPO's dynamic sampling).
        mask_truncated: Leave answers that were cut off at max_tokens out of the loss.
        max_tokens: Longest answer.
        temperature: Sampling temperature; log-probabilities are taken at the same.
        too_long: What to do with a prompt that leaves no room for max_tokens: stop with an error, or drop and count it.
        chat_template: The tokenizer's own (auto), or chatml, llama2, llama3 or alpaca.
        skip_bad_rows: Leave bad rows out, count them and list them in the run folder.
        lr: Peak learning rate.
        schedule: Learning rate after the warm-up.

    Returns the run folder. Equation: L = -Σ w min(ρ A, clip(ρ) A) + kl_coef KL, A = (r - mean r) / std r in the group
    (Eq. 3, Shao et al. 2024).
    """
    config = dict(locals())
    options = Options(lr=lr, schedule=schedule, **training)
    given = {name.name: config[name.name] for name in fields(Settings) if config[name.name] is not None}
    settings = Settings(**{**{f.name: getattr(VARIANTS[variant], f.name) for f in fields(Settings)}, **given})
    _check(settings, config)
    with Run(output, config, options, "grpo") as run:
        if run.finished:
            return run.output
        tasks, order = read_all(run, data, Task, options)
        policy, tokenizer = load(model, options, dropout=False)
        template = Template.of(tokenizer, chat_template)
        tasks, prompts, order = fitting_prompts(run, tasks, order, template, context_of(policy), max_tokens, too_long)
        worth = reward_from(reward, device=options.device)
        sampler = TorchSampler(policy, tokenizer)
        reference = Reference(policy) if settings.kl_coef else None
        minibatches = max(1, math.ceil(rollouts / options.batch_size))
        fills = math.ceil(options.epochs * order.epoch / rollouts)
        total = options.steps or fills * passes * minibatches
        learner, cost, buffer = Learner(policy, options, total), Cost.of(policy), Buffer()
        run.track(learner=learner, order=order, buffer=buffer)
        collect = partial(_collect, run, cost, tasks, prompts, sampler, worth, settings, group_size, rollouts)
        for _ in evaluated(run, policy, tokenizer, run.steps(total), chat_template):
            if not buffer.waiting:
                with run.evaluation(), learner.autocast():
                    sampling = rollout_sampling(run, template, temperature, max_tokens)
                    groups, metrics = collect(sampling, order.draw)
                    if reference is not None:
                        metrics |= _add_reference(run, cost, reference, groups, temperature, options)
                _add_advantages(groups, settings, mask_truncated)
                run.log(metrics)
                buffer.fill(groups, passes, minibatches, run.generator("minibatches"))
            if run.sampling_now():
                run.samples(sample_rows(tasks, buffer.groups))
            run.log(_learn(run, learner, cost, buffer.draw(), policy, settings, kl, max_tokens, temperature))
        return run.finish(*ready(policy, template), save_model)


def group_loss(
    policy: PreTrainedModel,
    groups: Sequence[Group],
    settings: Settings,
    kl: str,
    max_tokens: int,
    temperature: float,
    batch: Batch,
) -> StepLoss:
    """The clipped surrogate over a micro-batch's tokens, with the KL to the reference where there is one."""
    forest = batch.forest
    values, entropy = log_probs(policy, forward(policy, forest), forest, temperature, entropy=True)  # [M]
    weights = token_weights(forest.leaf, forest.leaves, settings.reduction, max_tokens)
    weights = weights.to(values.device) * gathered("counted", groups, batch)
    old, advantages = (gathered(name, groups, batch) for name in ("old_log_probs", "advantages"))
    total, sums = policy_loss(
        values,
        old,
        advantages,
        forest.leaf,
        forest.leaves,
        weights=weights,
        clip_low=settings.clip_low,
        clip_high=settings.clip_high,
        level=settings.ratio,
    )
    if settings.kl_coef:
        total = total + settings.kl_coef * (weights * kl_loss(values, gathered("reference", groups, batch), kl)).sum()
    tokens = float(len(forest.target))
    return StepLoss(total, {name: (value, tokens) for name, value in {**sums, "entropy": entropy.sum()}.items()})


def _learn(
    run: Run,
    learner: Learner,
    cost: Cost,
    groups: Sequence[Group],
    policy: PreTrainedModel,
    settings: Settings,
    kl: str,
    max_tokens: int,
    temperature: float,
) -> dict[str, float]:
    """One update from a minibatch of groups. Groups that would add nothing to the gradient are not computed."""
    useful = [group for group in groups if _teaches(group, settings)]
    if not useful:
        return {"idle": 1.0}
    counted = [group.arrays["counted"] for group in groups]
    if UNITS[settings.reduction] == "tokens":
        count = float(sum(part.sum() for part in counted))
    else:  # an answer that is masked is no answer of the mean
        starts = [np.cumsum([0, *map(len, group.responses)])[:-1] for group in groups]
        count = float(sum(part[start].sum() for part, start in zip(counted, starts, strict=True)))
    batches = plant_batches([group.tree for group in useful], learner.options.tokens_per_microbatch, run.device)
    loss = partial(group_loss, policy, useful, settings, kl, max_tokens, temperature)
    return update(run, learner, cost, batches, loss, count, [group.record for group in useful])


def _teaches(group: Group, settings: Settings) -> bool:
    """Whether a group adds anything to the gradient: some token that counts, and an advantage or a KL to pay for."""
    counted = group.arrays["counted"]
    return bool((counted * group.arrays["advantages"]).any() or (settings.kl_coef and counted.any()))


def _collect(
    run: Run,
    cost: Cost,
    tasks: Sequence[Task],
    prompts: Sequence[list[int]],
    sampler: TorchSampler,
    worth: Any,
    settings: Settings,
    group_size: int,
    wanted: int,
    sampling: Sampling,
    draw: Callable[[int], list[int]],
) -> tuple[list[Group], dict[str, float]]:
    """`wanted` groups; with dynamic sampling those whose rewards vary, as far as `resample` more rounds find them."""
    groups = roll_out(tasks, prompts, draw(wanted), sampler, sampling, group_size, worth)
    count_sampling(run, cost, groups)
    metrics = rollout_metrics(groups)
    kept = [group for group in groups if len(set(group.rewards)) > 1]
    metrics["varied_groups"] = len(kept) / len(groups)
    rounds = 0
    while settings.resample > rounds and len(kept) < wanted:
        rounds += 1
        again = Sampling(**{**sampling.__dict__, "seed": sampling.seed + rounds})
        more = roll_out(tasks, prompts, draw(wanted - len(kept)), sampler, again, group_size, worth)
        count_sampling(run, cost, more)
        kept += [group for group in more if len(set(group.rewards)) > 1]
    if settings.resample:
        metrics["resampled"] = float(rounds)
        groups = kept or groups
    return groups, metrics


def _add_advantages(groups: Sequence[Group], settings: Settings, mask_truncated: bool) -> None:
    """Give each token its response's advantage, and whether it counts in the loss."""
    rewards = torch.tensor([reward for group in groups for reward in group.rewards], dtype=torch.float64)
    owner = torch.tensor([number for number, group in enumerate(groups) for _ in group.responses])
    values = group_advantages(rewards, owner, baseline=settings.baseline, scale=settings.scale).float()
    cut = torch.tensor([cut for group in groups for cut in group.truncated])
    counted = ~cut if mask_truncated else torch.ones_like(cut)
    leaf, _ = leaf_of(groups)
    spread("advantages", groups, values[leaf].numpy())
    spread("counted", groups, counted[leaf].float().numpy())


def _add_reference(
    run: Run,
    cost: Cost,
    reference: Reference,
    groups: Sequence[Group],
    temperature: float,
    options: Options,
) -> dict[str, float]:
    """Give the groups the reference's log-probabilities; returns the KL to it, in nats per response."""
    with reference() as frozen:
        measure = partial(token_log_probs, frozen, temperature)
        add_array("reference", groups, measure, options.tokens_per_microbatch, run, cost)
    k3 = kl_estimate(gathered("old_log_probs", groups), gathered("reference", groups), "k3")
    return {"kl": float(k3.sum()) / sum(len(group.responses) for group in groups)}


def _check(settings: Settings, config: dict[str, Any]) -> None:
    for name in ("group_size", "rollouts", "passes", "max_tokens"):
        if config[name] < 1:
            raise UserError(f"{name}: expected a whole number of 1 or more, got {config[name]}")
    if config["group_size"] == 1 and settings.baseline != "none":
        raise UserError("group_size: expected 2 or more, since a group of one has nothing to be compared with; got 1")
    if not 0 < config["temperature"] < math.inf:
        raise UserError(f"temperature: expected a finite number above 0, got {config['temperature']}")
    if settings.baseline == "none" and settings.scale == "group":
        raise UserError(
            "scale: a group's standard deviation goes with a baseline; with baseline none use batch or none"
        )
    for name in ("clip_low", "clip_high", "kl_coef", "resample"):
        if not getattr(settings, name) >= 0:
            raise UserError(f"{name}: expected a number of 0 or more, got {getattr(settings, name)}")
