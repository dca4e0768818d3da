"""Maximum likelihood: the loss of pretraining, of supervised fine-tuning and of PPO's `ptx` term."""

from __future__ import annotations

from torch import Tensor


def negative_log_likelihood(log_probs: Tensor, weights: Tensor | None = None) -> Tensor:
    """-Σ w_t log p(x_t | x_<t) over the scored tokens, in nats -> scalar.

    `log_probs [M]`, `weights [M]` (default 1). A sum: divide by the whole step's tokens (or by its weights), not by
    this micro-batch's, so that accumulation changes nothing.
    """
    return -(log_probs if weights is None else log_probs * weights).sum()
