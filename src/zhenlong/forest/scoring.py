"""Scores of many responses without gradients: summed log-probabilities, or a reward model's scores.

Shapes: R responses of a micro-batch, M scored tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from zhenlong.forest import TreeNode, forward, log_probs, make_microbatches, score_forest
from zhenlong.forest.packing import Forest
from zhenlong.models.encoders import context_length
from zhenlong.randomness import eval_mode

DEFAULT_TOKENS_PER_MICROBATCH: Final = 8192  # tokens per forward pass


def log_prob_sums(
    model: PreTrainedModel, trees: Sequence[TreeNode], tokens_per_microbatch: int = DEFAULT_TOKENS_PER_MICROBATCH
) -> list[NDArray[np.float64]]:
    """For each tree, the log-probability of each of its responses, in packing order, in nats at temperature 1."""

    def sum_log_probs(forest: Forest) -> torch.Tensor:
        token_log_probs = log_probs(model, forward(model, forest), forest).double()  # [M]
        return torch.zeros(forest.num_responses, dtype=torch.float64, device=token_log_probs.device).index_add(
            0, forest.response_index, token_log_probs
        )

    return _response_values_by_tree(model, trees, tokens_per_microbatch, score_microbatch=sum_log_probs)


def reward_scores(
    model: PreTrainedModel, trees: Sequence[TreeNode], tokens_per_microbatch: int = DEFAULT_TOKENS_PER_MICROBATCH
) -> list[NDArray[np.float64]]:
    """For each tree, the reward model's score of each of its responses, in packing order."""

    def score(forest: Forest) -> torch.Tensor:
        return score_forest(model, forest).double()

    return _response_values_by_tree(model, trees, tokens_per_microbatch, score_microbatch=score)


def model_context_length(model: PreTrainedModel) -> int | None:
    """The model's context length in tokens, or None where its configuration sets no limit."""
    return context_length(model.config)


def longest_path_tokens(node: TreeNode) -> int:
    """Tokens on the longest path from root to leaf, which must fit the model's context."""
    return len(node.tokens) + max((longest_path_tokens(child) for child in node.children), default=0)


def _response_values_by_tree(
    model: PreTrainedModel,
    trees: Sequence[TreeNode],
    tokens_per_microbatch: int,
    *,
    score_microbatch: Callable[[Forest], torch.Tensor],
) -> list[NDArray[np.float64]]:
    """`score_microbatch` applied to each micro-batch [R], returned per tree."""
    values_of_trees: list[NDArray[np.float64]] = [np.empty(0)] * len(trees)
    with eval_mode(model):
        for batch in make_microbatches(trees, tokens_per_microbatch, next(model.parameters()).device):
            values = score_microbatch(batch.forest).cpu().numpy()
            response_tree = batch.forest.response_tree.cpu().numpy()
            for position, tree_index in enumerate(batch.tree_indices):
                values_of_trees[tree_index] = values[response_tree == position]
    return values_of_trees
