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
from typing_extensions import Unpack

from zhenlong.data import ChatTemplate, LengthLimit, Mixture
from zhenlong.data.options import PromptOptions
from zhenlong.errors import UserError
from zhenlong.forest import Forest, Microbatch, TreeNode, forward, log_probs, make_microbatches
from zhenlong.loop import Learner, Run, StepLoss, TrainingOptions
from zhenlong.models import ValueHead, load_model, save_model
from zhenlong.models.options import ModelOptions
from zhenlong.objectives.advantage import GAESettings, generalized_advantage, terminal_rewards, whiten
from zhenlong.objectives.kl import KLController
from zhenlong.objectives.likelihood import negative_log_likelihood
from zhenlong.objectives.policy_gradient import RatioSettings, policy_loss, sampled_entropy, value_loss
from zhenlong.objectives.reduce import sum_per_response
from zhenlong.options import take_options
from zhenlong.options.keywords import OnlineKwargs
from zhenlong.records import Demonstration, Task
from zhenlong.rewards import build_reward_fn
from zhenlong.rewards.options import RewardOptions
from zhenlong.sampling import TorchSampler
from zhenlong.stages.evaluate_during_training import with_evaluations
from zhenlong.stages.options import RolloutOptions
from zhenlong.stages.prepare_data import conversation_trees, read_training_data
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
from zhenlong.stages.stage_steps import load_for_training, optimizer_step, prepare_for_saving, resolve_max_length


@dataclass(frozen=True)
class PPOSettings:
    """The coefficients of the loss and of the advantages; see `ppo` for each."""

    clip: float
    dual_clip: float
    value_clip: float
    value_coef: float
    entropy_coef: float
    gae: GAESettings
    ptx_coef: float
    whiten_rewards: bool
    temperature: float


@dataclass(frozen=True)
class PtxBatch(Microbatch):
    """A micro-batch of demonstrations among those of rollouts; `token_weight` scales its tokens to the step's count."""

    token_weight: float = 0.0


def ppo(
    *,
    model: str,
    data: str,
    output: str,
    reward: str,
    critic: Literal["head", "separate"] = "head",
    critic_model: str = "",
    critic_lr: float = 1e-5,
    kl_coef: float = 0.05,
    kl_target: float = 0.0,
    kl_horizon: float = 10000.0,
    clip: float = 0.2,
    dual_clip: float = 0.0,
    value_clip: float = 0.2,
    value_coef: float = 0.1,
    entropy_coef: float = 0.0,
    gamma: float = 1.0,
    gae_lambda: float = 0.95,
    whiten_rewards: bool = False,
    ptx_data: str = "",
    ptx_coef: float = 0.0,
    truncation_penalty: float = 0.0,
    **options: Unpack[OnlineKwargs],
) -> Path:
    """Optimise a policy against a reward, with a critic.

    Args:
        data: Prompts: tasks, rankings or ratings from files, hf:owner/name or world:tasks.
        reward: What an answer is worth: model:<folder>, verifier, or a combination such as `model:rm + 0.5*verifier`.
        critic: A value head on the policy, or a network of its own (separate), which costs twice as much.
        critic_model: What a separate critic starts from, as a rule the reward model; empty takes the policy.
        critic_lr: Peak learning rate of the critic; a value head starts at 0 and needs more than the policy.
        kl_coef: Price of a nat of KL to the model as it began, paid token by token in the reward.
        kl_target: KL per response, in nats, that kl_coef is steered towards; 0 keeps kl_coef fixed.
        kl_horizon: Rollouts over which a full error changes kl_coef by a fifth.
        clip: The probability ratio is clipped to 1 - clip .. 1 + clip.
        value_clip: A value moves at most this far from the old one, in reward units; 0 leaves it free.
        value_coef: Weight of the value loss.
        entropy_coef: Weight of the entropy bonus.
        gamma: Discount of later rewards.
        gae_lambda: GAE's lambda: 1 trusts returns only, 0 the critic only.
        whiten_rewards: Scale the rewards of a buffer to variance 1, their mean kept.
        ptx_data: Demonstrations to mix in as likelihood training (InstructGPT's ptx).
        ptx_coef: Weight of that loss.
        truncation_penalty: Taken from the reward of an answer that was cut off at max_tokens.

    Returns the run folder. Equations: r_t = [t = T] R - kl_coef (log π - log π_ref), A by GAE (Schulman et al. 2016),
    L = -min(ρ A, clip(ρ) A) + value_coef ½ (V - G)² - ptx_coef log π(ptx) (Ouyang et al. 2022, Eq. 2).
    """
    config = dict(locals())
    prompt_options, rollout_options, reward_options, model_options, training = take_options(
        options,
        PromptOptions(),
        RolloutOptions(update_epochs=4),
        RewardOptions(),
        ModelOptions(),
        TrainingOptions(lr=1e-6, schedule="constant"),
    )
    settings = PPOSettings(
        clip,
        dual_clip,
        value_clip,
        value_coef,
        entropy_coef,
        GAESettings(gamma, gae_lambda),
        ptx_coef,
        whiten_rewards,
        rollout_options.temperature,
    )
    RatioSettings(dual_clip=dual_clip)  # refuses a wrong one before anything is written
    _check_options(config)
    with Run(
        output,
        config,
        training,
        name="ppo",
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
        sampler, reference = TorchSampler(policy, tokenizer), ReferencePolicy(policy)
        actor_critic = ActorCritic(policy, critic, critic_model or model, run)
        ptx, ptx_order = _read_ptx_data(run, ptx_data, ptx_coef, template, resolve_max_length(policy), training)
        num_minibatches = max(1, math.ceil(rollout_options.rollout_prompts / training.batch_size))
        num_buffers = math.ceil(training.epochs * prompts.order.epoch_size / rollout_options.rollout_prompts)
        total = training.steps or num_buffers * rollout_options.update_epochs * num_minibatches
        learner = Learner(
            policy, training, total, extra_modules={"critic": (actor_critic.critic, critic_lr)}, dtype=run.dtype
        )
        controller, buffer = KLController(kl_coef, kl_target or None, kl_horizon), RolloutBuffer()
        run.track(learner=learner, order=prompts.order, ptx_order=ptx_order, buffer=buffer, controller=controller)
        for _ in with_evaluations(run, policy, tokenizer, run.steps(total), prompt_options.template_spec):
            if not buffer.pending:
                with run.eval_mode(), learner.autocast():
                    # Sample: a response y to each prompt x. Reward: R(x, y), of the whole response.
                    sampling = rollout_sampling(run, template, rollout_options)
                    task_indices = prompts.order.draw(rollout_options.rollout_prompts)
                    groups = generate_rollouts(prompts, task_indices, sampler, sampling, 1, reward_fn)
                    _add_reference_and_values(run, groups, actor_critic, reference, settings, learner)
                # Advantages: GAE over r_t = [t = T] R - kl_coef (log π - log π_ref).
                scores = _apply_truncation_penalty(groups, truncation_penalty)  # [R]
                metrics = _add_advantages(groups, scores, controller, settings)
                count_sampling_cost(run, learner.flops, groups)
                run.log({**rollout_metrics(groups), **metrics})
                # Minibatches: every response `update_epochs` times.
                buffer.fill(groups, rollout_options.update_epochs, num_minibatches, run.generator("minibatches"))
            if run.should_sample():
                run.write_samples(sample_rows(prompts.tasks, buffer.groups))
            # Loss: -min(ρ A, clip(ρ) A) + value_coef ½ (V - G)² - ptx_coef log π(ptx), normalised over the minibatch.
            minibatch = buffer.next_minibatch()
            count = float(sum(group.num_tokens for group in minibatch))
            microbatches: list[Microbatch] = make_microbatches(
                [group.tree for group in minibatch], training.tokens_per_microbatch, run.device
            )
            microbatches += _ptx_batches(ptx, ptx_order.draw(training.batch_size) if ptx else [], count, training, run)
            loss = partial(ppo_loss, actor_critic, minibatch, settings)
            run.log(optimizer_step(run, learner, microbatches, loss, count))
        return run.finish(*prepare_for_saving(policy, template), save_model)


class ActorCritic:
    """The policy and its critic: a value head on the policy's states, or a network of its own (`separate`)."""

    def __init__(self, policy: PreTrainedModel, kind: Literal["head", "separate"], init_model: str, run: Run) -> None:
        self.policy, self.separate = policy, kind == "separate"
        if self.separate:
            self.network = load_model(
                init_model, kind="reward", device=run.model_options.device, seed=run.options.seed
            )[0]
            self.critic: nn.Module = self.network
        else:
            device = next(policy.parameters()).device
            self.critic = ValueHead(policy.config.get_text_config().hidden_size).to(device)

    def values(self, forest: Forest, states: torch.Tensor | None = None) -> torch.Tensor:
        """The value before each scored token, [M]; `states` [M, d] are the policy's there, where they are at hand."""
        if self.separate:
            return self.network.score(forward(self.network, forest)).squeeze(-1).float()
        return self.critic(forward(self.policy, forest) if states is None else states)


def ppo_loss(
    actor_critic: ActorCritic, groups: Sequence[Group], settings: PPOSettings, microbatch: Microbatch
) -> StepLoss:
    """PPO's loss summed over a micro-batch's tokens, or the likelihood loss of a micro-batch of demonstrations."""
    policy, forest = actor_critic.policy, microbatch.forest
    states = forward(policy, forest)
    if isinstance(microbatch, PtxBatch):
        loss = negative_log_likelihood(log_probs(policy, states, forest))
        weight = settings.ptx_coef * microbatch.token_weight
        return StepLoss(weight * loss, {"ptx_loss": (loss, float(len(forest.target)))})
    rollout = TokenFields.of_microbatch(groups, microbatch)
    policy_log_probs, entropy = log_probs(policy, states, forest, settings.temperature, return_entropy=True)  # [M]
    total, metric_sums = policy_loss(
        policy_log_probs,
        rollout.old_log_probs,
        rollout.advantages,
        forest.response_index,
        forest.num_responses,
        RatioSettings(settings.clip, settings.clip, dual_clip=settings.dual_clip),
    )
    values = actor_critic.values(forest, states)
    value_total, value_sums = value_loss(values, rollout.values, rollout.returns, clip=settings.value_clip or None)
    total = total + settings.value_coef * value_total
    if settings.entropy_coef:
        total = total - settings.entropy_coef * sampled_entropy(policy_log_probs).sum()
    tokens = float(len(forest.target))
    metrics = {**metric_sums, **value_sums, "value_loss": value_total.detach(), "entropy": entropy.sum()}
    return StepLoss(total, {name: (value, tokens) for name, value in metrics.items()})


def _add_reference_and_values(
    run: Run,
    groups: Sequence[Group],
    actor_critic: ActorCritic,
    reference: ReferencePolicy,
    settings: PPOSettings,
    learner: Learner,
) -> None:
    """Give the groups the reference's log-probabilities of their tokens, and the critic's values before them."""
    budget = learner.options.tokens_per_microbatch
    with reference() as frozen:
        token_fn = partial(token_log_probs, frozen, settings.temperature)
        reference_log_probs = compute_per_token(run, groups, token_fn, budget, learner.flops)
    values = compute_per_token(run, groups, actor_critic.values, budget, learner.flops)
    for group, own_log_probs, own_values in zip(groups, reference_log_probs, values, strict=True):
        group.reference_log_probs, group.values = own_log_probs, own_values


def _apply_truncation_penalty(groups: Sequence[Group], penalty: float) -> torch.Tensor:
    """The reward of each response, [R], less the penalty where it was truncated."""
    pairs = [(reward, cut) for group in groups for reward, cut in zip(group.rewards, group.truncated, strict=True)]
    return torch.tensor([reward - penalty * cut for reward, cut in pairs], dtype=torch.float32)


def _add_advantages(
    groups: Sequence[Group], scores: torch.Tensor, controller: KLController, settings: PPOSettings
) -> dict[str, float]:
    """Give each token its advantage and return: the score on the last token, less the KL of every token."""
    response_index, num_responses = response_index_of(groups)
    rollout = TokenFields.of_groups(groups)
    if settings.whiten_rewards:
        scores = whiten(scores, shift_mean=False)
    kl = rollout.old_log_probs - rollout.reference_log_probs  # k1 [M]
    rewards = terminal_rewards(scores, response_index) - controller.coefficient * kl  # r_t [M]
    advantages, returns = generalized_advantage(
        rewards,
        rollout.values,
        response_index,
        num_responses,
        bootstrap_values=None,
        settings=settings.gae,
    )
    per_token = (split_by_group(values, groups) for values in (whiten(advantages), returns))
    for group, own_advantages, own_returns in zip(groups, *per_token, strict=True):
        group.advantages, group.returns = own_advantages, own_returns
    mean_kl = float(sum_per_response(kl, response_index, num_responses).mean())
    explained = 1 - float((returns - rollout.values).var() / returns.var().clamp(min=1e-8))
    metrics = {"kl": mean_kl, "kl_coef": controller.coefficient, "explained_variance": explained}
    controller.update(mean_kl, num_responses)
    return metrics


def _read_ptx_data(
    run: Run, data: str, ptx_coef: float, template: ChatTemplate, context: int, options: TrainingOptions
) -> tuple[list[TreeNode], Mixture]:
    """The demonstrations to mix in, as trees, and their order; none where there is no coefficient."""
    if not (data and ptx_coef):
        return [], Mixture([1])
    demonstrations, order = read_training_data(run, data, Demonstration, options, "ptx_data")
    return conversation_trees(run, demonstrations, order, template, LengthLimit(context))


def _ptx_batches(
    trees: Sequence[TreeNode], rows: Sequence[int], count: float, options: TrainingOptions, run: Run
) -> list[Microbatch]:
    """Micro-batches of demonstrations whose tokens together weigh as much as the step's `count` of rollout tokens."""
    selected = [trees[row] for row in rows]
    scored = sum(node.num_scored for node in selected)
    microbatches = make_microbatches(selected, options.tokens_per_microbatch, run.device)
    return [PtxBatch(batch.forest, [rows[row] for row in batch.tree_indices], count / scored) for batch in microbatches]


def _check_options(config: dict[str, Any]) -> None:
    for name in ("kl_coef", "kl_target", "clip", "value_clip", "value_coef", "ptx_coef", "critic_lr"):
        if not config[name] >= 0:
            raise UserError(f"{name}: expected a number of 0 or more, got {config[name]}")
    for name in ("gamma", "gae_lambda"):
        if not 0 <= config[name] <= 1:
            raise UserError(f"{name}: expected a number from 0 to 1, got {config[name]}")
    if bool(config["ptx_data"]) != bool(config["ptx_coef"]):
        raise UserError("ptx_data and ptx_coef: expected both or neither; one alone does nothing")
    if config["critic_model"] and config["critic"] == "head":
        raise UserError("critic_model: is what a separate critic starts from; add --critic separate")
