"""The DPO family: preference losses on the policy itself, without a reward model.

P pairs of responses; all log-probabilities are sums over a response's tokens, [P], of the policy and, unless the loss
is reference-free, of the frozen reference.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from zhenlong.errors import UserError

PREFERENCE_LOSSES: Final = (
    "sigmoid",
    "sigmoid_norm",
    "robust",
    "ipo",
    "hinge",
    "apo_zero",
    "apo_down",
    "simpo",
    "orpo",
)
REFERENCE_FREE: Final = frozenset({"simpo", "orpo"})
"""Losses without a reference model."""
LENGTH_NORMALIZED: Final = frozenset({"sigmoid_norm", "ipo", "simpo", "orpo"})
"""Losses of mean log-probabilities per token; all others use sums."""
SUPPORTS_LABEL_SMOOTHING: Final = frozenset({"sigmoid", "sigmoid_norm", "robust", "simpo"})
"""Losses that support `label_smoothing`."""


@dataclass(frozen=True)
class PreferenceLogProbs:
    """P pairs of responses, each field [P]: summed log-probabilities of the policy and of the reference, token counts.

    The reference's are None for losses without one, the token counts where nothing is averaged over tokens.
    """

    chosen: Tensor
    rejected: Tensor
    reference_chosen: Tensor | None = None
    reference_rejected: Tensor | None = None
    chosen_tokens: Tensor | None = None
    rejected_tokens: Tensor | None = None


@dataclass(frozen=True)
class PreferenceSettings:
    """The loss and its coefficients, as `preference_loss` explains them; `UserError` for what does not go together."""

    beta: float = 0.1
    loss: str = "sigmoid"
    label_smoothing: float = 0.0
    gamma: float = 0.0
    sft_weight: float = 0.0

    def __post_init__(self) -> None:
        if not 0.0 < self.beta < math.inf:
            raise UserError(f"beta: expected a finite number above 0, got {self.beta}")
        if self.loss not in PREFERENCE_LOSSES:
            raise UserError(f"loss: expected one of {', '.join(PREFERENCE_LOSSES)}, got {self.loss!r}")
        if not 0.0 <= self.label_smoothing < 0.5:
            raise UserError(f"label_smoothing: expected a number in [0, 0.5), got {self.label_smoothing}")
        if self.label_smoothing and self.loss not in SUPPORTS_LABEL_SMOOTHING:
            raise UserError(
                f"label_smoothing: {self.loss} does not support it; use it with "
                f"{', '.join(sorted(SUPPORTS_LABEL_SMOOTHING))}, or set it to 0"
            )
        for name, value in (("gamma", self.gamma), ("sft_weight", self.sft_weight)):
            if not 0.0 <= value < math.inf:
                raise UserError(f"{name}: expected a finite number of 0 or more, got {value}")
        if self.gamma and self.loss != "simpo":
            raise UserError(f"gamma: {self.loss} has no margin; use it with simpo, or set it to 0")


class PreferenceLosses(NamedTuple):
    """What `preference_loss` returns, each [P]; the rewards carry no gradient."""

    losses: Tensor
    chosen_rewards: Tensor
    rejected_rewards: Tensor


def preference_loss(
    pairs: PreferenceLogProbs, settings: PreferenceSettings, sft_tokens: Tensor | float | None = None
) -> PreferenceLosses:
    """Loss of each pair -> [P]; sum and divide by the number of pairs of the step.

    With w and v the log-ratios log π/π_ref of the chosen and of the rejected response, h = w - v, a bar for means over
    a response's tokens, and ε = `label_smoothing`:

    - `sigmoid`: -(1-ε) log σ(βh) - ε log σ(-βh). DPO (Eq. 7, Rafailov et al. 2023); ε > 0 is cDPO (Mitchell 2023),
      which assumes labels flipped with probability ε; its gradient is 0 once σ(βh) = 1-ε.
    - `sigmoid_norm`: the same with h̄: length-normalised DPO (Tülu 3, Lambert et al. 2024); β is per token.
    - `robust`: [-(1-ε) log σ(βh) + ε log σ(-βh)] / (1-2ε), the unbiased estimate, under such noise, of the clean loss
      (Chowdhury et al. 2024). Unlike cDPO it can be negative, and its gradient never vanishes. ε < 1/2.
    - `ipo`: (h̄ - 1/(2β))^2 (Eq. 17, Azar et al. 2023). The paper's formula sums; its authors' results and TRL use the
      mean, OpenRLHF the sum. We do what TRL 1.16 does, so β here is per token.
    - `hinge`: max(0, 1 - βh) (SLiC, Zhao et al. 2023; RSO, Liu et al. 2023).
    - `apo_zero`: 1 - σ(βw) + σ(βv) (Eq. 7, D'Oosterlinck et al. 2024): raises chosen, lowers rejected, independently.
    - `apo_down`: σ(βw) + 1 - σ(βh) (Eq. 8): lowers both, the rejected further.
    - `simpo`: `sigmoid` of β(m_w - m_v) - γ, where m = log π / tokens and γ = `gamma` is the target margin (Eq. 6,
      Meng et al. 2024). No reference.
    - `orpo`: -β log σ(o_w - o_v), o = log(p / (1-p)) with p = exp(m) (Eqs. 4 and 7, Hong et al. 2024). No reference; β
      is the paper's λ, and the paper's loss is the one with `sft_weight` 1 (Eq. 6).

    `sft_weight` adds this multiple of -log π(chosen) / tokens to any loss. `tokens` is each response's own number (RPO,
    Pang et al. 2024), or `sft_tokens`: if that is the mean number of chosen tokens over the pairs of the whole step,
    the term, summed over pairs and divided by their number, is the mean over the step's chosen tokens, as TRL's `sft`.

    The rewards are βw and βv, from sums over tokens, for every loss with a reference, and βm for one without. At
    π = π_ref: h = 0, and `sigmoid` is log 2. Raises ValueError for a missing reference or token count.
    """
    loss = settings.loss
    w, v = pairs.chosen, pairs.rejected  # [P]
    if loss not in REFERENCE_FREE:
        if pairs.reference_chosen is None or pairs.reference_rejected is None:
            raise ValueError(f"{loss} needs a reference: reference_chosen and reference_rejected are missing")
        w, v = w - pairs.reference_chosen, v - pairs.reference_rejected  # log-ratios, [P]
    compared = w, v
    if loss in LENGTH_NORMALIZED:
        compared = _per_token(w, pairs.chosen_tokens, loss), _per_token(v, pairs.rejected_tokens, loss)
    losses = _pair_losses(*compared, settings)
    if settings.sft_weight:
        averaged = (
            _per_token(pairs.chosen, pairs.chosen_tokens, "sft_weight")
            if sft_tokens is None
            else pairs.chosen / sft_tokens
        )
        losses = losses - settings.sft_weight * averaged
    w, v = compared if loss in REFERENCE_FREE else (w, v)
    return PreferenceLosses(losses, settings.beta * w.detach(), settings.beta * v.detach())


def _per_token(sums: Tensor, tokens: Tensor | None, what: str) -> Tensor:
    if tokens is None:
        raise ValueError(f"{what} averages over tokens: chosen_tokens and rejected_tokens are missing")
    return sums / tokens.clamp(min=1)


def _pair_losses(w: Tensor, v: Tensor, settings: PreferenceSettings) -> Tensor:
    """The loss of each pair [P] from the log-ratios or log-probabilities, sums or means, of its two responses."""
    beta, loss, label_smoothing, gamma = settings.beta, settings.loss, settings.label_smoothing, settings.gamma
    h = w - v
    if loss == "ipo":
        return (h - 1.0 / (2.0 * beta)) ** 2
    if loss == "hinge":
        return (1.0 - beta * h).relu()
    if loss == "apo_zero":
        return torch.sigmoid(-beta * w) + torch.sigmoid(beta * v)
    if loss == "apo_down":
        return torch.sigmoid(beta * w) + torch.sigmoid(-beta * h)
    if loss == "orpo":
        return -beta * logsigmoid(_log_odds(w) - _log_odds(v))
    correct, flipped = -logsigmoid(beta * h - gamma), -logsigmoid(gamma - beta * h)
    if loss == "robust":
        return ((1.0 - label_smoothing) * correct - label_smoothing * flipped) / (1.0 - 2.0 * label_smoothing)
    return (1.0 - label_smoothing) * correct + label_smoothing * flipped


def _log_odds(log_p: Tensor) -> Tensor:
    """log(p / (1-p)). If p rounds to 1, the next smaller number is used, so that odds and gradient stay finite."""
    log_p = log_p.clamp(max=-torch.finfo(log_p.dtype).eps)
    return log_p - torch.log(-torch.expm1(log_p))
