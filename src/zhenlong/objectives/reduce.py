"""From tokens to responses: sums and means per response, and the weight of each token in a policy's loss.

M scored tokens of R responses, flat; `response_index [M]` gives the response of each token, 0..R-1. Micro-batches never
split a response, so everything here can be computed per micro-batch.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from zhenlong.errors import UserError

AGGREGATION_UNITS: Final = {"token": "tokens", "sequence": "responses", "constant": "responses"}


def sum_per_response(values: Tensor, response_index: Tensor, num_responses: int) -> Tensor:
    """Sum of `values [M]` over the tokens of each response -> [R]; a response without tokens gets 0."""
    return values.new_zeros(num_responses).index_add(0, response_index, values)


def tokens_per_response(response_index: Tensor, num_responses: int) -> Tensor:
    """Number of scored tokens of each response -> [R], integer."""
    return torch.bincount(response_index, minlength=num_responses)


def mean_per_response(values: Tensor, response_index: Tensor, num_responses: int) -> Tensor:
    """Mean of `values [M]` over the tokens of each response -> [R]; a response without tokens gets 0."""
    return sum_per_response(values, response_index, num_responses) / tokens_per_response(
        response_index, num_responses
    ).clamp(min=1).to(values.dtype)


def token_weights(
    response_index: Tensor, num_responses: int, loss_aggregation: str, max_tokens: int | None = None
) -> Tensor:
    """Weight of each token in the sum over a micro-batch -> [M] float32, without gradient.

    The loss of an optimiser step is Σ weight · loss over all micro-batches, divided by the whole step's count of
    `AGGREGATION_UNITS[loss_aggregation]`:

    - `token`: 1; count of tokens. The mean over all tokens of the step (DAPO, §3.3, Yu et al. 2025).
    - `sequence`: 1 / length; count of responses. Mean per response, then over responses (GRPO, Eq. 3, Shao et al.
      2024).
    - `constant`: 1 / `max_tokens`; count of responses. A fixed divisor, so that length does not change a token's weight
      (Dr. GRPO, Liu et al. 2025); `max_tokens` is the sampling limit of a response.
    """
    if loss_aggregation == "token":
        return torch.ones(response_index.shape[0], device=response_index.device)
    if loss_aggregation == "sequence":
        return 1.0 / tokens_per_response(response_index, num_responses)[response_index].float()
    if loss_aggregation == "constant":
        if max_tokens is None or max_tokens < 1:
            raise UserError(f"loss_aggregation constant: expected max_tokens of at least 1, got {max_tokens}")
        return torch.full((response_index.shape[0],), 1.0 / max_tokens, device=response_index.device)
    raise UserError(f"loss_aggregation: expected one of {', '.join(AGGREGATION_UNITS)}, got {loss_aggregation!r}")
