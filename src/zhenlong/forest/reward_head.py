"""Reward scores: a sequence classifier's single output, at a response's last token or for the whole text."""

from __future__ import annotations

import torch
from transformers import PreTrainedModel

from zhenlong.forest.decoder import forward, root_to_leaf_paths
from zhenlong.forest.packing import Forest
from zhenlong.models.encoders import is_encoder


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
