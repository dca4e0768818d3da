"""How probable does a model find given texts? Summed log-probabilities of many responses, without gradients.

Shapes: R responses of a micro-batch, M scored tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from zhenlong.forest import Node, forward, log_probs, plant_batches, response_scores
from zhenlong.forest.planting import Forest
from zhenlong.loop.randomness import evaluating
from zhenlong.models.encoders import context_length

TOKENS: Final = 8192  # tokens of one forward pass, unless the caller says otherwise


def log_prob_sums(
    model: PreTrainedModel, trees: Sequence[Node], tokens_per_microbatch: int = TOKENS
) -> list[NDArray[np.float64]]:
    """For each tree, the log-probability of each of its responses in planting order, in nats at temperature 1."""

    def summed(forest: Forest) -> torch.Tensor:
        scored = log_probs(model, forward(model, forest), forest).double()  # [M]
        return torch.zeros(forest.leaves, dtype=torch.float64, device=scored.device).index_add(0, forest.leaf, scored)

    return _of_each_tree(model, trees, tokens_per_microbatch, summed)


def reward_scores(
    model: PreTrainedModel, trees: Sequence[Node], tokens_per_microbatch: int = TOKENS
) -> list[NDArray[np.float64]]:
    """For each tree, the reward model's score of each of its responses in planting order."""

    def scored(forest: Forest) -> torch.Tensor:
        return response_scores(model, forest).double()

    return _of_each_tree(model, trees, tokens_per_microbatch, scored)


def context_of(model: PreTrainedModel) -> int | None:
    """The most tokens the model was made for, or None where its configuration sets no limit."""
    return context_length(model.config)


def longest_path(node: Node) -> int:
    """Tokens from the root to the end of the longest response: what has to fit the model's context."""
    return len(node.tokens) + max((longest_path(child) for child in node.children), default=0)


def _of_each_tree(
    model: PreTrainedModel, trees: Sequence[Node], budget: int, measure: Callable[[Forest], torch.Tensor]
) -> list[NDArray[np.float64]]:
    """`measure` of every micro-batch [R], handed back to the trees that the responses belong to."""
    found: list[NDArray[np.float64]] = [np.empty(0)] * len(trees)
    with evaluating(model):
        for batch in plant_batches(trees, budget, next(model.parameters()).device):
            values = measure(batch.forest).cpu().numpy()
            owner = batch.forest.leaf_tree.cpu().numpy()
            for place, row in enumerate(batch.rows):
                found[row] = values[owner == place]
    return found
