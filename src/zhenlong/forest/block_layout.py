"""How a flat batch attends: segments of similar size gathered into a few dense blocks, one attention call each.

Inside a block every row is one segment: its queries are its own tokens, its keys its ancestors' and then its own.
Only attention sees this padding; linear layers, norms and the output head run on the flat tokens.

Shapes: N flat tokens, P of them that ask (all but in the last layer), B rows of a block, Q the most queries of a row, K
the most keys of a row.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch

Span = tuple[int, int, int, int]  # start, length, parent (-1 for a root), its first token's row among the queries
KEY_ONLY: Final = -1  # the row of a segment that only gives keys and values


@dataclass(frozen=True)
class Block:
    """Segments attended to in one call: B rows of Q queries and K keys, and who sees whom.

    `mask` [B, 1, Q, K] is None where plain causal attention is right: roots, whose padding lies behind every real key.
    """

    num_rows: int
    num_queries: int
    num_keys: int
    mask: torch.Tensor | None


@dataclass(frozen=True)
class BlockLayout:
    """The blocks, and which flat tokens their rows hold.

    `query_indices` [sum of B*Q] are rows of the queries and `key_indices` [sum of B*K] flat tokens of all blocks, one
    block after the other, so that one gather serves them all; `unpad_indices` [P] is the place of each query in
    `query_indices`. With `keys_are_queries` the keys are the queries, and so every token is a key once.
    """

    blocks: tuple[Block, ...]
    query_indices: torch.Tensor
    key_indices: torch.Tensor
    unpad_indices: torch.Tensor
    keys_are_queries: bool


def build_block_layout(
    spans: Sequence[Span], num_queries: int, sliding_window: int | None, device: torch.device | str
) -> BlockLayout:
    """Blocks for segments, parents before children, of which `num_queries` tokens are queries.

    `sliding_window` limits attention to so many last positions, the query's own included (sliding-window attention).
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
            block_mask = _attention_mask([spans[m][1] for m in members], keys, queries.shape[1], sliding_window)
            mask = torch.from_numpy(block_mask).to(device)
        blocks.append(Block(len(members), queries.shape[1], keys.shape[1], mask))
        valid = queries >= 0
        unpad_indices[queries[valid]] = offset + np.flatnonzero(valid)
        offset += queries.size
        query_parts.append(queries)
        key_parts.append(keys)
    query_indices = _flat_index_tensor(query_parts, device)
    key_indices = query_indices if keys_are_queries else _flat_index_tensor(key_parts, device)
    return BlockLayout(
        tuple(blocks), query_indices, key_indices, torch.from_numpy(unpad_indices).to(device), keys_are_queries
    )


class GatherRows(torch.autograd.Function):
    """`states` [N, H, D] at `index` [P].

    Where every state is read once, `inverse` [N] says from which place. The rest of the index is padding, whose
    gradient is 0 because no result depends on it; so the gradient is a gather too, without a tensor of zeros to add
    into. Gradients of a state that is read several times are summed in fp32.
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
    """The segments from the root down to each segment, itself included."""
    paths: list[list[int]] = []
    for segment, (_, _, parent, _) in enumerate(spans):
        paths.append([*(paths[parent] if parent >= 0 else []), segment])
    return paths


def _length_bucket(length: int) -> int:
    """Lengths that may share a block: one class up to 32, then steps of a factor 1.5, so that padding stays small."""
    return 0 if length <= 32 else 1 + int(np.log(length / 32) / np.log(1.5))


def _pad_indices(rows: list[np.ndarray]) -> np.ndarray:
    """The index rows side by side, -1 where a row is shorter than the longest."""
    table = np.full((len(rows), max(map(len, rows))), -1, dtype=np.int64)
    for row, indices in zip(table, rows, strict=True):
        row[: len(indices)] = indices
    return table


def _attention_mask(lengths: list[int], keys: np.ndarray, max_queries: int, sliding_window: int | None) -> np.ndarray:
    """Who sees whom, [B, 1, Q, K]: along a path positions are consecutive, so key j is at position j of its row."""
    totals = (keys >= 0).sum(1)
    first = (totals - np.asarray(lengths))[:, None, None]  # position of the row's first query
    position = first + np.arange(max_queries)[None, :, None]
    key = np.arange(keys.shape[1])[None, None, :]
    mask = (key <= position) & (key < totals[:, None, None])
    if sliding_window is not None:
        mask &= key > position - sliding_window
    padding = position >= totals[:, None, None]  # padded queries see something, so that their softmax is finite
    return (mask | (padding & (key == 0)))[:, None]


def _flat_index_tensor(tables: list[np.ndarray], device: torch.device | str) -> torch.Tensor:
    """Padding reads token 0; no real query sees it and nothing reads its result."""
    return torch.from_numpy(np.maximum(np.concatenate([table.reshape(-1) for table in tables]), 0)).to(device)
