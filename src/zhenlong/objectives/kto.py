"""KTO: learn from single responses labelled desirable or undesirable, relative to a KL baseline.

R rated responses of one optimiser step; all log-probabilities are sums over a response's tokens, [R].
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeVar

import torch
from torch import Tensor

from zhenlong.errors import UserError

KTO_LOSSES: Final = ("kto", "apo_zero")

T = TypeVar("T")


@dataclass(frozen=True)
class KTOSettings:
    """The loss and its coefficients, as `kto_loss` explains them; `UserError` for a value out of range."""

    beta: float = 0.1
    loss: str = "kto"
    desirable_weight: float = 1.0
    undesirable_weight: float = 1.0

    def __post_init__(self) -> None:
        if self.loss not in KTO_LOSSES:
            raise UserError(f"loss: expected one of {', '.join(KTO_LOSSES)}, got {self.loss!r}")
        for name in ("beta", "desirable_weight", "undesirable_weight"):
            if not 0.0 < getattr(self, name) < math.inf:
                raise UserError(f"{name}: expected a finite number above 0, got {getattr(self, name)}")


class KTOLosses(NamedTuple):
    """What `kto_loss` returns, each [R]; the rewards carry no gradient."""

    losses: Tensor
    rewards: Tensor


def kto_loss(
    log_probs: Tensor,
    reference_log_probs: Tensor,
    desirable: Tensor,
    settings: KTOSettings,
    baseline: Tensor | float = 0.0,
) -> KTOLosses:
    """Loss of each rated response -> [R]; sum and divide by the number of responses of the step.

    With r = log π/π_ref and z = `baseline`, in nats (Eqs. 7 and 8, Ethayarajh et al. 2024):

    - `desirable [R]` true: λ_D (1 - σ(β(r - z))), λ_D = `desirable_weight`;
    - false: λ_U (1 - σ(β(z - r))), λ_U = `undesirable_weight`.

    z is `kl_baseline` of the whole step and carries no gradient. For the loss `apo_zero`, APO-zero on unpaired data, z
    is 0 (D'Oosterlinck et al. 2024, as in TRL's `apo_zero_unpaired`). The loss saturates on both sides: a response far
    above or below the baseline gets little gradient. The rewards are βr. At π = π_ref each loss is half its weight.
    """
    log_ratio = log_probs - reference_log_probs  # [R]
    sign = torch.where(desirable, 1.0, -1.0).to(log_ratio.dtype)
    weight = torch.where(desirable, settings.desirable_weight, settings.undesirable_weight).to(log_ratio.dtype)
    losses = weight * torch.sigmoid(-settings.beta * sign * (log_ratio - baseline))
    return KTOLosses(losses, settings.beta * log_ratio.detach())


def kl_baseline(log_probs: Tensor, reference_log_probs: Tensor) -> Tensor:
    """max(0, mean log π/π_ref) over mismatched prompts and responses [R] -> scalar, in nats, without gradient.

    A rough, biased estimate of KL(π ‖ π_ref) that needs no sampling (§4.1, Ethayarajh et al. 2024). Compute it over the
    whole step: per micro-batch it would make the loss depend on how the step is split.
    """
    return (log_probs - reference_log_probs).detach().mean().clamp(min=0.0)


def mismatched(responses: Sequence[T]) -> list[T]:
    """The responses rotated by one: each prompt is paired with the response of the prompt before it.

    Reversing them instead, as TRL did until trl#1911, leaves the middle response of an odd number in place. Raises
    ValueError for fewer than two.
    """
    if len(responses) < 2:
        raise ValueError(f"a mismatch needs at least two responses, got {len(responses)}")
    return [responses[-1], *responses[:-1]]
