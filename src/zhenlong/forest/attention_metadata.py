"""Who attends to whom in a layer: segments of a flat batch, and which of them ask.

All layers but the last compute every token. What the last one computes is read at some positions only, so there only
these ask, while all tokens before them are seen. `split_by_query` cuts segments into parts that ask and parts that do
not.

Shapes: N flat tokens, P positions that are read.
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
    """Segments, parents before children, the number of tokens that ask, and the tables that attention needs of them.

    Each table is built once, when it is first asked for, and shared by all layers.
    """

    spans: list[Span]
    num_queries: int
    device: torch.device
    _block_layouts: dict[int | None, BlockLayout] = field(default_factory=dict, repr=False)
    _varlen_layout: VarlenLayout | None = field(default=None, repr=False)
    _kernel_trees: SegmentTable | None = field(default=None, repr=False)

    def block_layout(self, sliding_window: int | None = None) -> BlockLayout:
        """Which tokens attend to which, in dense blocks, for a sliding window."""
        if sliding_window not in self._block_layouts:
            self._block_layouts[sliding_window] = build_block_layout(
                self.spans, self.num_queries, sliding_window, self.device
            )
        return self._block_layouts[sliding_window]

    @property
    def varlen_layout(self) -> VarlenLayout:
        """The same as sequences of unequal lengths."""
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
    """The positions that are read: `query_indices` [P], ascending flat indices, the metadata of the layer that computes
    only them, and `inverse`, the place in `query_indices` of each position asked for; None where that is the same."""

    query_indices: torch.Tensor
    attention_metadata: AttentionMetadata
    inverse: torch.Tensor | None

    @classmethod
    def from_indices(cls, spans: Sequence[Span], indices: np.ndarray, device: torch.device) -> QuerySubset:
        """From flat indices in any order, some of them more than once."""
        unique, inverse = np.unique(indices, return_inverse=True)
        already_unique = len(unique) == len(inverse) and bool((inverse == np.arange(len(inverse))).all())
        attention_metadata = AttentionMetadata(split_by_query(spans, unique), len(unique), device)
        query_indices, inverse_indices = (torch.from_numpy(each).to(device) for each in (unique, inverse))
        return cls(query_indices, attention_metadata, None if already_unique else inverse_indices)


def split_by_query(spans: Sequence[Span], query_indices: np.ndarray) -> list[Span]:
    """The same segments in parts that ask or do not; `query_indices` [P] are the flat tokens that are queries,
    ascending.

    Parts that nobody asks about are left out.
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
