"""The running batch: which rows and prompts sit in which slots, and one step of all of them.

Rows leave when they end and waiting rows take their slots. Running rows always fill slots 0 to R-1 and their prompts
slots 0 to G-1, so that attention reads plain slices: a hole is filled by a waiting row or by the last running one.
Where steps are recorded and replayed, a change of slots costs a new recording; there rows that ended stay in their
slots, unheard, until they are a quarter of all.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import torch
from transformers import PreTrainedModel

from zhenlong.errors import UserError
from zhenlong.sampling.kv_cache import BufferPool, KVCache
from zhenlong.sampling.sampling_params import SamplingParams
from zhenlong.sampling.sequence_state import PromptState, SequenceState
from zhenlong.sampling.step_metadata import SHARED_PREFIX, AttentionMetadata, BatchLayout
from zhenlong.sampling.token_sampling import sample_tokens

MAX_PREFILL_TOKENS: Final = 8192  # of entering prompts in one step, unless a single one is longer
INITIAL_COLUMNS: Final = 64  # of the rows' own slots; doubled as answers grow
CAPTURED_COLUMNS: Final = 256  # the same where steps are recorded: each doubling is a new recording
COMPACTION_DIVISOR: Final = 4  # of so many rows one may have ended, where steps are recorded
MIN_SHARED_PREFIX: Final = 16  # tokens that prompts have to begin with alike for these to be computed once


# (ids [N], positions [N], step, tokens whose logits are wanted or None for all) -> logits
LogitsFn = Callable[[torch.Tensor, torch.Tensor, AttentionMetadata, "torch.Tensor | None"], torch.Tensor]
# (logits [R, V], uniforms [R, K], how) -> ids and log-probabilities [R, K]
SampleFn = Callable[[torch.Tensor, torch.Tensor, SamplingParams], tuple[torch.Tensor, torch.Tensor]]


class ContinuousBatch:
    """The state of sampling all rows of some prompts; `step` makes one step with the model's `logits_fn`."""

    def __init__(
        self,
        model: PreTrainedModel,
        prompts: Sequence[PromptState],
        sampling: SamplingParams,
        max_num_seqs: int,
        pool: BufferPool,
        logits_fn: LogitsFn,
        graph_capture: bool = False,
        sample_fn: SampleFn | None = None,
    ) -> None:
        self.graph_capture, self.sample_fn = graph_capture, sample_fn
        self.logits_fn, self.sampling, self.max_num_seqs = logits_fn, sampling, max_num_seqs
        self.device = next(model.parameters()).device
        self.waiting_prompts = deque(prompts)
        self.waiting_sequences: deque[SequenceState] = deque()  # rows that have their first token and no slot
        self.running: list[SequenceState] = []  # rows[r] is in slot r
        self.running_prompts: list[PromptState] = []  # prompts[g] is in slot g
        total = sum(len(prompt.sequences) for prompt in prompts)
        layers = int(model.config.get_text_config().num_hidden_layers)
        limit = max(len(row.uniforms) for prompt in prompts for row in prompt.sequences)
        columns = min(limit, CAPTURED_COLUMNS if graph_capture else INITIAL_COLUMNS)
        response_cache = KVCache("responses", layers, min(total, max_num_seqs), columns, pool)
        longest_prompt = max(len(prompt.token_ids) for prompt in prompts)
        prompt_cache = KVCache("prompts", layers, min(len(prompts), max_num_seqs), longest_prompt, pool)
        self.shared_prefix = _shared_prefix([prompt.token_ids for prompt in prompts])
        self.metadata = AttentionMetadata(prompt_cache, response_cache, graph_capture)
        self._layout: BatchLayout | None = None

    @property
    def finished(self) -> bool:
        """Whether no row is left."""
        return not (self.waiting_prompts or self.waiting_sequences or self.running)

    def step(self) -> None:
        """One forward pass: every running row gets a token, and every entering prompt the first token of its rows."""
        prefills = self._schedule_prefills()
        num_running = len(self.running)
        logits = self._forward(prefills)
        if num_running:
            uniforms = np.array([[0.0 if row.finished else row.uniforms[len(row.token_ids)]] for row in self.running])
            self._sample_and_append([[row] for row in self.running], logits[:num_running], uniforms)
        if prefills:
            first_uniforms = np.array([[row.uniforms[0] for row in prompt.sequences] for prompt in prefills])
            self._sample_and_append([prompt.sequences for prompt in prefills], logits[num_running:], first_uniforms)
            for prompt in prefills:
                self.waiting_sequences.extend(row for row in prompt.sequences if not row.finished)
                prompt.num_unfinished = sum(not row.finished for row in prompt.sequences)
        self._compact_sequences()
        self._compact_prompts()

    def _schedule_prefills(self) -> list[PromptState]:
        """Prompts that enter with this step, as many as free rows can use; each gets the next free slot."""
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
        """Logits [R + entering, V]: of every running row's token and of the last token of every entering prompt."""
        tokens = [row.token_ids[-1] for row in self.running]
        num_cached = [len(row.token_ids) - 1 for row in self.running]
        positions = [len(row.prompt.token_ids) + count for row, count in zip(self.running, num_cached, strict=True)]
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
        logits = self.logits_fn(self._tensor(tokens), self._tensor(positions), self.metadata, selected)
        self.metadata.column += bool(self.running)
        return logits

    def _sample_and_append(
        self, sequences: Sequence[Sequence[SequenceState]], logits: torch.Tensor, numbers: np.ndarray
    ) -> None:
        """Draw tokens for rows [R][K] from logits [R, V] with numbers [R, K] and hand them out."""
        uniforms = torch.from_numpy(numbers).to(self.device)
        ids, log_probs = (self.sample_fn or sample_tokens)(logits, uniforms, self.sampling)
        sampled_ids, sampled_log_probs = ids.tolist(), log_probs.cpu().numpy()
        if not np.isfinite(sampled_log_probs).all():
            self.metadata.response_cache.pool.buffers.clear()  # it holds the numbers that are none
            raise UserError("sampling: the model gives logits that are not numbers; its weights may have diverged")
        for of_rows, tokens, values in zip(sequences, sampled_ids, sampled_log_probs.tolist(), strict=True):
            for row, token, value in zip(of_rows, tokens, values, strict=True):
                if not row.finished:
                    row.append_token(token, value)

    def _compact_sequences(self) -> None:
        """Put waiting rows into the slots of ended ones and close the holes that remain."""
        holes = [slot for slot, row in enumerate(self.running) if row.finished]
        can_admit = self.waiting_sequences and len(self.running) < self.max_num_seqs
        if not can_admit and len(holes) <= (len(self.running) // COMPACTION_DIVISOR if self.graph_capture else 0):
            return
        self._layout = None
        for slot in holes:
            self.running[slot].prompt.num_unfinished -= 1
        while holes and self.waiting_sequences:
            self._assign_slot(holes.pop(0), self.waiting_sequences.popleft())
        sources, targets = _fill_holes(self.running, holes)
        first = min((self.running[slot].start_column for slot in targets), default=0)
        self.metadata.response_cache.copy_slots(sources, targets, first, self.metadata.column)
        while self.waiting_sequences and len(self.running) < self.max_num_seqs:
            self._assign_slot(len(self.running), self.waiting_sequences.popleft())

    def _assign_slot(self, slot: int, sequence: SequenceState) -> None:
        self.running[slot : slot + 1] = [sequence]
        sequence.start_column = self.metadata.column

    def _compact_prompts(self) -> None:
        """Drop prompts whose rows have all ended."""
        holes = [slot for slot, prompt in enumerate(self.running_prompts) if not prompt.num_unfinished]
        if not holes:
            return
        self._layout = None
        sources, targets = _fill_holes(self.running_prompts, holes)
        for slot in targets:
            self.running_prompts[slot].slot = slot
        self.metadata.prompt_cache.copy_slots(
            sources, targets, 0, max((len(self.running_prompts[slot].token_ids) for slot in targets), default=0)
        )

    def _current_layout(self) -> BatchLayout | None:
        """Rows, prompts and columns; the same object from step to step until one of them changes."""
        if not self.running:
            self.metadata.column, self._layout = 0, None
            return None
        if self.metadata.column == self.metadata.response_cache.positions:
            self._free_columns()
        if self._layout is None:
            self._layout = BatchLayout.build(
                [row.prompt.slot for row in self.running],
                [len(prompt.token_ids) for prompt in self.running_prompts],
                [row.start_column for row in self.running],
                self.device,
            )
        return self._layout

    def _free_columns(self) -> None:
        """Forget columns that no running row has written, or, where those are few, double the columns."""
        response_cache, first = self.metadata.response_cache, min(row.start_column for row in self.running)
        self._layout = None
        if self.metadata.column - first > response_cache.positions // 2:
            response_cache.grow(2 * response_cache.positions)
            return
        response_cache.shift_to_start(first, self.metadata.column)
        for row in self.running:
            row.start_column -= first
        self.metadata.column -= first

    def _tensor(self, values: Sequence[int]) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.long, device=self.device)


def _shared_prefix(prompts: Sequence[list[int]]) -> list[int]:
    """What all prompts begin with, the last token of the shortest left out; nothing where it is not worth it.

    The first and the last prompt in sorted order differ at the earliest place of all.
    """
    first, last = min(prompts), max(prompts)
    most = min(len(prompt) for prompt in prompts) - 1
    same = next((place for place in range(most) if first[place] != last[place]), most)
    return first[:same] if len(prompts) > 1 and same >= MIN_SHARED_PREFIX else []


def _fill_holes(items: list[Any], holes: list[int]) -> tuple[list[int], list[int]]:
    """Shorten `items` to those outside `holes`, the last ones moved into the first holes: their old and new places."""
    left = len(items) - len(holes)
    gone = set(holes)
    targets = [place for place in holes if place < left]
    sources = [place for place in range(left, len(items)) if place not in gone]
    for source, target in zip(sources, targets, strict=True):
        items[target] = items[source]
    del items[left:]
    return sources, targets
