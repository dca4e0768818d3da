"""Attention of a packed batch in dense blocks: segments of similar length, one attention call per block.

Each row of a block is one segment: its queries are the segment's tokens, its keys are its ancestors' tokens followed by
its own. Only attention sees this padding; linear layers, norms and the output head run on the packed tokens.

Shapes: N packed tokens, P query tokens (all N except in the last layer), B rows of a block, Q and K the most queries
and keys of a row.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch

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


class GatherRows(torch.autograd.Function):
    """Gather `states` [N, H, D] at `index` [P].

    If every state is gathered exactly once, apart from padding, `inverse` [N] is the inverse index. Padding gets no
    gradient, because no result depends on it, so the backward pass is a gather too and needs no zeros to add into.
    Without `inverse`, gradients of states gathered several times are summed in fp32.
    """

    @staticmethod
    def forward(ctx: Any, states: torch.Tensor, index: torch.Tensor, inverse: torch.Tensor | None) -> torch.Tensor:
        ctx.save_for_backward(index, inverse)
        ctx.shape = states.shape
        return states.index_select(0, index)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        index, inverse = ctx.saved_tensors
        if inverse is not None:
            return gradient.index_select(0, inverse), None, None
        gradient_fp32 = gradient.to(torch.promote_types(gradient.dtype, torch.float32))
        return gradient_fp32.new_zeros(ctx.shape).index_add_(0, index, gradient_fp32).to(gradient.dtype), None, None


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
