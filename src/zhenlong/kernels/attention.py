"""Attention over a forest in fp32 on the CPU by compiled kernels (`attention.c`), forward and backward.

PyTorch's kernel for the CPU computes the whole square of a causal block of up to 512 keys; this one leaves out what is
above the diagonal, reads a shared prompt's keys where they are, and pads nothing (docs/performance.md).

Legend: N tokens, P of them that ask, S segments, H query heads, G key heads, D head size.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.autograd.function import once_differentiable

from zhenlong.kernels.build import NUMBER, POINTER, library, loaded
from zhenlong.kernels.products import full_precision


class Shape(ctypes.Structure):
    """`Shape` of attention.c."""

    _fields_ = (
        *((name, POINTER) for name in ("start", "length", "parent", "row", "first")),
        *((name, NUMBER) for name in ("trees", "heads", "key_heads", "size", "window")),
        ("scale", ctypes.c_float),
    )


class Array(ctypes.Structure):
    """`Array` of panels.h: where a tensor [N, heads, D] lies."""

    _fields_ = (("at", POINTER), ("token", NUMBER), ("head", NUMBER))


def arrays(*states: torch.Tensor) -> ctypes.Array[Array]:
    """Tensors whose last dimensions lie side by side."""
    return (Array * len(states))(*(Array(each.data_ptr(), each.stride(0), each.stride(1)) for each in states))


@dataclass(frozen=True)
class Trees:
    """Segments as the kernel reads them: `table` [4, S] of starts, lengths, parents, rows, and `first` [trees + 1]."""

    table: np.ndarray
    first: np.ndarray

    @classmethod
    def of(cls, spans: Sequence[tuple[int, int, int, int]]) -> Trees:
        """From segments (start, length, parent, row), trees one after the other and parents before children.

        The parent of a root is -1. The row is that of the segment's first token among the queries, -1 for one whose
        tokens are only seen.
        """
        table = np.ascontiguousarray(np.asarray(spans, dtype=np.int64).reshape(-1, 4).T)
        roots = np.flatnonzero(table[2] < 0)
        return cls(table, np.append(roots, table.shape[1]).astype(np.int64))


def serves(query: torch.Tensor, value: torch.Tensor, dropout: float, softcap: float | None) -> bool:
    """Whether the kernels compute this: fp32 on the CPU without dropout and soft cap, values as wide as keys."""
    return (
        query.device.type == "cpu"
        and query.dtype == torch.float32
        and value.dtype == torch.float32
        and query.shape[-1] == value.shape[-1]
        and not dropout
        and softcap is None
        and full_precision()
        and library() is not None
    )


def forest_attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, trees: Trees, scaling: float | None, window: int | None
) -> torch.Tensor:
    """q [P, H, D], k and v [N, G, D] -> [P, H, D]; `window` counts the query's own position."""
    return _Attention.apply(q, k, v, trees, q.shape[-1] ** -0.5 if scaling is None else scaling, window or 0)


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, trees: Trees, scaling: float, window: int
    ) -> torch.Tensor:
        q, k, v = (side_by_side(states) for states in (q, k, v))
        out, norms = q.new_empty(q.shape), q.new_empty(q.shape[:2])
        shape = _shape(q, k, trees, scaling, window)
        _call("forest_attention", shape, arrays(q, k, v, out), norms)
        ctx.save_for_backward(q, k, v, out, norms)
        ctx.trees, ctx.scaling, ctx.window = trees, scaling, window
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        q, k, v, out, norms = ctx.saved_tensors
        gradient = side_by_side(gradient)
        every = len(k), *q.shape[1:]
        seen = int(ctx.trees.table[1].sum()) == len(k)  # the others get no gradient from the kernel
        d_q, (d_k, d_v) = q.new_empty(q.shape), ((q.new_empty if seen else q.new_zeros)(every) for _ in range(2))
        shape = _shape(q, k, ctx.trees, ctx.scaling, ctx.window)
        _call("forest_attention_backward", shape, arrays(q, k, v, out, gradient, d_q, d_k, d_v), norms)
        if k.shape[1] != q.shape[1]:
            d_k, d_v = (each.unflatten(1, (k.shape[1], -1)).sum(2) for each in (d_k, d_v))
        return d_q, d_k, d_v, None, None, None


def _shape(q: torch.Tensor, k: torch.Tensor, trees: Trees, scaling: float, window: int) -> Shape:
    rows = (row.ctypes.data for row in trees.table)
    sizes = (len(trees.first) - 1, q.shape[1], k.shape[1], q.shape[2], window)
    return Shape(*rows, trees.first.ctypes.data, *sizes, scaling)


def _call(name: str, shape: Shape, given: ctypes.Array[Array], norms: torch.Tensor) -> None:
    if getattr(loaded(), name)(ctypes.byref(shape), given, norms.data_ptr()):
        raise MemoryError("attention: no memory for the keys and scores of one tree")


def side_by_side(states: torch.Tensor) -> torch.Tensor:
    return states if states.stride(-1) == 1 else states.contiguous()
