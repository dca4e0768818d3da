"""Attention metadata of a packed batch: its segments, and which of their tokens are queries.

In all layers but the last, every token is a query. The last layer's output is needed at some positions only, so only
those are queries there; all tokens before them are keys. `split_by_query` splits segments into query and key-only
parts.

Shapes: N packed tokens, P positions whose output is needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import torch

from zhenlong.forest.block_layout import KEY_ONLY, BlockLayout, Span, build_block_layout
from zhenlong.forest.varlen import VarlenLayout, build_varlen_layout
from zhenlong.kernels.attention import SegmentTable


@dataclass
class AttentionMetadata:
    """Segments (parents before children), the number of query tokens, and the tables that attention needs for them.

    Each table is built once, on first use, and shared by all layers.
    """

    spans: list[Span]
    num_queries: int
    device: torch.device
    _block_layouts: dict[int | None, BlockLayout] = field(default_factory=dict, repr=False)
    _varlen_layout: VarlenLayout | None = field(default=None, repr=False)
    _kernel_trees: SegmentTable | None = field(default=None, repr=False)

    def block_layout(self, sliding_window: int | None = None) -> BlockLayout:
        """The dense blocks, for a sliding window or None."""
        if sliding_window not in self._block_layouts:
            self._block_layouts[sliding_window] = build_block_layout(
                self.spans, self.num_queries, sliding_window, device=self.device
            )
        return self._block_layouts[sliding_window]

    @property
    def varlen_layout(self) -> VarlenLayout:
        """The same as variable-length sequences."""
        if self._varlen_layout is None:
            self._varlen_layout = build_varlen_layout(self.spans, self.device)
        return self._varlen_layout

    @property
    def kernel_trees(self) -> SegmentTable:
        """The same for the compiled kernels."""
        if self._kernel_trees is None:
            self._kernel_trees = SegmentTable.from_segments(self.spans)
        return self._kernel_trees


@dataclass(frozen=True)
class QuerySubset:
    """The positions whose output is needed: `query_indices` [P], ascending packed indices; the metadata of the layer
    that computes only them; `inverse`, the index into `query_indices` of each requested position (None: identity)."""

    query_indices: torch.Tensor
    attention_metadata: AttentionMetadata
    inverse: torch.Tensor | None

    @classmethod
    def from_indices(cls, spans: Sequence[Span], indices: np.ndarray, device: torch.device) -> QuerySubset:
        """From packed indices in any order, possibly repeated."""
        unique, inverse = np.unique(indices, return_inverse=True)
        already_unique = len(unique) == len(inverse) and bool((inverse == np.arange(len(inverse))).all())
        attention_metadata = AttentionMetadata(split_by_query(spans, unique), len(unique), device)
        query_indices, inverse_indices = (torch.from_numpy(each).to(device) for each in (unique, inverse))
        return cls(query_indices, attention_metadata, None if already_unique else inverse_indices)


def split_by_query(spans: Sequence[Span], query_indices: np.ndarray) -> list[Span]:
    """Split segments into query parts and key-only parts; `query_indices` [P] are the query tokens, ascending.

    Parts that no query attends to are omitted.
    """
    parts: list[Span] = []
    last_parts: list[int] = []  # the last part of each segment
    for start, length, parent, _ in spans:
        first, last = np.searchsorted(query_indices, (start, start + length))
        is_query = np.zeros(length, dtype=bool)
        is_query[query_indices[first:last] - start] = True
        parent_part = last_parts[parent] if parent >= 0 else -1
        query_row = int(first)
        for begin, end in pairwise((0, *(np.flatnonzero(is_query[1:] != is_query[:-1]) + 1).tolist(), length)):
            parts.append((start + begin, end - begin, parent_part, query_row if is_query[begin] else KEY_ONLY))
            query_row += (end - begin) * int(is_query[begin])
            parent_part = len(parts) - 1
        last_parts.append(parent_part)
    attended = [row != KEY_ONLY for _, _, _, row in parts]
    for number in range(len(parts) - 1, -1, -1):
        if attended[number] and parts[number][2] >= 0:
            attended[parts[number][2]] = True
    new_numbers = np.cumsum(attended) - 1
    return [
        (start, length, int(new_numbers[parent]) if parent >= 0 else -1, row)
        for (start, length, parent, row), kept in zip(parts, attended, strict=True)
        if kept
    ]
