"""Attention metadata of one sampling step, prepared once for all layers.

All running sequences write their new keys and values to the same column of their own slot; a sequence that started
later just uses fewer columns. So writing is one copy per layer, and the mask changes by one column per step. Columns
become visible in strides of 8: views and masks are rebuilt only when the stride, the sequences or the prompts change.
With CUDA graphs, all columns are visible from the start and a tensor holds the column to write, so that the capture of
one step is valid for the next.
Legend as in `zhenlong.sampling.attention`; L layers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np
import torch

from zhenlong.forest.attention import UnsupportedAttention
from zhenlong.forest.attention_metadata import VarlenLayout
from zhenlong.kernels.decoding import DecodeStep
from zhenlong.sampling.kv_cache import KVCache

COLUMN_STRIDE: Final = 8
SHARED_PREFIX: Final = -1  # the slot of the common prefix of all prompts, computed once
AdditiveMasks = tuple[torch.Tensor, torch.Tensor]


@dataclass
class BatchLayout:
    """Which running sequence continues which prompt, and from which column."""

    num_sequences: int  # R
    num_prompts: int  # G
    max_samples: int  # S
    to_prompt_order: torch.Tensor | None  # [G*S] sequences by prompt, padded with 0; None: in prompt order already
    to_slot_order: torch.Tensor | None  # [R] index of each sequence in [G*S]
    prompt_lengths: torch.Tensor  # [R] length of each sequence's prompt
    start_columns: torch.Tensor  # [R] first column of each sequence
    longest_prompt: int  # P
    first_column: int  # the minimum of `start_columns`
    prompt_order: tuple[np.ndarray, np.ndarray]  # [R] sequences ordered by prompt; [G + 1] offsets of the prompts

    @property
    def grouped_shape(self) -> tuple[int, int]:
        """(G, S) if sequences are in prompt order, else (R, 1)."""
        return (self.num_prompts, self.max_samples) if self.to_slot_order is None else (self.num_sequences, 1)

    @classmethod
    def build(
        cls, prompt_slots: list[int], prompt_lengths: list[int], start_columns: list[int], *, device: torch.device
    ) -> BatchLayout:
        """From each sequence's prompt slot, each prompt's length and each sequence's first column."""
        sequences_of: list[list[int]] = [[] for _ in range(max(prompt_slots) + 1)]
        for row, prompt in enumerate(prompt_slots):
            sequences_of[prompt].append(row)
        max_samples = max(len(rows) for rows in sequences_of)
        back = [0] * len(prompt_slots)
        for prompt, rows in enumerate(sequences_of):
            for place, row in enumerate(rows):
                back[row] = prompt * max_samples + place
        in_order = back == list(range(len(sequences_of) * max_samples))
        gather = [row for rows in sequences_of for row in rows + [0] * (max_samples - len(rows))]
        used_lengths = torch.tensor(prompt_lengths[: len(sequences_of)], device=device)
        index = None if in_order else torch.tensor(gather, device=device)
        return cls(
            num_sequences=len(prompt_slots),
            num_prompts=len(sequences_of),
            max_samples=max_samples,
            to_prompt_order=index,
            to_slot_order=None if in_order else torch.tensor(back, device=device),
            prompt_lengths=used_lengths[torch.tensor(prompt_slots, device=device)],
            start_columns=torch.tensor(start_columns, device=device),
            longest_prompt=max(prompt_lengths[: len(sequences_of)]),
            first_column=min(start_columns),
            prompt_order=(
                np.concatenate(sequences_of).astype(np.int64),
                np.cumsum([0, *map(len, sequences_of)]).astype(np.int64),
            ),
        )


@dataclass
class CacheViews:
    """Slices of the two caches, one per layer, and the buffer for the scores of any layer."""

    write_keys: tuple[
        torch.Tensor, ...
    ]  # L x [R, Hkv, D] the column to write; with CUDA graphs all, [R, Hkv, positions, D]
    write_values: tuple[torch.Tensor, ...]
    response_keys: tuple[torch.Tensor, ...]  # L x [R*Hkv, D, W]
    response_values: tuple[torch.Tensor, ...]  # L x [R*Hkv, W, D]
    prompt_keys: tuple[torch.Tensor, ...]  # L x [G*Hkv, D, P]
    prompt_values: tuple[torch.Tensor, ...]  # L x [G*Hkv, P, D]
    _score_buffers: tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None = None

    def score_buffers(self, queries: torch.Tensor, layout: BatchLayout, heads: int) -> tuple[torch.Tensor, ...]:
        """A buffer that each layer overwrites, [R*Hkv, Q, P+W] for queries [R*Hkv, Q, D], and views of its two parts.

        The views, for prompts and responses, have shapes `layout.grouped_shape` x [Hkv, Q, P] and
        `layout.grouped_shape` x [Hkv, Q, W].
        """
        if self._score_buffers is None or self._score_buffers[0].shape[:2] != queries.shape[:2]:
            longest_prompt = self.prompt_keys[0].shape[-1]
            scores = queries.new_empty(*queries.shape[:2], longest_prompt + self.response_keys[0].shape[-1])
            parts = scores.view(*layout.grouped_shape, heads, *scores.shape[1:])
            self._score_buffers = scores, parts[..., :longest_prompt], parts[..., longest_prompt:]
        return self._score_buffers


@dataclass(frozen=True)
class PrefillKeys:
    """The keys of all prompts to prefill, one prompt's path after another: K keys.

    `gather_index` [K] indexes the tokens of the common prefix, if there is one, followed by the tokens to prefill.
    `slots` and `positions` are where each key is stored, except for the first `num_unstored` keys, which are the
    prefix itself.
    """

    gather_index: torch.Tensor
    slots: torch.Tensor
    positions: torch.Tensor
    num_unstored: int
    packing: VarlenLayout


@dataclass
class StepMetadata:
    """One step of the running batch, and the state that later steps reuse."""

    prompt_cache: KVCache  # slot g holds prompt g
    response_cache: KVCache  # slot r holds sequence r
    graph_capture: bool = False  # whether steps are captured as CUDA graphs
    sliding_windows: set[int | None] = field(default_factory=set)  # sliding windows that layers passed
    num_sequences: int = 0  # R
    prefills: list[tuple[int, int, int]] = field(default_factory=list)  # (slot, start, end) in the flat batch
    shared_prefix_kv: dict[int, tuple[torch.Tensor, torch.Tensor]] = field(
        default_factory=dict
    )  # by layer: [1, Hkv, X, D]
    column: int = 0  # the column that this step writes
    num_positions: int = 0  # greater than every position of this step
    _prefill_keys: PrefillKeys | None = None
    _column_tensor: torch.Tensor | None = None  # [1] the column, with CUDA graphs
    _layout: BatchLayout | None = None
    _column_span: tuple[int, int] = (0, 0)  # visible columns
    _views: CacheViews | None = None
    _masks: dict[int | None, AdditiveMasks] = field(default_factory=dict)

    @property
    def layout(self) -> BatchLayout:
        """The sequences and prompts of this step."""
        assert self._layout is not None, "a step with running rows has a layout"
        return self._layout

    @property
    def decode_step(self) -> DecodeStep:
        """The running sequences, for the compiled kernels."""
        layout = self.layout
        order, starts = layout.prompt_order
        return DecodeStep(
            prompt_order=order,
            prompt_starts=starts,
            prompt_lengths=layout.prompt_lengths,
            start_columns=layout.start_columns,
            column=self.column,
        )

    def prepare_step(
        self, layout: BatchLayout | None, prefills: list[tuple[int, int, int]], num_positions: int
    ) -> None:
        """Prepare the step that writes `column`; a `layout` other than the last one discards prepared tables."""
        self.prefills, self.num_positions, self._prefill_keys = prefills, num_positions, None
        self.num_sequences = layout.num_sequences if layout is not None else 0
        if layout is None:
            self._layout = None
            return
        if self.prompt_cache.unallocated:
            raise UnsupportedAttention("its layers do not call the registered attention")
        if self.response_cache.unallocated:
            self.response_cache.allocate(self.prompt_cache.keys, self.prompt_cache.values)
        self.num_positions = max(
            num_positions, layout.longest_prompt + self.response_cache.positions
        )  # for all steps with this layout
        span = (
            layout.first_column // COLUMN_STRIDE * COLUMN_STRIDE,
            min((self.column // COLUMN_STRIDE + 1) * COLUMN_STRIDE, self.response_cache.positions),
        )
        if self.graph_capture:
            span = (0, self.response_cache.positions)
            self._column_tensor = (
                torch.tensor([0], device=self.response_cache.keys.device)
                if self._column_tensor is None
                else self._column_tensor
            )
            self._column_tensor.fill_(self.column)
        if layout is not self._layout or span != self._column_span:
            self._layout, self._column_span, self._views = layout, span, None
            self._masks.clear()
        if self._views is not None and not self.graph_capture:
            self._views.write_keys, self._views.write_values = self._write_views()
        for window, (prompt_mask, response_mask) in self._masks.items():
            if window is None:
                response_mask[..., self.column - span[0]] = 0
            else:
                for old, new in zip((prompt_mask, response_mask), self._build_masks(window), strict=True):
                    old.copy_(new)

    def write_kv(self, layer: int, k: torch.Tensor, v: torch.Tensor) -> None:
        """Write new keys and values [R, Hkv, D] to this step's column."""
        views = self.views()
        for slots, new in ((views.write_keys[layer], k), (views.write_values[layer], v)):
            if self._column_tensor is None:
                slots.copy_(new)
            else:
                slots.index_copy_(2, self._column_tensor, new.unsqueeze(2))

    def _write_views(self) -> tuple[tuple[torch.Tensor, ...], tuple[torch.Tensor, ...]]:
        place = slice(None) if self.graph_capture else self.column
        keys, values = (
            block[:, : self.num_sequences, :, place].unbind(0)
            for block in (self.response_cache.keys, self.response_cache.values)
        )
        return keys, values

    def prefill_keys(self, device: torch.device) -> PrefillKeys:
        """The keys of all prompts to prefill, for attention in one call."""
        if self._prefill_keys is None:
            prefix_in_batch = self.prefills[0][0] == SHARED_PREFIX  # computed in this step
            cached_prefix = (
                0 if prefix_in_batch else next((keys.shape[2] for keys, _ in self.shared_prefix_kv.values()), 0)
            )
            num_unstored = self.prefills[0][2] - self.num_sequences if prefix_in_batch else 0
            paths, slots = [], []
            for slot, start, end in self.prefills:
                own = np.arange(start, end) - self.num_sequences + cached_prefix
                paths.append(
                    own if slot == SHARED_PREFIX else np.concatenate((np.arange(cached_prefix + num_unstored), own))
                )
                slots.append(np.full(len(paths[-1]), slot))
            lengths = [end - start for _, start, end in self.prefills]
            totals = [len(path) for path in paths]
            positions = np.concatenate([np.arange(total) for total in totals])
            tables = (np.concatenate(paths), np.concatenate(slots)[num_unstored:], positions[num_unstored:])
            gather_index, key_slots, key_positions = (torch.from_numpy(table).to(device) for table in tables)
            self._prefill_keys = PrefillKeys(
                gather_index,
                slots=key_slots,
                positions=key_positions,
                num_unstored=num_unstored,
                packing=VarlenLayout.from_lengths(None, lengths, totals, device=device),
            )
        return self._prefill_keys

    def views(self) -> CacheViews:
        """The cache slices that this step reads and writes."""
        if self._views is None:
            start, end = self._column_span
            response_cache, prompt_cache, layout = self.response_cache, self.prompt_cache, self.layout
            response_keys = response_cache.keys[:, : self.num_sequences].flatten(1, 2)[:, :, start:end].transpose(2, 3)
            prompt_keys = (
                prompt_cache.keys[:, : layout.num_prompts].flatten(1, 2)[:, :, : layout.longest_prompt].transpose(2, 3)
            )
            response_values = response_cache.values[:, : self.num_sequences].flatten(1, 2)[:, :, start:end]
            prompt_values = prompt_cache.values[:, : layout.num_prompts].flatten(1, 2)[:, :, : layout.longest_prompt]
            self._views = CacheViews(
                *self._write_views(),
                response_keys=response_keys.unbind(0),
                response_values=response_values.unbind(0),
                prompt_keys=prompt_keys.unbind(0),
                prompt_values=prompt_values.unbind(0),
            )
        return self._views

    def masks(self, window: int | None) -> AdditiveMasks:
        """Additive masks, 0 or -inf, for the prompt and for the response columns, each [G, S, 1, 1, ...].

        Without a window they change by one column per step. With one, position p is visible up to position
        p + window - 1.
        """
        if window not in self._masks:
            self._masks[window] = self._build_masks(window)
        return self._masks[window]

    def _build_masks(self, window: int | None) -> AdditiveMasks:
        layout, device = self.layout, self.response_cache.keys.device
        column = torch.arange(*self._column_span, device=device)[None]
        response_hidden = (column < layout.start_columns[:, None]) | (column > self.column)  # [R, W]
        position = torch.arange(layout.longest_prompt, device=device)[None]
        prompt_hidden = position >= layout.prompt_lengths[:, None]  # [R, P]
        if window is not None:
            response_hidden |= column <= self.column - window
            oldest = layout.prompt_lengths + (self.column - layout.start_columns) - window  # [R]
            prompt_hidden |= position <= oldest[:, None]
        return self._additive_mask(prompt_hidden), self._additive_mask(response_hidden)

    def _additive_mask(self, hidden: torch.Tensor) -> torch.Tensor:
        mask = torch.zeros(hidden.shape, dtype=self.response_cache.keys.dtype, device=hidden.device)
        return mask.masked_fill_(hidden, float("-inf")).view(*self.layout.grouped_shape, 1, 1, -1)
