"""Attention metadata of a packed batch: its segments, which of their tokens are queries, and the tables for attention.

In all layers but the last, every token is a query. The last layer's output is needed at some positions only, so only
those are queries there; all tokens before them are keys. `split_by_query` splits segments into query and key-only
parts. The tables are for dense blocks of segments of similar length, one attention call per block, or for one call of
sequences of variable length. Only attention sees the padding of blocks; all else runs on the packed tokens.

Shapes: N packed tokens, P query tokens (all N except in the last layer), B rows of a block, Q and K the most queries
and keys of a row, S segments with queries.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

import numpy as np
import torch

from zhenlong.kernels.attention import SegmentTable

Span = tuple[int, int, int, int]  # start, length, parent (-1 for a root), index of its first token among the queries
KEY_ONLY: Final = -1  # query index of a segment that has only keys and values


@dataclass(frozen=True)
class Block:
    """Segments in one attention call: B rows of Q queries and K keys, and the mask.

    `mask` [B, 1, Q, K] is None where plain causal attention suffices: for roots, whose padding follows all real keys.
    """

    num_rows: int
    num_queries: int
    num_keys: int
    mask: torch.Tensor | None


@dataclass(frozen=True)
class BlockLayout:
    """The blocks, and the tokens in their rows.

    `query_indices` [sum of B*Q] index the queries and `key_indices` [sum of B*K] the packed tokens of all blocks, block
    after block, so that one gather is enough; `unpad_indices` [P] is the index of each query in `query_indices`. With
    `keys_are_queries`, keys and queries are the same tokens, so every token is a key exactly once.
    """

    blocks: tuple[Block, ...]
    query_indices: torch.Tensor
    key_indices: torch.Tensor
    unpad_indices: torch.Tensor
    keys_are_queries: bool


@dataclass(frozen=True)
class VarlenLayout:
    """The query and key indices of each segment.

    `key_indices` [K] are the packed tokens of all paths, one path after another; None if all segments are roots and
    queries, so that keys are the tokens themselves. `cu_seqlens_q` and `cu_seqlens_k` [S + 1] are the cumulative
    sequence lengths.
    """

    key_indices: torch.Tensor | None
    cu_seqlens_q: torch.Tensor
    cu_seqlens_k: torch.Tensor
    max_seqlen_q: int
    max_seqlen_k: int

    @classmethod
    def from_lengths(
        cls,
        key_indices: torch.Tensor | None,
        query_lengths: Sequence[int],
        key_lengths: Sequence[int],
        *,
        device: torch.device | str,
    ) -> VarlenLayout:
        """From the number of queries and keys of each sequence."""
        cu_seqlens_q, cu_seqlens_k = (
            torch.from_numpy(np.concatenate(([0], np.cumsum(each))).astype(np.int32)).to(device)
            for each in (query_lengths, key_lengths)
        )
        longest_query, longest_key = max(query_lengths), max(key_lengths)
        return cls(key_indices, cu_seqlens_q, cu_seqlens_k, max_seqlen_q=longest_query, max_seqlen_k=longest_key)


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


def build_block_layout(
    spans: Sequence[Span], num_queries: int, sliding_window: int | None, *, device: torch.device | str
) -> BlockLayout:
    """Blocks for `spans` (parents before children) with `num_queries` query tokens.

    `sliding_window` limits attention to that many last positions, including the query's own.
    """
    paths = ancestor_paths(spans)
    by_size: dict[tuple[bool, int, int], list[int]] = defaultdict(list)
    for segment, (_, length, parent, row) in enumerate(spans):
        if row == KEY_ONLY:
            continue
        total = sum(spans[s][1] for s in paths[segment])
        by_size[parent < 0, _length_bucket(length), _length_bucket(total)].append(segment)
    blocks: list[Block] = []
    query_parts: list[np.ndarray] = []
    key_parts: list[np.ndarray] = []
    unpad_indices = np.zeros(num_queries, dtype=np.int64)
    keys_are_queries = all(parent < 0 and row == start for start, _, parent, row in spans)
    offset = 0
    for (is_root, _, _), members in by_size.items():
        queries = keys = _pad_indices([np.arange(spans[s][3], spans[s][3] + spans[s][1]) for s in members])
        mask = None
        masked = not is_root or (sliding_window is not None and sliding_window < queries.shape[1])
        if masked or not keys_are_queries:
            keys = _pad_indices(
                [np.concatenate([np.arange(spans[s][0], spans[s][0] + spans[s][1]) for s in paths[m]]) for m in members]
            )
        if masked:
            lengths = [spans[m][1] for m in members]
            block_mask = _attention_mask(lengths, keys, queries.shape[1], sliding_window=sliding_window)
            mask = torch.from_numpy(block_mask).to(device)
        blocks.append(Block(len(members), num_queries=queries.shape[1], num_keys=keys.shape[1], mask=mask))
        valid = queries >= 0
        unpad_indices[queries[valid]] = offset + np.flatnonzero(valid)
        offset += queries.size
        query_parts.append(queries)
        key_parts.append(keys)
    query_indices = _flat_index_tensor(query_parts, device)
    key_indices = query_indices if keys_are_queries else _flat_index_tensor(key_parts, device)
    return BlockLayout(
        tuple(blocks),
        query_indices=query_indices,
        key_indices=key_indices,
        unpad_indices=torch.from_numpy(unpad_indices).to(device),
        keys_are_queries=keys_are_queries,
    )


def build_varlen_layout(spans: Sequence[Span], device: torch.device | str) -> VarlenLayout:
    """The sequences of the segments with queries; `spans` are in packing order, parents before children."""
    paths = [path for path, span in zip(ancestor_paths(spans), spans, strict=True) if span[3] != KEY_ONLY]
    query_lengths = [spans[path[-1]][1] for path in paths]
    key_lengths = [sum(spans[s][1] for s in path) for path in paths]
    key_indices = None
    if any(parent >= 0 or row != start for start, _, parent, row in spans):
        flat = [np.arange(spans[s][0], spans[s][0] + spans[s][1]) for path in paths for s in path]
        key_indices = torch.from_numpy(np.concatenate(flat)).to(device)
    return VarlenLayout.from_lengths(key_indices, query_lengths, key_lengths, device=device)


def ancestor_paths(spans: Sequence[Span]) -> list[list[int]]:
    """The segments on the path from the root to each segment, itself included."""
    paths: list[list[int]] = []
    for segment, (_, _, parent, _) in enumerate(spans):
        paths.append([*(paths[parent] if parent >= 0 else []), segment])
    return paths


def _length_bucket(length: int) -> int:
    """Lengths in one bucket share a block: one bucket up to 32, then steps of a factor 1.5, to keep padding small."""
    return 0 if length <= 32 else 1 + int(np.log(length / 32) / np.log(1.5))


def _pad_indices(rows: list[np.ndarray]) -> np.ndarray:
    """Index rows stacked into a table, padded with -1."""
    table = np.full((len(rows), max(map(len, rows))), -1, dtype=np.int64)
    for row, indices in zip(table, rows, strict=True):
        row[: len(indices)] = indices
    return table


def _attention_mask(
    lengths: list[int], keys: np.ndarray, max_queries: int, *, sliding_window: int | None
) -> np.ndarray:
    """The mask [B, 1, Q, K]. Positions along a path are consecutive, so key j of a row is at position j."""
    totals = (keys >= 0).sum(1)
    first = (totals - np.asarray(lengths))[:, None, None]  # position of the row's first query
    position = first + np.arange(max_queries)[None, :, None]
    key = np.arange(keys.shape[1])[None, None, :]
    mask = (key <= position) & (key < totals[:, None, None])
    if sliding_window is not None:
        mask &= key > position - sliding_window
    padding = position >= totals[:, None, None]  # padded queries attend to key 0, so that their softmax is finite
    return (mask | (padding & (key == 0)))[:, None]


def _flat_index_tensor(tables: list[np.ndarray], device: torch.device | str) -> torch.Tensor:
    """One index tensor of all tables; padding indexes token 0, whose results are not used."""
    return torch.from_numpy(np.maximum(np.concatenate([table.reshape(-1) for table in tables]), 0)).to(device)
