"""Sampling with a model's own cache, for architectures that the flat batch does not serve.

Prompts of one length form a batch, so that nothing is padded: no mask, no shifted positions, and models without
attention (state spaces) need no special case. Each batch runs until its last row ends.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import groupby
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from zhenlong.errors import UserError
from zhenlong.sampling.draw import draw
from zhenlong.sampling.request import Sampling
from zhenlong.sampling.row import Prompt, Row
from zhenlong.sampling.store import Memory


class SeparateBatches:
    """Batches of up to `max_rows` rows whose prompts have one length, one batch after the other."""

    def __init__(
        self, model: PreTrainedModel, prompts: Sequence[Prompt], sampling: Sampling, max_rows: int, memory: Memory
    ) -> None:
        self.model, self.sampling = model, sampling
        self.device = next(model.parameters()).device
        self.batches: deque[list[Row]] = deque()
        for _, group in groupby(sorted(prompts, key=lambda prompt: len(prompt.ids)), lambda prompt: len(prompt.ids)):
            rows = [row for prompt in group for row in prompt.rows]
            self.batches.extend(rows[start : start + max_rows] for start in range(0, len(rows), max_rows))
        self.ids: torch.Tensor | None = None  # [R, length so far] of the first batch
        self.kept: dict[str, Any] = {}  # what the model wants to see again: its cache

    @property
    def finished(self) -> bool:
        """Whether no row is left."""
        return not self.batches

    def advance(self) -> None:
        """One token for every row of the first batch; rows that have ended are computed along and ignored."""
        rows, first = self.batches[0], self.ids is None
        if self.ids is None:
            self.ids = torch.tensor([row.prompt.ids for row in rows], device=self.device)
            self.kept = {"attention_mask": torch.ones_like(self.ids), "use_cache": True}
        length = None if first else 1
        inputs = self.model.prepare_inputs_for_generation(
            self.ids, next_sequence_length=length, is_first_iteration=first, **self.kept
        )
        out = self.model(**inputs)
        self.kept = self.model._update_model_kwargs_for_generation(out, self.kept)
        numbers = torch.tensor([[0.0 if row.done else row.uniforms[len(row.ids)]] for row in rows], dtype=torch.float64)
        drawn, scores = draw(out.logits[:, -1], numbers.to(self.device), self.sampling)
        self.ids = torch.cat((self.ids, drawn), 1)
        for row, token, value in zip(rows, drawn[:, 0].tolist(), scores[:, 0].tolist(), strict=True):
            if not np.isfinite(value):
                raise UserError("sampling: the model gives logits that are not numbers; its weights may have diverged")
            if not row.done:
                row.take(token, value)
        if all(row.done for row in rows):
            self.batches.popleft()
            self.ids, self.kept = None, {}
