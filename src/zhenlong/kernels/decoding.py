"""Attention of a decoding step in fp32 on the CPU by a compiled kernel (`decoding.c`).

Legend: R rows, G prompts, H query heads, Hkv key heads, D head size, P and W positions.
"""

from __future__ import annotations

import ctypes
from typing import Final

import numpy as np
import torch

from zhenlong.kernels.attention import arrays, side_by_side
from zhenlong.kernels.build import library, loaded

POINTER: Final = ctypes.c_void_p
NUMBER: Final = ctypes.c_int64


class Decoding(ctypes.Structure):
    """`Decoding` of decoding.c."""

    _fields_ = (
        *((name, NUMBER) for name in ("rows", "prompts", "heads", "key_heads", "size")),
        *((name, POINTER) for name in ("order", "first", "lengths", "entered")),
        ("column", NUMBER),
        ("window", NUMBER),
        ("scale", ctypes.c_float),
    )


class Cache(ctypes.Structure):
    """`Cache` of decoding.c."""

    _fields_ = (("keys", POINTER), ("values", POINTER), ("slot", NUMBER), ("head", NUMBER))

    @classmethod
    def of(cls, keys: torch.Tensor, values: torch.Tensor) -> Cache:
        """Of one layer's [slots, Hkv, positions, D]."""
        return cls(keys.data_ptr(), values.data_ptr(), keys.stride(0), keys.stride(1))


def serves(query: torch.Tensor, value: torch.Tensor, softcap: float | None) -> bool:
    """Whether the kernel computes this: fp32 on the CPU, whole panels of dimensions, values as wide as keys, no cap."""
    size = query.shape[-1]
    return (
        query.device.type == "cpu"
        and query.dtype == torch.float32
        and value.shape[-1] == size
        and softcap is None
        and library() is not None
        and size % loaded().panel_width() == 0
    )


def decoding_attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    own: tuple[torch.Tensor, torch.Tensor],
    shared: tuple[torch.Tensor, torch.Tensor],
    places: tuple[np.ndarray, np.ndarray, torch.Tensor, torch.Tensor],
    column: int,
    scaling: float,
    window: int | None,
) -> torch.Tensor:
    """One token of every running row: q [R, H, D], new k and v [R, Hkv, D] -> [R, H, D].

    `own` keys and values [slots, Hkv, W, D] get the new ones in `column`; `shared` [slots, Hkv, P, D] are those of
    prompts. `places` are the rows by prompt [R], where each prompt's begin among them [G + 1], and of each row the
    length of its prompt and the first of its own columns [R]. `window` counts the query's own position.
    """
    q, k, v = (side_by_side(states) for states in (q, k, v))
    out = q.new_empty(q.shape)
    order, first, lengths, entered = places
    step = Decoding(
        *(len(order), len(first) - 1, q.shape[1], k.shape[1], q.shape[2]),
        *(order.ctypes.data, first.ctypes.data, lengths.data_ptr(), entered.data_ptr()),
        *(column, window or 0, scaling),
    )
    caches = (ctypes.byref(Cache.of(*own)), ctypes.byref(Cache.of(*shared)))
    if loaded().decoding_attention(ctypes.byref(step), arrays(q, k, v, out), *caches):
        raise MemoryError("attention: no memory for the scores of one prompt's rows")
    return out
