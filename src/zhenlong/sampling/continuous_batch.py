"""Continuous batching: the running sequences and prompts, their slots, and one step of all of them.

Sequences leave when they finish, and waiting sequences take their slots. Running sequences always fill slots 0 to R-1
and their prompts slots 0 to G-1, so that attention reads contiguous slices: a free slot is filled by a waiting sequence
or by the last running one. With CUDA graphs, every change of slots costs a new capture; there, finished sequences keep
their slot (ignored) until a quarter of the batch has finished.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
import torch
from transformers import PreTrainedModel

from zhenlong.errors import UserError
from zhenlong.sampling.kv_cache import BufferPool, KVCache
from zhenlong.sampling.sequence_state import PromptState, SequenceState
from zhenlong.sampling.step_metadata import SHARED_PREFIX, BatchLayout, StepMetadata
from zhenlong.sampling.token_sampling import SamplingParams, sample_tokens

MAX_PREFILL_TOKENS: Final = 8192  # in one step; a single longer prompt is allowed
INITIAL_COLUMNS: Final = 64  # initial length of response slots; doubled as responses grow
CAPTURED_COLUMNS: Final = 256  # the same with CUDA graphs, where each doubling costs a new capture
COMPACTION_DIVISOR: Final = 4  # with CUDA graphs, 1/4 of the batch may have finished before compaction
MIN_SHARED_PREFIX: Final = 16  # minimum length in tokens of a common prefix that is computed once


class LogitsFn(Protocol):
    """A network's forward pass over a flat batch."""

    def __call__(
        self,
        ids: torch.Tensor,
        positions: torch.Tensor,
        metadata: StepMetadata,
        *,
        logits_to_keep: torch.Tensor | None,
    ) -> torch.Tensor:
        """Logits [any, V] of ids and positions [N]: of the tokens with these indices, or of all."""
        ...


# (logits [R, V], uniforms [R, K], parameters) -> ids and log-probabilities [R, K]
SampleFn = Callable[[torch.Tensor, torch.Tensor, SamplingParams], tuple[torch.Tensor, torch.Tensor]]


@dataclass(frozen=True)
class StepFunctions:
    """What a step consists of: the network's forward pass, and sampling from its logits (None: `sample_tokens`)."""

    logits: LogitsFn
    sample: SampleFn | None = None
    graph_capture: bool = False  # whether both are captured as CUDA graphs


class ContinuousBatch:
    """The state while sampling all sequences of some prompts; `step` makes one step of them."""

    def __init__(
        self,
        model: PreTrainedModel,
        prompts: Sequence[PromptState],
        sampling: SamplingParams,
        *,
        max_num_seqs: int,
        pool: BufferPool,
        functions: StepFunctions,
    ) -> None:
        self.functions, self.sampling, self.max_num_seqs = functions, sampling, max_num_seqs
        self.device = next(model.parameters()).device
        self.waiting_prompts = deque(prompts)
        self.waiting_sequences: deque[SequenceState] = deque()  # sequences that have their first token but no slot
        self.running: list[SequenceState] = []  # running[r] is in slot r
        self.running_prompts: list[PromptState] = []  # running_prompts[g] is in slot g
        total = sum(len(prompt.sequences) for prompt in prompts)
        layers = int(model.config.get_text_config().num_hidden_layers)
        limit = max(len(sequence.uniforms) for prompt in prompts for sequence in prompt.sequences)
        columns = min(limit, CAPTURED_COLUMNS if functions.graph_capture else INITIAL_COLUMNS)
        num_slots = min(total, max_num_seqs)
        response_cache = KVCache("responses", layers, num_slots, positions=columns, pool=pool)
        longest_prompt = max(len(prompt.token_ids) for prompt in prompts)
        num_slots = min(len(prompts), max_num_seqs)
        prompt_cache = KVCache("prompts", layers, num_slots, positions=longest_prompt, pool=pool)
        self.shared_prefix = _shared_prefix([prompt.token_ids for prompt in prompts])
        self.metadata = StepMetadata(prompt_cache, response_cache, functions.graph_capture)
        self._layout: BatchLayout | None = None

    @property
    def finished(self) -> bool:
        """Whether all sequences have finished."""
        return not (self.waiting_prompts or self.waiting_sequences or self.running)

    def step(self) -> None:
        """One forward pass: a token for each running sequence, and first tokens for the sequences of new prompts."""
        prefills = self._schedule_prefills()
        num_running = len(self.running)
        logits = self._forward(prefills)
        if num_running:
            uniforms = np.array(
                [
                    [0.0 if sequence.finished else sequence.uniforms[len(sequence.token_ids)]]
                    for sequence in self.running
                ]
            )
            self._sample_and_append([[sequence] for sequence in self.running], logits[:num_running], uniforms)
        if prefills:
            first_uniforms = np.array([[sequence.uniforms[0] for sequence in prompt.sequences] for prompt in prefills])
            self._sample_and_append([prompt.sequences for prompt in prefills], logits[num_running:], first_uniforms)
            for prompt in prefills:
                self.waiting_sequences.extend(sequence for sequence in prompt.sequences if not sequence.finished)
                prompt.num_unfinished = sum(not sequence.finished for sequence in prompt.sequences)
        self._compact_sequences()
        self._compact_prompts()

    def _schedule_prefills(self) -> list[PromptState]:
        """The prompts to prefill in this step, as many as free slots allow; each gets the next free prompt slot."""
        prefills: list[PromptState] = []
        free, tokens = self.max_num_seqs - len(self.running) - len(self.waiting_sequences), 0
        while self.waiting_prompts and free > 0 and len(self.running_prompts) < self.metadata.prompt_cache.slots:
            prompt = self.waiting_prompts[0]
            new_tokens = len(prompt.token_ids) - len(self.shared_prefix)
            if prefills and tokens + new_tokens > MAX_PREFILL_TOKENS:
                break
            prompt.slot = len(self.running_prompts)
            self.running_prompts.append(prompt)
            prefills.append(self.waiting_prompts.popleft())
            free, tokens = free - len(prompt.sequences), tokens + new_tokens
        return prefills

    def _forward(self, prefills: list[PromptState]) -> torch.Tensor:
        """Logits [R + prefills, V]: for each running sequence, and for the last token of each prompt to prefill."""
        tokens = [sequence.token_ids[-1] for sequence in self.running]
        num_cached = [len(sequence.token_ids) - 1 for sequence in self.running]
        positions = [
            len(sequence.prompt.token_ids) + count for sequence, count in zip(self.running, num_cached, strict=True)
        ]
        logits_to_keep, spans = list(range(len(tokens))), []
        prefix_length = len(self.shared_prefix)
        if prefills and prefix_length and not self.metadata.shared_prefix_kv:
            spans.append((SHARED_PREFIX, len(tokens), len(tokens) + prefix_length))
            positions.extend(range(prefix_length))
            tokens.extend(self.shared_prefix)
        for prompt in prefills:
            spans.append((prompt.slot, len(tokens), len(tokens) + len(prompt.token_ids) - prefix_length))
            positions.extend(range(prefix_length, len(prompt.token_ids)))
            tokens.extend(prompt.token_ids[prefix_length:])
            logits_to_keep.append(len(tokens) - 1)
        self.metadata.prepare_step(self._current_layout(), spans, max(positions) + 1)
        selected = self._tensor(logits_to_keep) if prefills else None
        logits = self.functions.logits(
            self._tensor(tokens), self._tensor(positions), self.metadata, logits_to_keep=selected
        )
        self.metadata.column += bool(self.running)
        return logits

    def _sample_and_append(
        self, sequences: Sequence[Sequence[SequenceState]], logits: torch.Tensor, numbers: np.ndarray
    ) -> None:
        """Sample tokens for sequences [R][K] from logits [R, V] with uniforms [R, K], and append them."""
        uniforms = torch.from_numpy(numbers).to(self.device)
        ids, log_probs = (self.functions.sample or sample_tokens)(logits, uniforms, self.sampling)
        sampled_ids, sampled_log_probs = ids.tolist(), log_probs.cpu().numpy()
        if not np.isfinite(sampled_log_probs).all():
            self.metadata.response_cache.pool.buffers.clear()  # it may contain NaN
            raise UserError("sampling: the model's logits are not finite; its weights may have diverged")
        for of_prompt, tokens, values in zip(sequences, sampled_ids, sampled_log_probs.tolist(), strict=True):
            for sequence, token, value in zip(of_prompt, tokens, values, strict=True):
                if not sequence.finished:
                    sequence.append_token(token, value)

    def _compact_sequences(self) -> None:
        """Put waiting sequences into the slots of finished ones, then close the remaining holes."""
        holes = [slot for slot, sequence in enumerate(self.running) if sequence.finished]
        can_admit = self.waiting_sequences and len(self.running) < self.max_num_seqs
        if not can_admit and len(holes) <= (
            len(self.running) // COMPACTION_DIVISOR if self.functions.graph_capture else 0
        ):
            return
        self._layout = None
        for slot in holes:
            self.running[slot].prompt.num_unfinished -= 1
        while holes and self.waiting_sequences:
            self._assign_slot(holes.pop(0), self.waiting_sequences.popleft())
        sources, targets = _fill_holes(self.running, holes)
        first = min((self.running[slot].start_column for slot in targets), default=0)
        self.metadata.response_cache.copy_slots(sources, targets, start=first, end=self.metadata.column)
        while self.waiting_sequences and len(self.running) < self.max_num_seqs:
            self._assign_slot(len(self.running), self.waiting_sequences.popleft())

    def _assign_slot(self, slot: int, sequence: SequenceState) -> None:
        self.running[slot : slot + 1] = [sequence]
        sequence.start_column = self.metadata.column

    def _compact_prompts(self) -> None:
        """Remove prompts whose sequences have all finished."""
        holes = [slot for slot, prompt in enumerate(self.running_prompts) if not prompt.num_unfinished]
        if not holes:
            return
        self._layout = None
        sources, targets = _fill_holes(self.running_prompts, holes)
        for slot in targets:
            self.running_prompts[slot].slot = slot
        longest = max((len(self.running_prompts[slot].token_ids) for slot in targets), default=0)
        self.metadata.prompt_cache.copy_slots(sources, targets, start=0, end=longest)

    def _current_layout(self) -> BatchLayout | None:
        """The layout of sequences, prompts and columns; the same object until one of them changes."""
        if not self.running:
            self.metadata.column, self._layout = 0, None
            return None
        if self.metadata.column == self.metadata.response_cache.positions:
            self._free_columns()
        if self._layout is None:
            self._layout = BatchLayout.build(
                [sequence.prompt.slot for sequence in self.running],
                [len(prompt.token_ids) for prompt in self.running_prompts],
                [sequence.start_column for sequence in self.running],
                device=self.device,
            )
        return self._layout

    def _free_columns(self) -> None:
        """Drop leading columns that no running sequence uses, or, if there are few, double the number of columns."""
        response_cache, first = self.metadata.response_cache, min(sequence.start_column for sequence in self.running)
        self._layout = None
        if self.metadata.column - first > response_cache.positions // 2:
            response_cache.grow(2 * response_cache.positions)
            return
        response_cache.shift_to_start(first, self.metadata.column)
        for sequence in self.running:
            sequence.start_column -= first
        self.metadata.column -= first

    def _tensor(self, values: Sequence[int]) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.long, device=self.device)


def _shared_prefix(prompts: Sequence[list[int]]) -> list[int]:
    """The common prefix of all prompts, without the last token of the shortest prompt; [] if too short to pay.

    The lexicographically first and last prompts have the shortest common prefix of all pairs.
    """
    first, last = min(prompts), max(prompts)
    most = min(len(prompt) for prompt in prompts) - 1
    same = next((place for place in range(most) if first[place] != last[place]), most)
    return first[:same] if len(prompts) > 1 and same >= MIN_SHARED_PREFIX else []


def _fill_holes(items: list[Any], holes: list[int]) -> tuple[list[int], list[int]]:
    """Remove the items at `holes` by moving the last items into the first holes; returns their old and new indices."""
    left = len(items) - len(holes)
    gone = set(holes)
    targets = [place for place in holes if place < left]
    sources = [place for place in range(left, len(items)) if place not in gone]
    for source, target in zip(sources, targets, strict=True):
        items[target] = items[source]
    del items[left:]
    return sources, targets
