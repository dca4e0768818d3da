"""KL divergence to the reference: estimators, a loss with the correct gradient, an adaptive coefficient.

A sampled token a ~ π gives δ = log π(a) - log π_ref(a); KL(π ‖ π_ref) = E_π[δ]. All estimates are [M], in nats.
"""

from __future__ import annotations

from typing import Final

from torch import Tensor

from zhenlong.errors import UserError

KL_ESTIMATORS: Final = ("k1", "k2", "k3")
KL_LOSSES: Final = ("k2", "k3+")
MAX_EXPONENT: Final = 20.0
"""The exponent of k3 is at most this, so that one improbable token does not overflow; peers without a clamp agree
below it."""


def kl_estimate(log_probs: Tensor, reference_log_probs: Tensor, kl_estimator: str = "k1") -> Tensor:
    """Single-sample estimates of KL(π ‖ π_ref) *as a value* -> [M] (Schulman 2020, joschu.net/blog/kl-approx.html).

    `k1` = δ: unbiased, large variance. `k2` = δ²/2: biased, small variance. `k3` = e^-δ - 1 + δ: unbiased, never
    negative. For rewards (InstructGPT uses k1) and logging; to differentiate, use `kl_loss`.
    """
    delta = log_probs - reference_log_probs
    if kl_estimator == "k1":
        return delta
    if kl_estimator == "k2":
        return delta**2 / 2.0
    if kl_estimator == "k3":
        return (-delta).clamp(max=MAX_EXPONENT).exp() - 1.0 + delta
    raise UserError(f"kl_estimator: expected one of {', '.join(KL_ESTIMATORS)}, got {kl_estimator!r}")


def kl_loss(log_probs: Tensor, reference_log_probs: Tensor, kl_estimator: str = "k2") -> Tensor:
    """A KL penalty *to differentiate* -> [M]: over tokens sampled from π its expected gradient is that of the KL.

    ∇KL = E_π[δ ∇log π], which is E_π[∇k2]. The gradient of k1 has expectation 0; that of k3 is the gradient of the
    reverse direction, KL(π_ref ‖ π). Hence `k2`, or `k3+`: the value of k3 with the gradient of k2, as in veRL. Tokens
    sampled before the last updates cause the usual off-policy error. The effect of a token on later states is not
    included; k1 in the reward includes it.
    """
    k2 = kl_estimate(log_probs, reference_log_probs, "k2")
    if kl_estimator == "k2":
        return k2
    if kl_estimator == "k3+":
        k3 = kl_estimate(log_probs.detach(), reference_log_probs, "k3")
        return k3 + (k2 - k2.detach())
    raise UserError(
        f"kl_estimator: expected one of {', '.join(KL_LOSSES)} (k1 and k3 have the wrong gradient), "
        f"got {kl_estimator!r}"
    )


class KLController:
    """The coefficient of the KL in the reward: fixed, or adapted towards a target (§2, Ziegler et al. 2019).

    With a target, after each batch: coefficient *= 1 + clip(kl / target - 1, ±0.2) · samples / horizon. `kl` is in nats
    per response, like `target`; over `horizon` samples at the clip limit the coefficient changes by 20 %.
    """

    def __init__(self, coefficient: float, target: float | None = None, horizon: float = 10_000.0) -> None:
        if coefficient < 0.0 or (target is not None and (target <= 0.0 or horizon <= 0.0)):
            raise UserError(
                "kl controller: expected coefficient >= 0, target > 0 and horizon > 0, "
                f"got {coefficient}, {target} and {horizon}"
            )
        self.coefficient, self.target, self.horizon = float(coefficient), target, horizon

    def update(self, kl: float, num_responses: int) -> None:
        """Update after a batch of `num_responses` responses with mean KL `kl`; without a target, do nothing."""
        if self.target is not None:
            error = min(max(kl / self.target - 1.0, -0.2), 0.2)
            self.coefficient *= 1.0 + error * num_responses / self.horizon

    def state_dict(self) -> dict[str, float]:
        """The state for a checkpoint."""
        return {"coefficient": self.coefficient}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Continue from `state_dict`."""
        self.coefficient = float(state["coefficient"])
