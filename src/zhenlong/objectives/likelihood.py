"""Maximum likelihood: the loss of pretraining, of supervised fine-tuning and of PPO's `ptx` term."""

from __future__ import annotations

from torch import Tensor


def negative_log_likelihood(log_probs: Tensor, weights: Tensor | None = None) -> Tensor:
    """-Σ w_t log p(x_t | x_<t) over the scored tokens, in nats -> scalar.

    `log_probs [M]`, `weights [M]` (default 1). This is a sum: divide by the token count (or weight) of the whole step,
    not of this micro-batch, so that gradient accumulation does not change the result.
    """
    return -(log_probs if weights is None else log_probs * weights).sum()
