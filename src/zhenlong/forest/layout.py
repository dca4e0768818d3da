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
SILENT: Final = -1  # the row of a segment that is only seen


@dataclass(frozen=True)
class Block:
    """Segments attended to in one call: B rows of Q queries and K keys, and who sees whom.

    `mask` [B, 1, Q, K] is None where plain causal attention is right: roots, whose padding lies behind every real key.
    """

    rows: int
    queries: int
    keys: int
    mask: torch.Tensor | None


@dataclass(frozen=True)
class AttentionLayout:
    """The blocks, and which flat tokens their rows hold.

    `queries` [sum of B*Q] are rows of the queries and `keys` [sum of B*K] flat tokens of all blocks, one block after
    the other, so that one gather serves them all; `back` [P] is the place of each query in `queries`. With `once` the
    keys are the queries, and so every token is a key once.
    """

    blocks: tuple[Block, ...]
    queries: torch.Tensor
    keys: torch.Tensor
    back: torch.Tensor
    once: bool


def lay_out(spans: Sequence[Span], asking: int, window: int | None, device: torch.device | str) -> AttentionLayout:
    """Blocks for segments, parents before children, of which `asking` tokens are queries.

    `window` limits attention to the last `window` positions, the query's own included (sliding-window attention).
    """
    paths = paths_of(spans)
    by_size: dict[tuple[bool, int, int], list[int]] = defaultdict(list)
    for segment, (_, length, parent, row) in enumerate(spans):
        if row == SILENT:
            continue
        total = sum(spans[s][1] for s in paths[segment])
        by_size[parent < 0, _size_class(length), _size_class(total)].append(segment)
    blocks: list[Block] = []
    query_parts: list[np.ndarray] = []
    key_parts: list[np.ndarray] = []
    back = np.zeros(asking, dtype=np.int64)
    once = all(parent < 0 and row == start for start, _, parent, row in spans)
    offset = 0
    for (is_root, _, _), members in by_size.items():
        queries = keys = _padded([np.arange(spans[s][3], spans[s][3] + spans[s][1]) for s in members])
        mask = None
        masked = not is_root or (window is not None and window < queries.shape[1])
        if masked or not once:
            keys = _padded(
                [np.concatenate([np.arange(spans[s][0], spans[s][0] + spans[s][1]) for s in paths[m]]) for m in members]
            )
        if masked:
            seen = _mask([spans[m][1] for m in members], keys, queries.shape[1], window)
            mask = torch.from_numpy(seen).to(device)
        blocks.append(Block(len(members), queries.shape[1], keys.shape[1], mask))
        valid = queries >= 0
        back[queries[valid]] = offset + np.flatnonzero(valid)
        offset += queries.size
        query_parts.append(queries)
        key_parts.append(keys)
    every_query = _index(query_parts, device)
    every_key = every_query if once else _index(key_parts, device)
    return AttentionLayout(tuple(blocks), every_query, every_key, torch.from_numpy(back).to(device), once)


class Gathered(torch.autograd.Function):
    """`states` [N, H, D] at `index` [P].

    Where every state is read once, `back` [N] says from which place. The rest of the index is padding, whose gradient
    is 0 because no result depends on it; so the gradient is a gather too, without a tensor of zeros to add into.
    Gradients of a state that is read several times are summed in fp32.
    """

    @staticmethod
    def forward(ctx: Any, states: torch.Tensor, index: torch.Tensor, back: torch.Tensor | None) -> torch.Tensor:
        ctx.save_for_backward(index, back)
        ctx.shape = states.shape
        return states.index_select(0, index)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        index, back = ctx.saved_tensors
        if back is not None:
            return gradient.index_select(0, back), None, None
        wide = gradient.to(torch.promote_types(gradient.dtype, torch.float32))
        return wide.new_zeros(ctx.shape).index_add_(0, index, wide).to(gradient.dtype), None, None


def paths_of(spans: Sequence[Span]) -> list[list[int]]:
    """The segments from the root down to each segment, itself included."""
    paths: list[list[int]] = []
    for segment, (_, _, parent, _) in enumerate(spans):
        paths.append([*(paths[parent] if parent >= 0 else []), segment])
    return paths


def _size_class(length: int) -> int:
    """Lengths that may share a block: one class up to 32, then steps of a factor 1.5, so that padding stays small."""
    return 0 if length <= 32 else 1 + int(np.log(length / 32) / np.log(1.5))


def _padded(rows: list[np.ndarray]) -> np.ndarray:
    """The index rows side by side, -1 where a row is shorter than the longest."""
    table = np.full((len(rows), max(map(len, rows))), -1, dtype=np.int64)
    for row, indices in zip(table, rows, strict=True):
        row[: len(indices)] = indices
    return table


def _mask(lengths: list[int], keys: np.ndarray, most_queries: int, window: int | None) -> np.ndarray:
    """Who sees whom, [B, 1, Q, K]: along a path positions are consecutive, so key j is at position j of its row."""
    totals = (keys >= 0).sum(1)
    first = (totals - np.asarray(lengths))[:, None, None]  # position of the row's first query
    position = first + np.arange(most_queries)[None, :, None]
    key = np.arange(keys.shape[1])[None, None, :]
    mask = (key <= position) & (key < totals[:, None, None])
    if window is not None:
        mask &= key > position - window
    padding = position >= totals[:, None, None]  # padded queries see something, so that their softmax is finite
    return (mask | (padding & (key == 0)))[:, None]


def _index(tables: list[np.ndarray], device: torch.device | str) -> torch.Tensor:
    """Padding reads token 0; no real query sees it and nothing reads its result."""
    return torch.from_numpy(np.maximum(np.concatenate([table.reshape(-1) for table in tables]), 0)).to(device)
