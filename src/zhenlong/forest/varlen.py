"""Attention over a forest with a kernel for variable-length sequences: no padding, no mask.

Each segment is a sequence: its queries are its own tokens, its keys the tokens of its path (its ancestors' and then its
own), causal from the end. FlashAttention (Dao 2023, arXiv:2307.08691) computes this on CUDA devices in half precision;
elsewhere the forest uses dense blocks (`zhenlong.forest.block_layout`).

Shapes: N packed tokens, P query tokens (all N except in the last layer), S segments with queries, K keys of all paths
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

from zhenlong.forest.block_layout import KEY_ONLY, GatherRows, Span, ancestor_paths
from zhenlong.kernels.attention import AttentionSettings

MAX_HEAD_DIM: Final = 256  # FlashAttention's limit
# Some releases of torch need a keyword for grouped-query attention.
GQA_KWARGS: Final[dict[str, Any]] = (
    {"enable_gqa": True} if "enable_gqa" in inspect.signature(varlen_attn).parameters else {}
)


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


def supports_varlen(query: torch.Tensor, value: torch.Tensor, settings: AttentionSettings) -> bool:
    """Whether the kernel supports this: half precision on CUDA, its head sizes, no dropout, no soft cap."""
    head_dim = query.shape[-1]
    return (
        query.is_cuda
        and attention_dtype(query) in (torch.bfloat16, torch.float16)
        and torch.cuda.get_device_capability(query.device) >= (8, 0)
        and head_dim == value.shape[-1]
        and head_dim % 8 == 0
        and head_dim <= MAX_HEAD_DIM
        and not settings.dropout
        and settings.softcap is None
    )


def attention_dtype(states: torch.Tensor) -> torch.dtype:
    """The precision in which attention runs: that of autocast if it is enabled."""
    kind = states.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else states.dtype


def varlen_attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *, layout: VarlenLayout, settings: AttentionSettings
) -> torch.Tensor:
    """q [P, H, D], k and v [N, Hkv, D] -> [P, H, D]."""
    dtype = attention_dtype(q)
    q, k, v = (states.to(dtype) for states in (q, k, v))
    if layout.key_indices is not None:
        k, v = (GatherRows.apply(states, layout.key_indices, None) for states in (k, v))
    left_window = -1 if settings.sliding_window is None else settings.sliding_window - 1
    sequences = layout.cu_seqlens_q, layout.cu_seqlens_k, layout.max_seqlen_q, layout.max_seqlen_k
    out = varlen_attn(q, k, v, *sequences, scale=settings.scaling, window_size=(left_window, 0), **GQA_KWARGS)
    assert isinstance(out, torch.Tensor)  # no log-sum-exp was requested
    return out
