"""The DPO family: a preference loss on the policy itself, without a reward model.

P pairs of responses; all log-probabilities are sums over a response's tokens, [P], of the policy and of the frozen
reference.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

from torch import Tensor
from torch.nn.functional import logsigmoid

from zhenlong.errors import UserError

LOSSES: Final = ("sigmoid", "robust", "ipo", "hinge")


class Preference(NamedTuple):
    """What `preference_loss` returns, each [P]; the rewards carry no gradient."""

    losses: Tensor
    chosen_rewards: Tensor
    rejected_rewards: Tensor


def preference_loss(
    chosen: Tensor,
    rejected: Tensor,
    reference_chosen: Tensor,
    reference_rejected: Tensor,
    *,
    beta: float = 0.1,
    loss: str = "sigmoid",
    label_smoothing: float = 0.0,
    chosen_tokens: Tensor | None = None,
    rejected_tokens: Tensor | None = None,
) -> Preference:
    """Loss of each pair -> [P]; sum them and divide by the step's pairs.

    With h = (log π/π_ref of chosen) - (log π/π_ref of rejected) and ε = `label_smoothing`:

    - `sigmoid`: -(1-ε) log σ(βh) - ε log σ(-βh). DPO (Eq. 7, Rafailov et al. 2023); ε > 0 is cDPO (Mitchell 2023),
      which assumes labels flipped with probability ε and stops pushing once σ(βh) = 1-ε.
    - `robust`: [-(1-ε) log σ(βh) + ε log σ(-βh)] / (1-2ε), the unbiased estimate, under such noise, of the clean loss
      (Chowdhury et al. 2024). Unlike cDPO it can be negative and keeps pushing. ε < 1/2.
    - `ipo`: (h̄ - 1/(2β))^2 (Eq. 17, Azar et al. 2023), where h̄ takes each response's log-ratio as a *mean over its
      tokens* (`chosen_tokens`, `rejected_tokens` [P]). The paper's formula sums; its authors' results and TRL use the
      mean, OpenRLHF the sum. We do what TRL 1.16 does, so β here is per token.
    - `hinge`: max(0, 1 - βh) (SLiC, Zhao et al. 2023; RSO, Liu et al. 2023).

    The rewards are β log π/π_ref, summed over tokens, for every loss. At π = π_ref: h = 0, and `sigmoid` is log 2.
    Raises UserError for an unknown loss, a beta that is not above 0, or smoothing where the loss has none or beyond
    [0, 1/2).
    """
    check_preference(beta, loss, label_smoothing)
    chosen_ratio, rejected_ratio = chosen - reference_chosen, rejected - reference_rejected  # [P]
    h = chosen_ratio - rejected_ratio
    if loss == "ipo":
        if chosen_tokens is None or rejected_tokens is None:
            raise ValueError("ipo averages over tokens: chosen_tokens and rejected_tokens are needed")
        h_mean = chosen_ratio / chosen_tokens.clamp(min=1) - rejected_ratio / rejected_tokens.clamp(min=1)
        losses = (h_mean - 1.0 / (2.0 * beta)) ** 2
    elif loss == "hinge":
        losses = (1.0 - beta * h).relu()
    else:
        right, flipped = -logsigmoid(beta * h), -logsigmoid(-beta * h)
        if loss == "sigmoid":
            losses = (1.0 - label_smoothing) * right + label_smoothing * flipped
        else:
            losses = ((1.0 - label_smoothing) * right - label_smoothing * flipped) / (1.0 - 2.0 * label_smoothing)
    return Preference(losses, beta * chosen_ratio.detach(), beta * rejected_ratio.detach())


def check_preference(beta: float, loss: str, label_smoothing: float) -> None:
    """Raise `UserError` for settings of `preference_loss` that mean nothing, or not together."""
    if not 0.0 < beta < math.inf:
        raise UserError(f"beta: expected a finite number above 0, got {beta}")
    if loss not in LOSSES:
        raise UserError(f"loss: expected one of {', '.join(LOSSES)}, got {loss!r}")
    if not 0.0 <= label_smoothing < 0.5:
        raise UserError(f"label_smoothing: expected a number in [0, 0.5), got {label_smoothing}")
    if label_smoothing and loss in ("ipo", "hinge"):
        raise UserError(f"label_smoothing: {loss} has none; use it with sigmoid or robust, or set it to 0")
