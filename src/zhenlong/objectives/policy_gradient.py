"""Policy gradient with a trust region: PPO's clipped surrogate and value loss, on flat tokens.

M scored tokens of R responses; `response_index [M]` gives the response of each token. `old_log_probs [M]` are those of
the policy that sampled the tokens, at the sampling temperature. Losses are sums over tokens, weighted by `weights [M]`
(see `token_weights`); metrics are unweighted sums over tokens, to be divided by the step's tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from zhenlong.errors import UserError
from zhenlong.objectives.reduce import mean_per_response

IMPORTANCE_SAMPLING_LEVELS: Final = ("token", "sequence")
SURROGATES: Final = ("clip", "cispo", "gmpo", "sapo")
SAPO_TEMPERATURES: Final = (1.0, 1.05)  # of tokens with a positive and with another advantage (Gao et al. 2025)
MAX_LOG_RATIO: Final = 20.0
"""Log-ratios are clamped to this magnitude, where e^20 is far outside of any clip range: beyond it the gradient is 0,
not NaN. Peers without a clamp agree within it."""


@dataclass(frozen=True)
class RatioSettings:
    """Of which ratio `policy_loss` is, and the range 1 - clip_low .. 1 + clip_high outside which it gains nothing.

    `surrogate` is what takes the place of the clipped objective, see `policy_loss`. `dual_clip` > 1 also bounds the
    ratio of tokens with a negative advantage (Ye et al. 2020, Eq. 5); 0: unbounded.
    """

    clip_low: float = 0.2
    clip_high: float = 0.2
    level: str = "token"
    dual_clip: float = 0.0
    surrogate: str = "clip"

    def __post_init__(self) -> None:
        if self.dual_clip and not self.dual_clip > 1.0:
            raise UserError(f"dual_clip: expected a number above 1, or 0 to leave it off, got {self.dual_clip:g}")
        if self.surrogate not in SURROGATES:
            raise UserError(f"surrogate: expected one of {', '.join(SURROGATES)}, got {self.surrogate!r}")
        if self.surrogate != "clip" and (self.dual_clip or self.level != "token"):
            raise UserError(f"surrogate {self.surrogate}: expected the level token and no dual_clip")
        if self.level not in IMPORTANCE_SAMPLING_LEVELS:
            raise UserError(
                f"importance_sampling_level: expected one of {', '.join(IMPORTANCE_SAMPLING_LEVELS)}, "
                f"got {self.level!r}"
            )


def policy_loss(
    log_probs: Tensor,
    old_log_probs: Tensor,
    advantages: Tensor,
    response_index: Tensor,
    num_responses: int,
    settings: RatioSettings,
    weights: Tensor | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """-Σ w min(ρ A, clip(ρ, 1-clip_low, 1+clip_high) A) -> scalar (Eq. 7, Schulman et al. 2017), with metric sums.

    `advantages [M]` are per token (for one per response: `advantages[response_index]`). The probability ratio ρ is
    new / old, per `token`, or one for the whole `sequence`, length-normalised, exp(mean_t log ρ_t), as in GSPO (Eq. 7,
    Zheng et al. 2025), where clip ranges are about 3e-4. `clip_high` > `clip_low` is DAPO's clip-higher (Yu et al.
    2025). With `dual_clip` c the loss of a token with A < 0 is at most -c A (Ye et al. 2020, Eq. 5).

    Other surrogates, in the place of min(ρ A, clip(ρ) A):

    - `cispo`: sg(clip(ρ)) A log π, so that clipped tokens keep a gradient (Eq. 4, MiniMax 2025).
    - `gmpo`: A · exp(mean_t l_t) for every token of a response, l = min(log ρ, clip(log ρ)) for A > 0 and the maximum
      for others, clipped at -clip_low .. clip_high: the geometric mean of ratios (Eq. 4, Zhao et al. 2025). It wants
      one advantage per response.
    - `sapo`: A (4/τ) sigmoid(τ (ρ - 1)), where τ is 1 for A > 0 and 1.05 otherwise (Eq. 5, Gao et al. 2025). A soft
      gate: it has no clip range.

    Metrics: `ratio`; `clip_fraction`, tokens whose gradient is clipped away; `approx_kl`, the k3 estimate of
    KL(old ‖ new). On the first step after sampling they are 1, 0 and 0 per token.
    """
    log_ratio = log_probs - old_log_probs  # [M]
    if settings.level == "sequence":
        log_ratio = mean_per_response(log_ratio, response_index, num_responses)[response_index]
    ratio = log_ratio.clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO).exp()
    if settings.surrogate == "clip":
        objective, is_clipped = _clipped_objective(ratio, advantages, settings)
    elif settings.surrogate == "cispo":
        clipped_ratio = ratio.clamp(1.0 - settings.clip_low, 1.0 + settings.clip_high).detach()
        objective, is_clipped = clipped_ratio * advantages * log_probs, clipped_ratio != ratio
    elif settings.surrogate == "gmpo":
        clipped_log_ratio = log_ratio.clamp(-settings.clip_low, settings.clip_high)
        is_clipped = torch.where(advantages > 0, clipped_log_ratio < log_ratio, clipped_log_ratio > log_ratio)
        kept = torch.where(is_clipped, clipped_log_ratio, log_ratio).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)
        geometric_mean = mean_per_response(kept, response_index, num_responses).exp()[response_index]
        objective = geometric_mean * advantages
    else:
        temperature = torch.where(advantages > 0, SAPO_TEMPERATURES[0], SAPO_TEMPERATURES[1]).to(ratio.dtype)
        objective = advantages * (4.0 / temperature) * torch.sigmoid(temperature * (ratio - 1.0))
        is_clipped = torch.zeros_like(ratio, dtype=torch.bool)
    losses = -objective
    with torch.no_grad():
        metrics = {
            "ratio": ratio.sum(),
            "clip_fraction": is_clipped.to(ratio.dtype).sum(),
            "approx_kl": (ratio - 1.0 - log_ratio).sum(),
        }
    return (losses if weights is None else weights * losses).sum(), metrics


def _clipped_objective(ratio: Tensor, advantages: Tensor, settings: RatioSettings) -> tuple[Tensor, Tensor]:
    """min(ρ A, clip(ρ) A) [M] with the bound of dual clip, and which tokens' gradients it removes."""
    unclipped = ratio * advantages
    clipped = ratio.clamp(1.0 - settings.clip_low, 1.0 + settings.clip_high) * advantages
    objective = torch.minimum(unclipped, clipped)
    is_clipped = clipped < unclipped
    if settings.dual_clip:
        bound = settings.dual_clip * advantages
        is_bounded = (advantages < 0) & (bound > objective)
        objective, is_clipped = torch.where(is_bounded, bound, objective), is_clipped | is_bounded
    return objective, is_clipped


def value_loss(
    values: Tensor,
    old_values: Tensor,
    returns: Tensor,
    *,
    clip: float | None = 0.2,
    weights: Tensor | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """½ Σ w max((V - G)^2, (V_clipped - G)^2) -> scalar, with metric sums.

    `values`, `old_values` (at sampling) and `returns` are [M]. V_clipped stays within `clip` (reward units) of the old
    value; None disables clipping. As in OpenAI's baselines and InstructGPT. Metric: `value_clip_fraction`.
    """
    squares = (values - returns) ** 2
    losses, is_clipped = squares, torch.zeros_like(squares, dtype=torch.bool)
    if clip is not None:
        clipped_values = old_values + (values - old_values).clamp(-clip, clip)
        clipped_squares = (clipped_values - returns) ** 2
        losses, is_clipped = torch.maximum(squares, clipped_squares), clipped_squares > squares
        is_clipped &= (values - old_values).abs() > clip  # within the range the two differ by rounding only
    losses = 0.5 * (losses if weights is None else weights * losses)
    return losses.sum(), {"value_clip_fraction": is_clipped.to(squares.dtype).sum()}


def entropy(logits: Tensor) -> Tensor:
    """Entropy of softmax(logits) over the last dimension, in nats: [..., V] -> [...]."""
    log_p = logits.log_softmax(-1)
    return -(log_p.exp() * log_p).sum(-1)


def sampled_entropy(log_probs: Tensor) -> Tensor:
    """Entropy term [M] from the log-probabilities of sampled tokens, without the [M, vocabulary] logits, in nats.

    The value is -log π(a), whose mean over tokens sampled from π is the entropy H; the gradient is that of -½ (log π)²,
    since ∇H = -E_π[log π ∇log π]. (The gradient of -log π itself has expectation 0.) Subtract it, times a
    coefficient, from the loss to encourage exploration.
    """
    bonus = -0.5 * log_probs**2
    return -log_probs.detach() + (bonus - bonus.detach())
