"""How much better than expected: advantages from rewards, with a critic (GAE) or with a group of samples.

M scored tokens of R responses, flat; `leaf [M]` says which response. Tokens of one response stand in their order in the
text. Nothing here carries a gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor

from zhenlong.errors import UserError
from zhenlong.objectives.reduce import counts, per_response

BASELINES: Final = ("mean", "leave_one_out", "none")
SCALES: Final = ("group", "batch", "none")


@torch.no_grad()
def generalized_advantage(
    rewards: Tensor,
    values: Tensor,
    leaf: Tensor,
    responses: int,
    *,
    bootstrap: Tensor | None,
    gamma: float = 1.0,
    lam: float = 0.95,
) -> tuple[Tensor, Tensor]:
    """Generalised advantage estimation (Eq. 16, Schulman et al. 2016) in each response -> advantages [M], returns [M].

    δ_t = r_t + γ V_{t+1} - V_t, A_t = Σ_k (γλ)^k δ_{t+k}, return = A_t + V_t. `rewards [M]` per token, `values [M]` of
    the state *before* each token. Only scored tokens are steps, so values pass over tool or user tokens in between.

    `bootstrap` is the value after the last token, and has to be chosen: None ends every response there (value 0); [R]
    gives it one by one, 0 for those that ended with an end-of-turn token, the critic's estimate for truncated ones.
    """
    row, column, width = _places(leaf, responses)
    padded_rewards, padded_values = (_padded(x, row, column, responses, width) for x in (rewards, values))  # [R, T]
    real = _padded(torch.ones_like(values), row, column, responses, width).bool()
    advantages = torch.zeros_like(padded_values)
    following = torch.zeros_like(values[:1]).expand(responses) if bootstrap is None else bootstrap.to(values.dtype)
    running = torch.zeros_like(following)
    for t in reversed(range(width)):
        delta = padded_rewards[:, t] + gamma * following - padded_values[:, t]
        running = torch.where(real[:, t], delta + gamma * lam * running, running)
        following = torch.where(real[:, t], padded_values[:, t], following)
        advantages[:, t] = running
    flat = advantages[row, column]
    return flat, flat + values


def terminal_rewards(scores: Tensor, leaf: Tensor) -> Tensor:
    """Each response's score [R] on its last token, 0 elsewhere -> [M]. The end-of-turn token is that last token.

    Raises ValueError when a response has no token to carry its score.
    """
    responses = scores.shape[0]
    row, column, _ = _places(leaf, responses)
    count = counts(leaf, responses)
    if bool((count == 0).any()):
        raise ValueError(f"response {int((count == 0).nonzero()[0])} has no token to carry its reward")
    last = column == count[row] - 1
    return torch.where(last, scores[row], torch.zeros_like(scores[:1]))


@torch.no_grad()
def whiten(
    values: Tensor,
    *,
    keep: Tensor | None = None,
    shift_mean: bool = True,
    total: Callable[[Tensor], Tensor] = lambda x: x,
) -> Tensor:
    """`values [M]` scaled to variance 1, and to mean 0 unless `shift_mean` is False -> [M].

    Statistics are over the tokens that `keep [M]` (bool) marks, all by default, and over all ranks: `total` sums a
    tensor over them. One token or equal values have variance 0 and give 0 (or the values, unshifted), never NaN.
    """
    mask = torch.ones_like(values) if keep is None else keep.to(values.dtype)
    count, summed = total(torch.stack([mask.sum(), (values * mask).sum()]))
    mean = summed / count.clamp(min=1.0)
    variance = total((mask * (values - mean) ** 2).sum()) / count.clamp(min=1.0)
    white = (values - mean) * torch.rsqrt(variance + 1e-8)
    if shift_mean:
        return white * mask
    return torch.where(variance > 0, white + mean, values) * mask


@torch.no_grad()
def group_advantages(rewards: Tensor, group: Tensor, *, baseline: str = "mean", scale: str = "group") -> Tensor:
    """Rewards compared with those of the same prompt's other samples -> [R].

    `rewards [R]`, `group [R]`: any integer id of the prompt; members need not stand together nor be equally many.
    `baseline`: `mean` of the group; `leave_one_out`, the mean of the others (RLOO, Ahmadian et al. 2024); `none`.
    `scale`: divide by the standard deviation (n-1) + 1e-4 of the `group` (GRPO, Shao et al. 2024), of the whole
    `batch`, or not, `none` (Dr. GRPO, Liu et al. 2025; RLOO). With a baseline, a group of one or of equal rewards
    gives exactly 0: it has nothing to compare.
    """
    if baseline not in BASELINES:
        raise UserError(f"baseline: expected one of {', '.join(BASELINES)}, got {baseline!r}")
    if scale not in SCALES:
        raise UserError(f"advantage scale: expected one of {', '.join(SCALES)}, got {scale!r}")
    _, index = group.unique(return_inverse=True)
    groups = int(index.max()) + 1 if index.numel() else 0
    size = counts(index, groups)[index].to(rewards.dtype)  # [R]
    mean = per_response(rewards, index, groups)[index] / size
    centred = rewards - mean
    if baseline == "none":
        advantages = rewards.clone()
    else:  # r - (mean of the others) = (r - mean) · n / (n - 1)
        advantages = centred * size / (size - 1.0).clamp(min=1.0) if baseline == "leave_one_out" else centred
        advantages = torch.where(varied(rewards, group), advantages, torch.zeros_like(advantages))
    if scale == "group":
        squares = per_response(centred**2, index, groups)[index]
        advantages = advantages / ((squares / (size - 1.0).clamp(min=1.0)).sqrt() + 1e-4)
    elif scale == "batch" and rewards.numel() > 1:
        advantages = advantages / (rewards.std() + 1e-4)
    return advantages


def varied(rewards: Tensor, group: Tensor) -> Tensor:
    """Whether a response's group has different rewards -> [R] bool; the others teach nothing (DAPO's dynamic sampling).

    §3.2, Yu et al. 2025: sample again until enough groups are varied. A group of one is not.
    """
    _, index = group.unique(return_inverse=True)
    high = rewards.new_full((rewards.shape[0],), -torch.inf).scatter_reduce(0, index, rewards, "amax")[index]
    low = rewards.new_full((rewards.shape[0],), torch.inf).scatter_reduce(0, index, rewards, "amin")[index]
    return high > low


def _places(leaf: Tensor, responses: int) -> tuple[Tensor, Tensor, int]:
    """Where each token stands in a padded [R, T] table: its row [M], its column [M], and T."""
    count = counts(leaf, responses)
    order = torch.argsort(leaf, stable=True)
    start = (count.cumsum(0) - count)[leaf[order]]
    column = torch.empty_like(leaf)
    column[order] = torch.arange(leaf.shape[0], device=leaf.device) - start
    return leaf, column, int(count.max()) if responses else 0


def _padded(values: Tensor, row: Tensor, column: Tensor, responses: int, width: int) -> Tensor:
    table = values.new_zeros(responses, width)
    table[row, column] = values
    return table
