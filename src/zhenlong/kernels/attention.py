"""Attention over a forest in fp32 on the CPU by compiled kernels (`attention.c`), forward and backward.

PyTorch's CPU kernel computes whole blocks of up to 512 keys under a causal mask; this one skips what is above the
diagonal, reads a shared prompt's keys in place and pads nothing (docs/performance.md).

Shapes: N tokens, P queries (N, or fewer in a sparse last layer), S segments, H query heads, G key heads, D head size.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.autograd.function import once_differentiable

from zhenlong.kernels.build import INT64, POINTER, load_library, require_library
from zhenlong.kernels.onednn_linear import non_matmul_in_fp32


class AttentionParams(ctypes.Structure):
    """`AttentionParams` of attention.c."""

    _fields_ = (
        *((name, POINTER) for name in ("start", "length", "parent", "first_query", "first_segment")),
        *((name, INT64) for name in ("trees", "heads", "kv_heads", "head_dim", "window")),
        ("scale", ctypes.c_float),
    )


class StridedTensor(ctypes.Structure):
    """`StridedTensor` of panels.h: pointer and strides of a tensor [N, heads, D]."""

    _fields_ = (("data", POINTER), ("token_stride", INT64), ("head_stride", INT64))


def strided_tensors(*tensors: torch.Tensor) -> ctypes.Array[StridedTensor]:
    """Of tensors with a contiguous last dimension."""
    return (StridedTensor * len(tensors))(
        *(StridedTensor(each.data_ptr(), each.stride(0), each.stride(1)) for each in tensors)
    )


@dataclass(frozen=True)
class AttentionSettings:
    """What a layer asks of attention besides its queries, keys and values.

    `scaling` multiplies the scores (None: 1 / sqrt(head size)); `sliding_window` is the number of last positions that a
    query attends to, its own included; `softcap` limits the scores (Gemma 2, §2).
    """

    scaling: float | None = None
    sliding_window: int | None = None
    softcap: float | None = None
    dropout: float = 0.0

    def scale(self, head_dim: int) -> float:
        """The factor of the scores for heads of this size."""
        return head_dim**-0.5 if self.scaling is None else self.scaling


@dataclass(frozen=True)
class SegmentTable:
    """For the kernel: `table` [4, S] of starts, lengths, parents, first queries; `first_segments` [trees + 1]."""

    table: np.ndarray
    first_segments: np.ndarray

    @classmethod
    def from_segments(cls, segments: Sequence[tuple[int, int, int, int]]) -> SegmentTable:
        """From segments (start, length, parent, first query), tree by tree, parents before children.

        A root's parent is -1. The first query is the index of the segment's first token among the queries; -1 for a
        segment that contributes only keys and values.
        """
        table = np.ascontiguousarray(np.asarray(segments, dtype=np.int64).reshape(-1, 4).T)
        roots = np.flatnonzero(table[2] < 0)
        return cls(table, np.append(roots, table.shape[1]).astype(np.int64))


def supports_attention(query: torch.Tensor, value: torch.Tensor, settings: AttentionSettings) -> bool:
    """Whether the kernels support this: fp32 on the CPU, no dropout, no softcap, values as wide as keys."""
    return (
        query.device.type == "cpu"
        and query.dtype == torch.float32
        and value.dtype == torch.float32
        and query.shape[-1] == value.shape[-1]
        and not settings.dropout
        and settings.softcap is None
        and non_matmul_in_fp32()
        and load_library() is not None
    )


def compiled_forest_attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *, segments: SegmentTable, settings: AttentionSettings
) -> torch.Tensor:
    """q [P, H, D], k and v [N, G, D] -> [P, H, D]."""
    return _ForestAttention.apply(q, k, v, segments, settings)


class _ForestAttention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        segments: SegmentTable,
        settings: AttentionSettings,
    ) -> torch.Tensor:
        q, k, v = (last_dim_contiguous(states) for states in (q, k, v))
        out, lse = q.new_empty(q.shape), q.new_empty(q.shape[:2])
        params = _params(q, k, segments, settings=settings)
        _run_kernel("forest_attention", params, strided_tensors(q, k, v, out), lse=lse)
        ctx.save_for_backward(q, k, v, out, lse)
        ctx.segments, ctx.settings = segments, settings
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        q, k, v, out, lse = ctx.saved_tensors
        grad_output = last_dim_contiguous(grad_output)
        per_query_head = len(k), *q.shape[1:]
        covers_all_keys = int(ctx.segments.table[1].sum()) == len(k)  # the kernel writes no gradient of other tokens
        d_q, (d_k, d_v) = (
            q.new_empty(q.shape),
            ((q.new_empty if covers_all_keys else q.new_zeros)(per_query_head) for _ in range(2)),
        )
        params = _params(q, k, ctx.segments, settings=ctx.settings)
        tensors = strided_tensors(q, k, v, out, grad_output, d_q, d_k, d_v)
        _run_kernel("forest_attention_backward", params, tensors, lse=lse)
        if k.shape[1] != q.shape[1]:
            d_k, d_v = (each.unflatten(1, (k.shape[1], -1)).sum(2) for each in (d_k, d_v))
        return d_q, d_k, d_v, None, None


def _params(
    q: torch.Tensor, k: torch.Tensor, segments: SegmentTable, *, settings: AttentionSettings
) -> AttentionParams:
    start, length, parent, first_query = (row.ctypes.data for row in segments.table)
    return AttentionParams(
        start=start,
        length=length,
        parent=parent,
        first_query=first_query,
        first_segment=segments.first_segments.ctypes.data,
        trees=len(segments.first_segments) - 1,
        heads=q.shape[1],
        kv_heads=k.shape[1],
        head_dim=q.shape[2],
        window=settings.sliding_window or 0,
        scale=settings.scale(q.shape[2]),
    )


def _run_kernel(name: str, params: AttentionParams, tensors: ctypes.Array[StridedTensor], *, lse: torch.Tensor) -> None:
    if getattr(require_library(), name)(ctypes.byref(params), tensors, lse.data_ptr()):
        raise MemoryError("attention: out of memory for the keys and scores of one tree")


def last_dim_contiguous(states: torch.Tensor) -> torch.Tensor:
    return states if states.stride(-1) == 1 else states.contiguous()
