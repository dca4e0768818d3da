"""Scores of responses: summed log-probabilities, or those of a reward model, which reads them at each response's end.

Shapes: R responses of a micro-batch, M scored tokens, d hidden size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from zhenlong.forest.decoder import forward, root_to_leaf_paths
from zhenlong.forest.lm_head import log_probs
from zhenlong.forest.packing import Forest, TreeNode, make_microbatches
from zhenlong.models.encoders import context_length, is_encoder
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


def score_forest(model: PreTrainedModel, forest: Forest) -> torch.Tensor:
    """The score of each response of a forest, [R] in float32, by a sequence classifier with one label.

    A decoder computes a prompt once for all its responses (`apply_reward_head`). An encoder attends in both directions,
    so nothing can be shared: its own forward pass gets one padded row per response, with token type 1 for the
    response's tokens if the model has an embedding for it (BERT has, RoBERTa has not).
    """
    if not is_encoder(model.config):
        return apply_reward_head(model, forward(model, forest, "response_ends"))
    paths = root_to_leaf_paths(forest)
    ends = [int(path[-1]) for path in paths]
    if ends != forest.response_end.tolist():
        raise ValueError("an encoder scores only trees whose responses are their leaves")
    lengths = {segment.start + segment.length - 1: segment.length for segment in forest.segments}
    device = forest.tokens.device
    shape = len(paths), max(map(len, paths))
    ids = torch.full(shape, model.config.pad_token_id or 0, dtype=torch.long, device=device)
    mask, types = torch.zeros_like(ids), torch.zeros_like(ids)
    for row, (path, end) in enumerate(zip(paths, ends, strict=True)):
        ids[row, : len(path)] = forest.tokens[path]
        mask[row, : len(path)] = 1
        types[row, len(path) - lengths[end] : len(path)] = 1
    token_type_ids = {"token_type_ids": types} if getattr(model.config, "type_vocab_size", 0) > 1 else {}
    return model(input_ids=ids, attention_mask=mask, **token_type_ids).logits.squeeze(-1).float()


def apply_reward_head(model: PreTrainedModel, states: torch.Tensor) -> torch.Tensor:
    """States [R, d] of a sequence classifier with one label, at each response's last token -> scores [R] in float32.

    The last token comes from the forest's own table, not from a search for the padding id, so a score does not depend
    on the rest of the batch. Source: Ouyang et al. (2022), §3.5.
    """
    base_model = model.get_base_model() if hasattr(model, "get_base_model") else model
    return base_model.score(states).squeeze(-1).float()


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
