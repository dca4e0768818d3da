"""From tokens to responses: sums and means over `leaf`, and the weight each token carries in a policy's loss.

M scored tokens of R responses, flat; `leaf [M]` says which response a token belongs to, 0..R-1. A response is never cut
in two by a micro-batch, so everything here can be computed one micro-batch at a time.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from zhenlong.errors import UserError

UNITS: Final = {"token": "tokens", "sequence": "responses", "constant": "responses"}


def per_response(values: Tensor, leaf: Tensor, responses: int) -> Tensor:
    """Sum of `values [M]` over the tokens of each response -> [R]; a response without tokens gets 0."""
    return values.new_zeros(responses).index_add(0, leaf, values)


def counts(leaf: Tensor, responses: int) -> Tensor:
    """Number of scored tokens of each response -> [R], integer."""
    return torch.bincount(leaf, minlength=responses)


def mean_per_response(values: Tensor, leaf: Tensor, responses: int) -> Tensor:
    """Mean of `values [M]` over the tokens of each response -> [R]; a response without tokens gets 0."""
    return per_response(values, leaf, responses) / counts(leaf, responses).clamp(min=1).to(values.dtype)


def token_weights(leaf: Tensor, responses: int, mode: str, max_tokens: int | None = None) -> Tensor:
    """Weight of each token in the sum over a micro-batch -> [M] float32, without gradient.

    The loss of an optimiser step is Σ weight · loss over all its micro-batches, divided by the whole step's count of
    `UNITS[mode]`:

    - `token`: 1, by tokens. The mean over all tokens of the step (DAPO, §3.3, Yu et al. 2025).
    - `sequence`: 1 / length, by responses. Mean in each response, then over responses (GRPO, Eq. 3, Shao et al. 2024).
    - `constant`: 1 / `max_tokens`, by responses. A fixed divisor, so that length changes no token's weight
      (Dr. GRPO, Liu et al. 2025); `max_tokens` is the longest response that sampling allows.
    """
    if mode == "token":
        return torch.ones(leaf.shape[0], device=leaf.device)
    if mode == "sequence":
        return 1.0 / counts(leaf, responses)[leaf].float()
    if mode == "constant":
        if max_tokens is None or max_tokens < 1:
            raise UserError(f"loss reduction constant: expected max_tokens of at least 1, got {max_tokens}")
        return torch.full((leaf.shape[0],), 1.0 / max_tokens, device=leaf.device)
    raise UserError(f"loss reduction: expected one of {', '.join(UNITS)}, got {mode!r}")
