"""One score for each response: a reward model's single output, at the response's last token or of the whole text."""

from __future__ import annotations

import torch
from transformers import PreTrainedModel

from zhenlong.forest.decoder import forward, root_to_leaf_paths
from zhenlong.forest.packing import Forest
from zhenlong.models.encoders import is_encoder


def score_responses(model: PreTrainedModel, forest: Forest) -> torch.Tensor:
    """The score of each response of a forest, [R] in float32, by a sequence classifier with one label.

    A decoder reads prompts once for all their responses (`apply_reward_head`). An encoder, which reads in both
    directions, has nothing to share: its own forward pass gets a padded row for each response, the response's tokens of
    type 1 where it has an embedding for that, as BERT does and RoBERTa does not.
    """
    if not is_encoder(model.config):
        return apply_reward_head(model, forward(model, forest, "response_ends"))
    paths = root_to_leaf_paths(forest)
    ends = [int(path[-1]) for path in paths]
    if ends != forest.response_end.tolist():
        raise ValueError("an encoder scores trees whose responses are their tips, and no others")
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

    The last real token is found by the forest's own table, never by looking for a padding id, so that a score does not
    depend on what shares the batch. Source: Ouyang et al. (2022), §3.5.
    """
    base_model = model.get_base_model() if hasattr(model, "get_base_model") else model
    return base_model.score(states).squeeze(-1).float()
