"""Sampling with a model's own transformers cache, for architectures that the flat batch does not support.

Prompts of equal length form a batch, so nothing is padded: no mask, no shifted positions, and models without attention
(state-space models) need no special case. Each batch runs until its last sequence finishes.
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
from zhenlong.sampling.kv_cache import BufferPool
from zhenlong.sampling.sampling_params import SamplingParams
from zhenlong.sampling.sequence_state import PromptState, SequenceState
from zhenlong.sampling.token_sampling import sample_tokens


class HFCacheEngine:
    """Batches of up to `max_num_seqs` sequences with prompts of equal length, one batch after another."""

    def __init__(
        self,
        model: PreTrainedModel,
        prompts: Sequence[PromptState],
        sampling: SamplingParams,
        *,
        max_num_seqs: int,
        pool: BufferPool,
    ) -> None:
        self.model, self.sampling = model, sampling
        self.device = next(model.parameters()).device
        self.batches: deque[list[SequenceState]] = deque()
        for _, group in groupby(
            sorted(prompts, key=lambda prompt: len(prompt.token_ids)), lambda prompt: len(prompt.token_ids)
        ):
            sequences = [sequence for prompt in group for sequence in prompt.sequences]
            self.batches.extend(
                sequences[start : start + max_num_seqs] for start in range(0, len(sequences), max_num_seqs)
            )
        self.input_ids: torch.Tensor | None = None  # [R, length so far] of the first batch
        self.model_kwargs: dict[str, Any] = {}  # what the model needs in the next step: its cache

    @property
    def finished(self) -> bool:
        """Whether all sequences have finished."""
        return not self.batches

    def step(self) -> None:
        """One token for each sequence of the first batch; finished sequences are computed but ignored."""
        sequences, first = self.batches[0], self.input_ids is None
        if self.input_ids is None:
            self.input_ids = torch.tensor([sequence.prompt.token_ids for sequence in sequences], device=self.device)
            self.model_kwargs = {"attention_mask": torch.ones_like(self.input_ids), "use_cache": True}
        length = None if first else 1
        inputs = self.model.prepare_inputs_for_generation(
            self.input_ids, next_sequence_length=length, is_first_iteration=first, **self.model_kwargs
        )
        out = self.model(**inputs)
        self.model_kwargs = self.model._update_model_kwargs_for_generation(out, self.model_kwargs)
        uniforms = torch.tensor(
            [[0.0 if sequence.finished else sequence.uniforms[len(sequence.token_ids)]] for sequence in sequences],
            dtype=torch.float64,
        )
        sampled_ids, sampled_log_probs = sample_tokens(out.logits[:, -1], uniforms.to(self.device), self.sampling)
        self.input_ids = torch.cat((self.input_ids, sampled_ids), 1)
        for sequence, token, value in zip(
            sequences, sampled_ids[:, 0].tolist(), sampled_log_probs[:, 0].tolist(), strict=True
        ):
            if not np.isfinite(value):
                raise UserError("sampling: the model's logits are not finite; its weights may have diverged")
            if not sequence.finished:
                sequence.append_token(token, value)
        if all(sequence.finished for sequence in sequences):
            self.batches.popleft()
            self.input_ids, self.model_kwargs = None, {}
