"""Proximal policy optimisation: the policy answers prompts, a reward judges whole answers, a critic spreads the credit.

As in InstructGPT: the reward stands on the last token, every token pays a k1 estimate of its KL to the frozen
reference, generalised advantage estimation with the critic's values, several passes of clipped updates over each buffer
of rollouts, and, where asked for, a share of likelihood training on other data (ptx) against forgetting.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn
from transformers import PreTrainedModel

from zhenlong.data import Mixture, Template
from zhenlong.errors import UserError
from zhenlong.forest import Batch, Forest, Node, forward, log_probs, plant_batches
from zhenlong.loop import Cost, Learner, Options, Run, StepLoss
from zhenlong.models import ValueHead, load_model, save_model
from zhenlong.objectives.advantage import generalized_advantage, terminal_rewards, whiten
from zhenlong.objectives.kl import KLController
from zhenlong.objectives.likelihood import negative_log_likelihood
from zhenlong.objectives.policy_gradient import policy_loss, sampled_entropy, value_loss
from zhenlong.objectives.reduce import per_response
from zhenlong.records import Demonstration, Task
from zhenlong.rewards import reward_from
from zhenlong.sampling import TorchSampler
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
from zhenlong.stages.trees import conversation_trees, read_all


@dataclass(frozen=True)
class Settings:
    """The coefficients of the loss and of the advantages; see `ppo` for each."""

    clip: float
    value_clip: float
    value_coef: float
    entropy_coef: float
    gamma: float
    lam: float
    ptx_coef: float
    whiten_rewards: bool
    temperature: float


@dataclass(frozen=True)
class PtxBatch(Batch):
    """A micro-batch of demonstrations among those of rollouts; `share` scales its tokens to the step's count."""

    share: float = 0.0


def ppo(
    *,
    model: str,
    data: str,
    output: str,
    reward: str,
    critic: Literal["head", "separate"] = "head",
    critic_model: str = "",
    critic_lr: float = 1e-5,
    rollouts: int = 128,
    passes: int = 4,
    kl_coef: float = 0.05,
    kl_target: float = 0.0,
    kl_horizon: float = 10000.0,
    clip: float = 0.2,
    value_clip: float = 0.2,
    value_coef: float = 0.1,
    entropy_coef: float = 0.0,
    gamma: float = 1.0,
    lam: float = 0.95,
    whiten_rewards: bool = False,
    ptx_data: str = "",
    ptx_coef: float = 0.0,
    max_tokens: int = 256,
    temperature: float = 1.0,
    truncation_penalty: float = 0.0,
    too_long: Literal["error", "drop"] = "error",
    chat_template: str = "auto",
    skip_bad_rows: bool = False,
    lr: float = 1e-6,
    schedule: Literal["constant", "linear", "cosine", "wsd"] = "constant",
    **training: Any,
) -> Path:
    """Optimise a policy against a reward, with a critic.

    Args:
        model: Policy to start from, as a rule the SFT model: pocket, a model or run folder, or a hub id.
        data: Prompts: tasks, rankings or ratings from files, hf:owner/name or world:tasks.
        output: Run folder to make.
        reward: What an answer is worth: model:<folder>, verifier, or a combination such as `model:rm + 0.5*verifier`.
        critic: A value head on the policy, or a network of its own (separate), which costs twice as much.
        critic_model: What a separate critic starts from, as a rule the reward model; empty takes the policy.
        critic_lr: Peak learning rate of the critic; a value head starts at 0 and needs more than the policy.
        rollouts: Prompts answered before learning from them, in minibatches of batch_size.
        passes: Times that each rollout is learned from.
        kl_coef: Price of a nat of KL to the model as it began, paid token by token in the reward.
        kl_target: KL per response, in nats, that kl_coef is steered towards; 0 keeps kl_coef fixed.
        kl_horizon: Rollouts over which a full error changes kl_coef by a fifth.
        clip: The probability ratio is clipped to 1 - clip .. 1 + clip.
        value_clip: A value moves at most this far from the old one, in reward units; 0 leaves it free.
        value_coef: Weight of the value loss.
        entropy_coef: Weight of the entropy bonus.
        gamma: Discount of later rewards.
        lam: GAE's lambda: 1 trusts returns only, 0 the critic only.
        whiten_rewards: Scale the rewards of a buffer to variance 1, their mean kept.
        ptx_data: Demonstrations to mix in as likelihood training (InstructGPT's ptx).
        ptx_coef: Weight of that loss.
        max_tokens: Longest answer.
        temperature: Sampling temperature; log-probabilities are taken at the same.
        truncation_penalty: Taken from the reward of an answer that was cut off at max_tokens.
        too_long: What to do with a prompt that leaves no room for max_tokens: stop with an error, or drop and count it.
        chat_template: The tokenizer's own (auto), or chatml, llama2, llama3 or alpaca.
        skip_bad_rows: Leave bad rows out, count them and list them in the run folder.
        lr: Peak learning rate.
        schedule: Learning rate after the warm-up.

    Returns the run folder. Equations: r_t = [t = T] R - kl_coef (log π - log π_ref), A by GAE (Schulman et al. 2016),
    L = -min(ρ A, clip(ρ) A) + value_coef ½ (V - G)² - ptx_coef log π(ptx) (Ouyang et al. 2022, Eq. 2).
    """
    config = dict(locals())
    options = Options(lr=lr, schedule=schedule, **training)
    settings = Settings(clip, value_clip, value_coef, entropy_coef, gamma, lam, ptx_coef, whiten_rewards, temperature)
    _check(config)
    with Run(output, config, options, "ppo") as run:
        if run.finished:
            return run.output
        tasks, order = read_all(run, data, Task, options)
        policy, tokenizer = load(model, options, dropout=False)
        template = Template.of(tokenizer, chat_template)
        tasks, prompts, order = fitting_prompts(run, tasks, order, template, context_of(policy), max_tokens, too_long)
        worth = reward_from(reward, device=options.device)
        sampler, reference = TorchSampler(policy, tokenizer), Reference(policy)
        values = _Critic(critic, policy, critic_model or model, options)
        ptx, ptx_order = _ptx(run, ptx_data, ptx_coef, template, context_of(policy), options)
        minibatches = max(1, math.ceil(rollouts / options.batch_size))
        total = options.steps or math.ceil(options.epochs * order.epoch / rollouts) * passes * minibatches
        learner = Learner(policy, options, total, {"critic": (values.module, critic_lr)})
        controller = KLController(kl_coef, kl_target or None, kl_horizon)
        cost, buffer = Cost.of(policy), Buffer()
        run.track(learner=learner, order=order, ptx_order=ptx_order, buffer=buffer, controller=controller)
        for _ in evaluated(run, policy, tokenizer, run.steps(total), chat_template):
            if not buffer.waiting:
                with run.evaluation(), learner.autocast():
                    sampling = rollout_sampling(run, template, temperature, max_tokens)
                    groups = roll_out(tasks, prompts, order.draw(rollouts), sampler, sampling, 1, worth)
                    _measure(run, cost, groups, policy, values, reference, settings, options)
                scores = _penalised(groups, truncation_penalty)
                metrics = _add_advantages(groups, scores, controller, settings)
                count_sampling(run, cost, groups)
                run.log({**rollout_metrics(groups), **metrics})
                buffer.fill(groups, passes, minibatches, run.generator("minibatches"))
            if run.sampling_now():
                run.samples(sample_rows(tasks, buffer.groups))
            groups = buffer.draw()
            count = float(sum(group.tokens for group in groups))
            batches: list[Batch] = plant_batches(
                [group.tree for group in groups], options.tokens_per_microbatch, run.device
            )
            batches += _ptx_batches(ptx, ptx_order.draw(options.batch_size) if ptx else [], count, options, run)
            loss = partial(rollout_loss, policy, values, groups, settings)
            run.log(update(run, learner, cost, batches, loss, count))
        return run.finish(*ready(policy, template), save_model)


class _Critic:
    """Values of states, [M] at the positions that predict scored tokens: a head on the policy, or another network."""

    def __init__(self, kind: str, policy: PreTrainedModel, start: str, options: Options) -> None:
        if kind == "head":
            device = next(policy.parameters()).device
            self.module: nn.Module = ValueHead(policy.config.get_text_config().hidden_size).to(device)
        else:
            self.network = load_model(start, kind="reward", device=options.device, seed=options.seed)[0]
            self.module = self.network
        self.separate = kind == "separate"

    def __call__(self, states: torch.Tensor, forest: Forest) -> torch.Tensor:
        """Values at what predicts scored tokens, of the policy's states [M, d] there; a separate critic has its own."""
        if self.separate:
            return self.network.score(forward(self.network, forest)).squeeze(-1).float()
        return self.module(states)


def rollout_loss(
    policy: PreTrainedModel, critic: _Critic, groups: Sequence[Group], settings: Settings, batch: Batch
) -> StepLoss:
    """PPO's loss summed over a micro-batch's tokens, or the likelihood loss of a micro-batch of demonstrations."""
    forest = batch.forest
    states = forward(policy, forest)
    if isinstance(batch, PtxBatch):
        loss = negative_log_likelihood(log_probs(policy, states, forest))
        return StepLoss(settings.ptx_coef * batch.share * loss, {"ptx_loss": (loss, float(len(forest.target)))})
    scored, entropy = log_probs(policy, states, forest, settings.temperature, entropy=True)  # [M]
    old, advantages, returns, old_values = (
        gathered(name, groups, batch) for name in ("old_log_probs", "advantages", "returns", "values")
    )
    total, sums = policy_loss(
        scored, old, advantages, forest.leaf, forest.leaves, clip_low=settings.clip, clip_high=settings.clip
    )
    values = critic(states, forest)
    value_total, value_sums = value_loss(values, old_values, returns, clip=settings.value_clip or None)
    total = total + settings.value_coef * value_total
    if settings.entropy_coef:
        total = total - settings.entropy_coef * sampled_entropy(scored).sum()
    tokens = float(len(forest.target))
    metrics = {**sums, **value_sums, "value_loss": value_total.detach(), "entropy": entropy.sum()}
    return StepLoss(total, {name: (value, tokens) for name, value in metrics.items()})


def _measure(
    run: Run,
    cost: Cost,
    groups: Sequence[Group],
    policy: PreTrainedModel,
    critic: _Critic,
    reference: Reference,
    settings: Settings,
    options: Options,
) -> None:
    """Give the groups the reference's log-probabilities and the critic's values, before and after their tokens."""
    budget = options.tokens_per_microbatch
    with reference() as frozen:
        add_array("reference", groups, partial(token_log_probs, frozen, settings.temperature), budget, run, cost)
    add_array("values", groups, partial(_values, policy, critic), budget, run, cost)


def _values(policy: PreTrainedModel, critic: _Critic, forest: Forest) -> torch.Tensor:
    states = torch.empty(0) if critic.separate else forward(policy, forest)
    return critic(states, forest)


def _penalised(groups: Sequence[Group], penalty: float) -> torch.Tensor:
    """The reward of each response, [R], less the penalty where it was cut off."""
    pairs = [(reward, cut) for group in groups for reward, cut in zip(group.rewards, group.truncated, strict=True)]
    return torch.tensor([reward - penalty * cut for reward, cut in pairs], dtype=torch.float32)


def _add_advantages(
    groups: Sequence[Group], scores: torch.Tensor, controller: KLController, settings: Settings
) -> dict[str, float]:
    """Give each token its advantage and return: the score on the last token, less the KL of every token."""
    leaf, responses = leaf_of(groups)
    if settings.whiten_rewards:
        scores = whiten(scores, shift_mean=False)
    kl = gathered("old_log_probs", groups) - gathered("reference", groups)  # k1 [M]
    rewards = terminal_rewards(scores, leaf) - controller.coefficient * kl
    values = gathered("values", groups)
    advantages, returns = generalized_advantage(
        rewards, values, leaf, responses, bootstrap=None, gamma=settings.gamma, lam=settings.lam
    )
    spread("advantages", groups, whiten(advantages).numpy())
    spread("returns", groups, returns.numpy())
    mean_kl = float(per_response(kl, leaf, responses).mean())
    explained = 1 - float((returns - values).var() / returns.var().clamp(min=1e-8))
    metrics = {"kl": mean_kl, "kl_coef": controller.coefficient, "explained_variance": explained}
    controller.update(mean_kl, responses)
    return metrics


def _ptx(
    run: Run, data: str, coefficient: float, template: Template, context: int, options: Options
) -> tuple[list[Node], Mixture]:
    """The demonstrations to mix in, as trees, and their order; none where there is no coefficient."""
    if not (data and coefficient):
        return [], Mixture([1])
    demonstrations, order = read_all(run, data, Demonstration, options, "ptx")
    return conversation_trees(run, demonstrations, order, template, context, "error")


def _ptx_batches(trees: Sequence[Node], rows: Sequence[int], count: float, options: Options, run: Run) -> list[Batch]:
    """Micro-batches of demonstrations whose tokens together weigh as much as the step's `count` of rollout tokens."""
    chosen = [trees[row] for row in rows]
    scored = sum(node.scored_tokens for node in chosen)
    planted = plant_batches(chosen, options.tokens_per_microbatch, run.device)
    return [PtxBatch(batch.forest, [rows[row] for row in batch.rows], count / scored) for batch in planted]


def _check(config: dict[str, Any]) -> None:
    for name in ("rollouts", "passes", "max_tokens"):
        if config[name] < 1:
            raise UserError(f"{name}: expected a whole number of 1 or more, got {config[name]}")
    for name in ("kl_coef", "kl_target", "clip", "value_clip", "value_coef", "ptx_coef", "critic_lr"):
        if not config[name] >= 0:
            raise UserError(f"{name}: expected a number of 0 or more, got {config[name]}")
    if not 0 < config["temperature"] < math.inf:
        raise UserError(f"temperature: expected a finite number above 0, got {config['temperature']}")
    for name in ("gamma", "lam"):
        if not 0 <= config[name] <= 1:
            raise UserError(f"{name}: expected a number from 0 to 1, got {config[name]}")
    if bool(config["ptx_data"]) != bool(config["ptx_coef"]):
        raise UserError("ptx_data and ptx_coef: expected both or neither; one alone does nothing")
    if config["critic_model"] and config["critic"] == "head":
        raise UserError("critic_model: is what a separate critic starts from; add --critic separate")
