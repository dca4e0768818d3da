"""Advantages from rewards: with a critic (GAE), or relative to a group of samples.

M scored tokens of R responses, flat; `response_index [M]` gives the response of each token. The tokens of one response
are in text order. Nothing here carries a gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from zhenlong.errors import UserError
from zhenlong.objectives.reduce import sum_per_response, tokens_per_response

ADVANTAGE_BASELINES: Final = ("mean", "leave_one_out", "none")
REWARD_SCALES: Final = ("group", "batch", "whiten", "none")


@dataclass(frozen=True)
class GAESettings:
    """The discount γ of later rewards, and λ: 1 trusts returns only, 0 the critic only."""

    gamma: float = 1.0
    gae_lambda: float = 0.95


@torch.no_grad()
def generalized_advantage(
    rewards: Tensor,
    values: Tensor,
    response_index: Tensor,
    num_responses: int,
    bootstrap_values: Tensor | None,
    settings: GAESettings,
) -> tuple[Tensor, Tensor]:
    """Generalised advantage estimation (Eq. 16, Schulman et al. 2016) per response -> advantages [M], returns [M].

    δ_t = r_t + γ V_{t+1} - V_t, A_t = Σ_k (γλ)^k δ_{t+k}, return = A_t + V_t. `rewards [M]` per token, `values [M]` of
    the state *before* each token. Only scored tokens are steps, so tool or user tokens in between are skipped.

    `bootstrap_values` is the value after the last token and must be chosen: None means value 0 after every response;
    [R] gives one per response: 0 where it ended with an end-of-turn token, the critic's estimate where it was
    truncated.
    """
    row, column, width = _table_positions(response_index, num_responses)
    padded_rewards, padded_values = (
        _to_padded(x, row, column, num_responses, width) for x in (rewards, values)
    )  # [R, T]
    real = _to_padded(torch.ones_like(values), row, column, num_responses, width).bool()
    advantages = torch.zeros_like(padded_values)
    next_values = (
        torch.zeros_like(values[:1]).expand(num_responses)
        if bootstrap_values is None
        else bootstrap_values.to(values.dtype)
    )
    last_advantage = torch.zeros_like(next_values)
    for t in reversed(range(width)):
        delta = padded_rewards[:, t] + settings.gamma * next_values - padded_values[:, t]
        last_advantage = torch.where(
            real[:, t], delta + settings.gamma * settings.gae_lambda * last_advantage, last_advantage
        )
        next_values = torch.where(real[:, t], padded_values[:, t], next_values)
        advantages[:, t] = last_advantage
    flat = advantages[row, column]
    return flat, flat + values


def terminal_rewards(scores: Tensor, response_index: Tensor) -> Tensor:
    """Each response's score [R] on its last token, 0 elsewhere -> [M]. The end-of-turn token is the last token.

    Raises ValueError when a response has no tokens.
    """
    num_responses = scores.shape[0]
    row, column, _ = _table_positions(response_index, num_responses)
    count = tokens_per_response(response_index, num_responses)
    if bool((count == 0).any()):
        raise ValueError(f"response {int((count == 0).nonzero()[0])} has no token to carry its reward")
    last = column == count[row] - 1
    return torch.where(last, scores[row], torch.zeros_like(scores[:1]))


@torch.no_grad()
def whiten(
    values: Tensor,
    *,
    mask: Tensor | None = None,
    shift_mean: bool = True,
    all_reduce: Callable[[Tensor], Tensor] = lambda x: x,
) -> Tensor:
    """`values [M]` normalised to variance 1, and to mean 0 unless `shift_mean` is False -> [M].

    Statistics are over the tokens in `mask [M]` (bool; default all) and over all ranks: `all_reduce` sums a tensor over
    ranks. A single token, or equal values, have variance 0 and give 0 (or the unshifted values), never NaN.
    """
    weights = torch.ones_like(values) if mask is None else mask.to(values.dtype)
    values = values if mask is None else values.masked_fill(~mask, 0.0)  # NaN times 0 would be NaN
    count, summed = all_reduce(torch.stack([weights.sum(), (values * weights).sum()]))
    mean = summed / count.clamp(min=1.0)
    variance = all_reduce((weights * (values - mean) ** 2).sum()) / count.clamp(min=1.0)
    whitened = (values - mean) * torch.rsqrt(variance + 1e-8)
    if shift_mean:
        return whitened * weights
    return torch.where(variance > 0, whitened + mean, values) * weights


@torch.no_grad()
def group_advantages(
    rewards: Tensor, group_ids: Tensor, *, advantage_baseline: str = "mean", scale_rewards: str = "group"
) -> Tensor:
    """Rewards relative to those of the other samples of the prompt -> [R].

    `rewards [R]`, `group_ids [R]`: any integer id of the prompt; groups may be interleaved and differ in size.
    `advantage_baseline`: `mean` of the group; `leave_one_out`, the mean of the others (RLOO, Ahmadian et al. 2024);
    `none`.
    `scale_rewards`: divide by the standard deviation (n-1) + 1e-4 of the `group` (GRPO, Shao et al. 2024) or of the
    whole `batch`; `whiten` the advantages over the batch, to mean 0 and variance 1 (REINFORCE++, Hu et al. 2025; with a
    baseline their mean is 0 already); or not at all, `none` (Dr. GRPO, Liu et al. 2025; RLOO). With a baseline, a group
    of size one or with equal rewards gives exactly 0.
    """
    if advantage_baseline not in ADVANTAGE_BASELINES:
        raise UserError(
            f"advantage_baseline: expected one of {', '.join(ADVANTAGE_BASELINES)}, got {advantage_baseline!r}"
        )
    if scale_rewards not in REWARD_SCALES:
        raise UserError(f"scale_rewards: expected one of {', '.join(REWARD_SCALES)}, got {scale_rewards!r}")
    _, index = group_ids.unique(return_inverse=True)
    num_groups = int(index.max()) + 1 if index.numel() else 0
    size = tokens_per_response(index, num_groups)[index].to(rewards.dtype)  # [R]
    mean = sum_per_response(rewards, index, num_groups)[index] / size
    centered = rewards - mean
    if advantage_baseline == "none":
        advantages = rewards.clone()
    else:  # r - (mean of the others) = (r - mean) · n / (n - 1)
        advantages = (
            centered * size / (size - 1.0).clamp(min=1.0) if advantage_baseline == "leave_one_out" else centered
        )
        advantages = torch.where(has_nonzero_std(rewards, group_ids), advantages, torch.zeros_like(advantages))
    if scale_rewards == "group":
        squares = sum_per_response(centered**2, index, num_groups)[index]
        advantages = advantages / ((squares / (size - 1.0).clamp(min=1.0)).sqrt() + 1e-4)
    elif scale_rewards == "batch" and rewards.numel() > 1:
        advantages = advantages / (rewards.std() + 1e-4)
    elif scale_rewards == "whiten" and rewards.numel() > 1:
        if advantage_baseline == "none":
            advantages = advantages - advantages.mean()
        advantages = advantages / (advantages.std() + 1e-4)
    return advantages


def has_nonzero_std(rewards: Tensor, group_ids: Tensor) -> Tensor:
    """Whether a response's group has different rewards -> [R] bool; other groups give no gradient.

    DAPO's dynamic sampling (§3.2, Yu et al. 2025) samples again until enough groups do. A group of one never does.
    """
    _, index = group_ids.unique(return_inverse=True)
    high = rewards.new_full((rewards.shape[0],), -torch.inf).scatter_reduce(0, index, rewards, "amax")[index]
    low = rewards.new_full((rewards.shape[0],), torch.inf).scatter_reduce(0, index, rewards, "amin")[index]
    return high > low


def _table_positions(response_index: Tensor, num_responses: int) -> tuple[Tensor, Tensor, int]:
    """Position of each token in a padded [R, T] table: its row [M], its column [M], and T."""
    count = tokens_per_response(response_index, num_responses)
    order = torch.argsort(response_index, stable=True)
    start = (count.cumsum(0) - count)[response_index[order]]
    column = torch.empty_like(response_index)
    column[order] = torch.arange(response_index.shape[0], device=response_index.device) - start
    return response_index, column, int(count.max()) if num_responses else 0


def _to_padded(values: Tensor, row: Tensor, column: Tensor, num_responses: int, width: int) -> Tensor:
    table = values.new_zeros(num_responses, width)
    table[row, column] = values
    return table
