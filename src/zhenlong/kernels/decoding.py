"""Attention of a decoding step, or all of its layers, in fp32 on the CPU by compiled kernels (`decoding.c`).

Legend: R rows, G prompts, H query heads, Hkv key heads, D head size, P and W positions.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from zhenlong.kernels import elementwise
from zhenlong.kernels.attention import arrays, side_by_side
from zhenlong.kernels.build import NUMBER, POINTER, library, loaded


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


class LayerWeights(ctypes.Structure):
    """`Layer` of decoding.c."""

    _fields_ = (*((name, POINTER) for name in ("projection", "bias", "output", "gates", "down")), ("window", NUMBER))


class Stack(ctypes.Structure):
    """`Stack` of decoding.c."""

    _fields_ = (
        *((name, NUMBER) for name in ("layers", "hidden", "inner", "own_layer", "shared_layer")),
        ("epsilon", ctypes.c_float),
    )


Places = tuple[np.ndarray, np.ndarray, torch.Tensor, torch.Tensor]
Pair = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class Weights:
    """One layer's, whose norms have weights of one: `projection` [(H + 2 Hkv) D, hidden], its queries and keys in pairs
    that rotate together, its bias; `output` [hidden, H D]; `gates` [2 inner, hidden]; `down` [hidden, inner].
    """

    projection: torch.Tensor
    bias: torch.Tensor | None
    output: torch.Tensor
    gates: torch.Tensor
    down: torch.Tensor
    window: int | None


class Layers:
    """All layers of a Llama-like decoder for steps that compute one new token of each running row."""

    def __init__(self, layers: Sequence[Weights], heads: int, key_heads: int, size: int, epsilon: float) -> None:
        self.heads, self.key_heads, self.size, self.epsilon = heads, key_heads, size, epsilon
        self.hidden, self.inner = layers[0].down.shape
        self._kept: list[torch.Tensor] = []  # what the kernel reads lives as long as this
        self._layers = (LayerWeights * len(layers))(*map(self._packed, layers))

    @staticmethod
    def serves(layers: Sequence[Weights], size: int) -> bool:
        """Whether the kernel computes such layers: fp32 on the CPU, and every width whole panels."""
        weights = [each for layer in layers for each in (layer.projection, layer.output, layer.gates, layer.down)]
        return elementwise.serves_rows(*weights) and all(
            width % loaded().panel_width() == 0 for width in (size, *layers[0].down.shape)
        )

    def __call__(
        self, states: torch.Tensor, turns: torch.Tensor, own: Pair, shared: Pair, places: Places, column: int
    ) -> torch.Tensor:
        """States [R, hidden] of the new tokens behind the last layer, in place.

        `turns` [R, 1, D/2] are complex and hold the scaling of scores; `own` and `shared` are keys and values
        [layers, slots, Hkv, positions, D]; the rest as of `decoding_attention`.
        """
        step = _step(places, (self.heads, self.key_heads, self.size), column, 1.0, None)
        stack = Stack(len(self._layers), self.hidden, self.inner, own[0].stride(0), shared[0].stride(0), self.epsilon)
        caches = (ctypes.byref(Cache.of(keys[0], values[0])) for keys, values in (own, shared))
        where = (states.data_ptr(), turns.data_ptr())
        if loaded().decoding_layers(ctypes.byref(step), ctypes.byref(stack), self._layers, *where, *caches):
            raise MemoryError("sampling: no memory for the states of one step")
        return states

    def _packed(self, layer: Weights) -> LayerWeights:
        parts = [self._panels(each) for each in (layer.projection, layer.output, layer.gates, layer.down)]
        bias = None if layer.bias is None else layer.bias.contiguous()
        self._kept += [*parts, *([] if bias is None else [bias])]
        projection, output, gates, down = (part.data_ptr() for part in parts)
        return LayerWeights(
            projection, None if bias is None else bias.data_ptr(), output, gates, down, layer.window or 0
        )

    @staticmethod
    def _panels(weight: torch.Tensor) -> torch.Tensor:
        weight = weight.detach().contiguous()
        panels = torch.empty_like(weight)
        loaded().pack_weight(*weight.shape, weight.data_ptr(), panels.data_ptr())
        return panels


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
    own: Pair,
    shared: Pair,
    places: Places,
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
    step = _step(places, (q.shape[1], k.shape[1], q.shape[2]), column, scaling, window)
    caches = (ctypes.byref(Cache.of(*own)), ctypes.byref(Cache.of(*shared)))
    if loaded().decoding_attention(ctypes.byref(step), arrays(q, k, v, out), *caches):
        raise MemoryError("attention: no memory for the scores of one prompt's rows")
    return out


def _step(places: Places, heads: tuple[int, int, int], column: int, scaling: float, window: int | None) -> Decoding:
    order, first, lengths, entered = places
    return Decoding(
        *(len(order), len(first) - 1, *heads),
        *(order.ctypes.data, first.ctypes.data, lengths.data_ptr(), entered.data_ptr()),
        *(column, window or 0, scaling),
    )
