"""The value head: a value per token, from a linear layer on the decoder's last hidden states."""

from __future__ import annotations

import torch
from torch import nn


class ValueHead(nn.Module):
    """hidden [N, d] -> values [N] in float32. Starts at zero, so it adds no noise to the first advantages."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.linear = nn.Linear(hidden_size, 1)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return self.linear(hidden.float()).squeeze(-1)
