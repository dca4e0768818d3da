"""One score for each response: a reward model's single output at the response's last token."""

from __future__ import annotations

import torch
from transformers import PreTrainedModel

from zhenlong.forest.planting import Forest


def scores(model: PreTrainedModel, hidden: torch.Tensor, forest: Forest) -> torch.Tensor:
    """hidden [N, d] of a sequence classifier with one label -> scores [R] in float32.

    The last real token is found by the forest's own table, never by looking for a padding id, so that a score does not
    depend on what shares the batch. Source: Ouyang et al. (2022), §3.5.
    """
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    return inner.score(hidden.index_select(0, forest.leaf_last)).squeeze(-1).float()
