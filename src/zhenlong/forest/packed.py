"""Attention over a forest by a kernel for sequences of unequal lengths: no padding, no mask.

Each segment is a sequence whose queries are its own tokens and whose keys are those of its path: its ancestors' tokens
and then its own, causal from the end. FlashAttention (Dao 2023, arXiv:2307.08691) computes this on CUDA devices in half
precision; elsewhere the forest attends in dense blocks (`zhenlong.forest.layout`).

Shapes: N flat tokens, P of them that ask (all but in the last layer), S segments that ask, K keys of all paths
together, H query heads, Hkv key heads, D head size.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from torch.nn.attention.varlen import varlen_attn

from zhenlong.forest.layout import SILENT, Gathered, Span, paths_of

LARGEST_HEAD: Final = 256  # of FlashAttention
# Releases differ in whether fewer key heads than query heads have to be asked for.
GROUPED: Final[dict[str, Any]] = (
    {"enable_gqa": True} if "enable_gqa" in inspect.signature(varlen_attn).parameters else {}
)


@dataclass(frozen=True)
class Packing:
    """Where each segment's queries and keys lie.

    `keys` [K] are the flat tokens of all paths, one path after the other; None where every segment is a root that asks,
    whose keys are its own tokens. `query_bounds` and `key_bounds` [S + 1] are where sequences begin and end.
    """

    keys: torch.Tensor | None
    query_bounds: torch.Tensor
    key_bounds: torch.Tensor
    most_queries: int
    most_keys: int

    @classmethod
    def of(
        cls, keys: torch.Tensor | None, lengths: Sequence[int], totals: Sequence[int], device: torch.device | str
    ) -> Packing:
        """From the numbers of queries and of keys of each sequence."""
        query_bounds, key_bounds = (
            torch.from_numpy(np.concatenate(([0], np.cumsum(each))).astype(np.int32)).to(device)
            for each in (lengths, totals)
        )
        return cls(keys, query_bounds, key_bounds, max(lengths), max(totals))


def pack(spans: Sequence[Span], device: torch.device | str) -> Packing:
    """The sequences of the segments that ask; segments lie one after the other, parents before children."""
    paths = [path for path, span in zip(paths_of(spans), spans, strict=True) if span[3] != SILENT]
    lengths = [spans[path[-1]][1] for path in paths]
    totals = [sum(spans[s][1] for s in path) for path in paths]
    keys = None
    if any(parent >= 0 or row != start for start, _, parent, row in spans):
        flat = [np.arange(spans[s][0], spans[s][0] + spans[s][1]) for path in paths for s in path]
        keys = torch.from_numpy(np.concatenate(flat)).to(device)
    return Packing.of(keys, lengths, totals, device)


def can_pack(query: torch.Tensor, value: torch.Tensor, dropout: float, softcap: float | None) -> bool:
    """Whether the kernel computes this: half precision on CUDA, heads it knows, no dropout and no cap of scores."""
    size = query.shape[-1]
    return (
        query.is_cuda
        and precision_of(query) in (torch.bfloat16, torch.float16)
        and torch.cuda.get_device_capability(query.device) >= (8, 0)
        and size == value.shape[-1]
        and size % 8 == 0
        and size <= LARGEST_HEAD
        and not dropout
        and softcap is None
    )


def precision_of(states: torch.Tensor) -> torch.dtype:
    """The precision in which attention runs: that of mixed precision where it is on."""
    kind = states.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else states.dtype


def packed_attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, packing: Packing, scaling: float | None, window: int | None
) -> torch.Tensor:
    """q [P, H, D], k and v [N, Hkv, D] -> [P, H, D]; `window` counts the query's own position."""
    dtype = precision_of(q)
    q, k, v = (states.to(dtype) for states in (q, k, v))
    if packing.keys is not None:
        k, v = (Gathered.apply(states, packing.keys, None) for states in (k, v))
    before = -1 if window is None else window - 1
    bounds = packing.query_bounds, packing.key_bounds, packing.most_queries, packing.most_keys
    out = varlen_attn(q, k, v, *bounds, scale=scaling, window_size=(before, 0), **GROUPED)
    assert isinstance(out, torch.Tensor)  # nothing else was asked for
    return out
