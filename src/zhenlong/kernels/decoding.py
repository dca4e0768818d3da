"""Attention of one decoding step, or all decoder layers of it, in fp32 on the CPU by compiled kernels (`decoding.c`).

Shapes: R running sequences, G prompts, H query heads, Hkv key heads, D head size, P and W cache positions.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from zhenlong.kernels import fused_ops
from zhenlong.kernels.attention import AttentionSettings, last_dim_contiguous, strided_tensors
from zhenlong.kernels.build import INT64, POINTER, load_library, require_library


class DecodeParams(ctypes.Structure):
    """`DecodeParams` of decoding.c."""

    _fields_ = (
        *((name, INT64) for name in ("sequences", "prompts", "heads", "kv_heads", "head_dim")),
        *((name, POINTER) for name in ("order", "prompt_starts", "prompt_lengths", "start_columns")),
        ("column", INT64),
        ("window", INT64),
        ("scale", ctypes.c_float),
    )


class KVCachePointers(ctypes.Structure):
    """`KVCachePointers` of decoding.c."""

    _fields_ = (("keys", POINTER), ("values", POINTER), ("slot_stride", INT64), ("head_stride", INT64))

    @classmethod
    def of_layer(cls, keys: torch.Tensor, values: torch.Tensor) -> KVCachePointers:
        """Of one layer's [slots, Hkv, positions, D]."""
        return cls(
            keys=keys.data_ptr(), values=values.data_ptr(), slot_stride=keys.stride(0), head_stride=keys.stride(1)
        )


class LayerPointers(ctypes.Structure):
    """`LayerPointers` of decoding.c."""

    _fields_ = (
        *((name, POINTER) for name in ("qkv_proj", "qkv_bias", "o_proj", "gate_up_proj", "down_proj")),
        ("window", INT64),
    )


class DecoderParams(ctypes.Structure):
    """`DecoderParams` of decoding.c."""

    _fields_ = (
        *(
            (name, INT64)
            for name in ("layers", "hidden_size", "intermediate_size", "response_layer_stride", "prompt_layer_stride")
        ),
        ("epsilon", ctypes.c_float),
    )


KeysValues = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class DecodeStep:
    """Which running sequence continues which prompt, and the cache column that the step writes.

    Sequences ordered by prompt [R], each prompt's start in that order [G + 1], and each sequence's prompt length and
    first column [R].
    """

    prompt_order: np.ndarray
    prompt_starts: np.ndarray
    prompt_lengths: torch.Tensor
    start_columns: torch.Tensor
    column: int


@dataclass(frozen=True)
class LayerWeights:
    """Weights of one layer, norm weights folded in: `qkv_proj` [(H + 2 Hkv) D, hidden] with interleaved rotary pairs,
    and its bias; `o_proj` [hidden, H D]; `gate_up_proj` [2 inner, hidden]; `down_proj` [hidden, inner].
    """

    qkv_proj: torch.Tensor
    qkv_bias: torch.Tensor | None
    o_proj: torch.Tensor
    gate_up_proj: torch.Tensor
    down_proj: torch.Tensor
    window: int | None


class CompiledDecoder:
    """All layers of a Llama-like decoder, for steps with one new token per running sequence."""

    def __init__(
        self, layers: Sequence[LayerWeights], *, num_heads: int, num_kv_heads: int, head_dim: int, epsilon: float
    ) -> None:
        self.num_heads, self.num_kv_heads, self.head_dim, self.epsilon = num_heads, num_kv_heads, head_dim, epsilon
        self.hidden_size, self.intermediate_size = layers[0].down_proj.shape
        self._buffers: list[torch.Tensor] = []  # keeps alive what the kernel reads
        self._layers = (LayerPointers * len(layers))(*map(self._pack_layer, layers))

    @staticmethod
    def supports(layers: Sequence[LayerWeights], head_dim: int) -> bool:
        """Whether the kernel supports such layers: fp32 on the CPU, every width a multiple of the panel width."""
        weights = [
            each for layer in layers for each in (layer.qkv_proj, layer.o_proj, layer.gate_up_proj, layer.down_proj)
        ]
        return fused_ops.supports_no_grad(*weights) and all(
            width % require_library().panel_width() == 0 for width in (head_dim, *layers[0].down_proj.shape)
        )

    def __call__(
        self,
        states: torch.Tensor,
        freqs_cis: torch.Tensor,
        *,
        response_kv: KeysValues,
        prompt_kv: KeysValues,
        step: DecodeStep,
    ) -> torch.Tensor:
        """Replace states [R, hidden] of the new tokens, the embeddings, by the last layer's output, in place.

        `freqs_cis` [R, 1, D/2] are complex rotations that include the softmax scale; `response_kv` and `prompt_kv` are
        keys and values [layers, slots, Hkv, positions, D].
        """
        heads = (self.num_heads, self.num_kv_heads, self.head_dim)
        decode = _decode_params(step, heads, AttentionSettings(scaling=1.0))
        decoder = DecoderParams(
            layers=len(self._layers),
            hidden_size=self.hidden_size,
            intermediate_size=self.intermediate_size,
            response_layer_stride=response_kv[0].stride(0),
            prompt_layer_stride=prompt_kv[0].stride(0),
            epsilon=self.epsilon,
        )
        caches = (
            ctypes.byref(KVCachePointers.of_layer(keys[0], values[0])) for keys, values in (response_kv, prompt_kv)
        )
        pointers = (states.data_ptr(), freqs_cis.data_ptr())
        if require_library().decoding_layers(
            ctypes.byref(decode), ctypes.byref(decoder), self._layers, *pointers, *caches
        ):
            raise MemoryError("sampling: out of memory for the states of one step")
        return states

    def _pack_layer(self, layer: LayerWeights) -> LayerPointers:
        parts = [self._to_panels(each) for each in (layer.qkv_proj, layer.o_proj, layer.gate_up_proj, layer.down_proj)]
        bias = None if layer.qkv_bias is None else layer.qkv_bias.contiguous()
        self._buffers += [*parts, *([] if bias is None else [bias])]
        qkv_proj, o_proj, gate_up_proj, down_proj = (part.data_ptr() for part in parts)
        return LayerPointers(
            qkv_proj=qkv_proj,
            qkv_bias=None if bias is None else bias.data_ptr(),
            o_proj=o_proj,
            gate_up_proj=gate_up_proj,
            down_proj=down_proj,
            window=layer.window or 0,
        )

    @staticmethod
    def _to_panels(weight: torch.Tensor) -> torch.Tensor:
        weight = weight.detach().contiguous()
        panels = torch.empty_like(weight)
        require_library().pack_weight(*weight.shape, weight.data_ptr(), panels.data_ptr())
        return panels


def supports_decoding(query: torch.Tensor, value: torch.Tensor, settings: AttentionSettings) -> bool:
    """Whether the kernel supports this: fp32 on the CPU, no softcap, head size a multiple of the panel width."""
    head_dim = query.shape[-1]
    return (
        query.device.type == "cpu"
        and query.dtype == torch.float32
        and value.shape[-1] == head_dim
        and settings.softcap is None
        and load_library() is not None
        and head_dim % require_library().panel_width() == 0
    )


def decoding_attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    response_kv: KeysValues,
    prompt_kv: KeysValues,
    step: DecodeStep,
    settings: AttentionSettings,
) -> torch.Tensor:
    """Attention of one token per running sequence: q [R, H, D], new k and v [R, Hkv, D] -> [R, H, D].

    Writes the new keys and values to the step's column of `response_kv` [slots, Hkv, W, D]; `prompt_kv`
    [slots, Hkv, P, D] hold the prompts'.
    """
    q, k, v = (last_dim_contiguous(states) for states in (q, k, v))
    out = q.new_empty(q.shape)
    params = _decode_params(step, (q.shape[1], k.shape[1], q.shape[2]), settings)
    caches = (ctypes.byref(KVCachePointers.of_layer(*response_kv)), ctypes.byref(KVCachePointers.of_layer(*prompt_kv)))
    if require_library().decoding_attention(ctypes.byref(params), strided_tensors(q, k, v, out), *caches):
        raise MemoryError("attention: out of memory for the scores of one prompt's sequences")
    return out


def _decode_params(step: DecodeStep, heads: tuple[int, int, int], settings: AttentionSettings) -> DecodeParams:
    num_heads, num_kv_heads, head_dim = heads
    return DecodeParams(
        sequences=len(step.prompt_order),
        prompts=len(step.prompt_starts) - 1,
        heads=num_heads,
        kv_heads=num_kv_heads,
        head_dim=head_dim,
        order=step.prompt_order.ctypes.data,
        prompt_starts=step.prompt_starts.ctypes.data,
        prompt_lengths=step.prompt_lengths.data_ptr(),
        start_columns=step.start_columns.data_ptr(),
        column=step.column,
        window=settings.sliding_window or 0,
        scale=settings.scale(head_dim),
    )
