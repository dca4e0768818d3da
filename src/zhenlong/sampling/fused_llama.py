"""Fused layers for Llama-like decoders: fewer, larger operations for sampling steps.

A sampling step computes one token per sequence, so for small models the number of operations limits the speed, and less
than half of the sixty per layer in transformers are needed: the query, key and value projections are one matmul, and so
are the gate and up projections; rotation is one complex product; the output projections add the residual. Weights are
collected at each call of the sampler, so they are always current.
Legend: N tokens, H query heads, Hkv key heads, D head size.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

import torch
from torch import nn
from torch.nn.functional import rms_norm
from transformers import PreTrainedModel
from transformers.activations import SiLUActivation

from zhenlong.forest.attention import attention_dtype
from zhenlong.kernels import fused_ops
from zhenlong.kernels.attention import AttentionSettings
from zhenlong.kernels.decoding import CompiledDecoder, LayerWeights
from zhenlong.kernels.onednn_linear import add_linear, linear_no_grad, prepack_weight
from zhenlong.sampling.attention import flat_attention
from zhenlong.sampling.step_metadata import StepMetadata

DYNAMIC_ROPE_TYPES: Final = frozenset(
    {"dynamic", "longrope"}
)  # rotary angles that depend on the longest position of a forward pass
PREPACK_ROWS: Final = 64  # number of rows that weights are prepacked for
MAX_COMPILED_ELEMENTS: Final = 2**25  # largest MLP weights, in elements, for the compiled decoder: 128 MB
SILU_TYPES: Final = (nn.SiLU, SiLUActivation)
FUSABLE_MODEL_TYPES: Final = frozenset({"llama", "mistral", "qwen2", "qwen3"})  # values of config.model_type


@dataclass(frozen=True)
class RMSNorm:
    """RMSNorm parameters. `weight` is None if it has been folded into the next projection."""

    weight: torch.Tensor | None
    eps: float  # added to the mean square
    eps_tensor: torch.Tensor  # eps as a tensor [1, 1]


@dataclass(frozen=True)
class PrepackedLinear:
    """The weight [outputs, inputs] and bias of a linear layer, in the compute precision."""

    weight: torch.Tensor
    bias: torch.Tensor | None

    @classmethod
    def prepack(cls, weight: torch.Tensor, bias: torch.Tensor | None) -> PrepackedLinear:
        """In the autocast dtype if it is enabled: cast once, not in every step."""
        dtype = attention_dtype(weight)
        return cls(prepack_weight(weight.to(dtype), PREPACK_ROWS), None if bias is None else bias.to(dtype))

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        return linear_no_grad(rows.to(self.weight.dtype), self.weight, self.bias)


@dataclass(frozen=True)
class FusedLayer:
    """The collected weights of one layer."""

    input_norm: RMSNorm
    post_attention_norm: RMSNorm
    qkv_proj: PrepackedLinear  # outputs are queries, keys, values: (H + 2 Hkv) D; rotated pairs are adjacent
    q_norm: nn.Module | None
    k_norm: nn.Module | None
    o_proj: PrepackedLinear
    gate_up_proj: PrepackedLinear  # outputs are gate, up: 2 ffn_dim
    down_proj: PrepackedLinear
    activation: Any
    is_silu: bool  # whether the activation is SiLU
    attention: AttentionSettings


def can_fuse(model: PreTrainedModel) -> bool:
    """Whether `FusedLlama` supports the model: plain linear layers, no adapters, no hooks."""
    decoder = getattr(model, "model", None)  # for a wrapped model this is the model itself
    if (
        model.config.model_type not in FUSABLE_MODEL_TYPES
        or not hasattr(decoder, "layers")
        or not hasattr(model, "lm_head")
    ):
        return False
    has_hooks = any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    if has_hooks or hasattr(model, "hf_device_map"):
        return False
    layers = list(model.model.layers)
    linear_modules = (
        module
        for layer in layers
        for module in (*layer.self_attn.children(), *layer.mlp.children())
        if module is not layer.mlp.act_fn and not _is_rms_norm(module)
    )
    all_plain = all(type(module) is nn.Linear and type(module.weight) is nn.Parameter for module in linear_modules)
    return (
        all_plain and all(_is_rms_norm(layer.input_layernorm) for layer in layers) and type(model.lm_head) is nn.Linear
    )


class FusedLlama:
    """A forward pass with the model's current weights, instead of the model's own."""

    def __init__(self, model: PreTrainedModel) -> None:
        config = model.config
        self.head_dim = int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)
        self.num_heads = int(config.num_attention_heads)
        self.num_kv_heads = int(config.num_key_value_heads)
        self.embedding, self.lm_head = (
            model.model.embed_tokens,
            PrepackedLinear.prepack(model.lm_head.weight, model.lm_head.bias),
        )
        self.final_norm = _rms_norm_of(model.model.norm)
        self.rotary = model.model.rotary_emb
        self.scaling = float(model.model.layers[0].self_attn.scaling)  # the same in all layers of these architectures
        self.freqs_cis = torch.empty(0, 1, 0)  # for positions from 0 on, extended as needed
        self.sliding_window = (
            config.sliding_window if config.model_type == "mistral" else None
        )  # for layers without their own setting
        self.compilable_weights: (
            list[LayerWeights] | None
        ) = []  # weights of all layers; None once a layer is unsupported by the compiled decoder
        self.layers = [self._gather_layer(layer) for layer in model.model.layers]
        self.compiled_decoder = self._compile_decoder()

    def __call__(
        self,
        ids: torch.Tensor,
        positions: torch.Tensor,
        metadata: StepMetadata,
        *,
        logits_to_keep: torch.Tensor | None,
    ) -> torch.Tensor:
        """Logits [N, V] of a flat batch of ids and positions [N], or only of the tokens `logits_to_keep`.

        Casts that autocast would make are explicit here, so that they do not depend on torch's operator lists.
        """
        with torch.autocast(ids.device.type, enabled=False):
            hidden = self.embedding(ids)  # [N, hidden]
            freqs_cis = self._freqs_cis_at(hidden, positions, metadata.num_positions)
            if self.compiled_decoder is not None and not metadata.prefills and not metadata.graph_capture:
                response_kv, prompt_kv = (
                    (store.keys, store.values) for store in (metadata.response_cache, metadata.prompt_cache)
                )
                hidden = self.compiled_decoder(
                    hidden, freqs_cis, response_kv=response_kv, prompt_kv=prompt_kv, step=metadata.decode_step
                )
                return self.lm_head(_apply_rms_norm(self.final_norm, hidden))
            for number, layer in enumerate(self.layers):
                hidden = self._run_layer(hidden, layer, number, freqs_cis=freqs_cis, metadata=metadata)
            hidden = hidden if logits_to_keep is None else hidden[logits_to_keep]
            return self.lm_head(_apply_rms_norm(self.final_norm, hidden))

    @property
    def has_static_rope(self) -> bool:
        """Whether a step runs the same operations at any position."""
        return getattr(self.rotary, "rope_type", "") not in DYNAMIC_ROPE_TYPES

    def _freqs_cis_at(self, hidden: torch.Tensor, positions: torch.Tensor, num_positions: int) -> torch.Tensor:
        """Rotations [N, 1, D/2] of queries and keys at positions [N], as complex numbers.

        Their magnitude is the square root of the attention scaling, so the products of queries and keys are already
        scaled.
        """
        if not self.has_static_rope:
            return self._compute_freqs_cis(hidden, positions)
        if len(self.freqs_cis) < num_positions:
            self.freqs_cis = self._compute_freqs_cis(hidden, torch.arange(2 * num_positions, device=positions.device))
        return self.freqs_cis.index_select(0, positions)

    def _compute_freqs_cis(self, hidden: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        cos, sin = self.rotary(hidden, positions[None])  # [1, N, D], both halves are equal
        half = self.head_dim // 2
        freqs_cis = torch.complex(cos[0, :, :half].float(), sin[0, :, :half].float()).unsqueeze(1)
        return freqs_cis * self.scaling**0.5

    def _run_layer(
        self,
        hidden: torch.Tensor,
        layer: FusedLayer,
        layer_index: int,
        *,
        freqs_cis: torch.Tensor,
        metadata: StepMetadata,
    ) -> torch.Tensor:
        qkv = layer.qkv_proj(_apply_rms_norm(layer.input_norm, hidden))
        qkv = qkv.view(len(hidden), -1, self.head_dim)  # [N, H + 2 Hkv, D]
        rotated, value = qkv[:, : -self.num_kv_heads], qkv[:, -self.num_kv_heads :]
        if layer.q_norm is not None:
            queries, keys = rotated[:, : self.num_heads], rotated[:, self.num_heads :]
            rotated = torch.cat(
                (_interleaved_head_norm(layer.q_norm, queries), _interleaved_head_norm(layer.k_norm, keys)), 1
            )
        if fused_ops.supports_no_grad(rotated):
            rotated = fused_ops.apply_rope_interleaved(rotated, self.num_heads + self.num_kv_heads, freqs_cis)
        else:
            pairs = torch.view_as_complex(rotated.float().unflatten(-1, (-1, 2)))  # [N, H + Hkv, D/2]
            rotated = torch.view_as_real(pairs.mul_(freqs_cis)).flatten(2).to(value.dtype)
        query, key = rotated[:, : self.num_heads], rotated[:, self.num_heads :]
        attended = flat_attention(query, key, value, layer=layer_index, metadata=metadata, settings=layer.attention)
        return self._project_and_mlp(hidden, attended.reshape(len(hidden), -1), layer)

    @staticmethod
    def _project_and_mlp(hidden: torch.Tensor, attended: torch.Tensor, layer: FusedLayer) -> torch.Tensor:
        """The rest of a layer, from what its heads attended to, [N, H * D]."""
        hidden = _add_residual(hidden, attended, layer.o_proj)
        gate, up = layer.gate_up_proj(_apply_rms_norm(layer.post_attention_norm, hidden)).chunk(2, -1)
        if layer.is_silu and fused_ops.supports_no_grad(gate):
            activated = fused_ops.swiglu_rows(gate, up, gate.new_empty(gate.shape))
        else:
            activated = layer.activation(gate).mul_(up)
        return _add_residual(hidden, activated, layer.down_proj)

    def _gather_layer(self, layer: nn.Module) -> FusedLayer:
        attention: Any = layer.self_attn
        mlp: Any = layer.mlp
        parts = (attention.q_proj, attention.k_proj, attention.v_proj)
        qkv_proj, input_norm = _fold_norm_weight(
            layer.input_layernorm, self._interleave_halves([part.weight for part in parts])
        )
        gate_up_proj, post_attention_norm = _fold_norm_weight(
            layer.post_attention_layernorm, torch.cat((mlp.gate_proj.weight, mlp.up_proj.weight))
        )
        qkv_bias = None if parts[0].bias is None else self._interleave_halves([part.bias for part in parts])
        gate_up_bias = None if mlp.gate_proj.bias is None else torch.cat((mlp.gate_proj.bias, mlp.up_proj.bias))
        window = getattr(attention, "sliding_window", self.sliding_window)
        is_silu = isinstance(mlp.act_fn, SILU_TYPES)
        no_other_bias = all(part is None for part in (attention.o_proj.bias, gate_up_bias, mlp.down_proj.bias))
        norms_match = (input_norm.weight, post_attention_norm.weight, input_norm.eps, post_attention_norm.eps) == (
            None,
            None,
            self.final_norm.eps,
            self.final_norm.eps,
        )
        if (
            self.compilable_weights is not None
            and no_other_bias
            and norms_match
            and is_silu
            and not hasattr(attention, "q_norm")
        ):
            weights = LayerWeights(
                qkv_proj,
                qkv_bias=qkv_bias,
                o_proj=attention.o_proj.weight,
                gate_up_proj=gate_up_proj,
                down_proj=mlp.down_proj.weight,
                window=window,
            )
            self.compilable_weights.append(weights)
        else:
            self.compilable_weights = None
        return FusedLayer(
            input_norm=input_norm,
            post_attention_norm=post_attention_norm,
            qkv_proj=PrepackedLinear.prepack(qkv_proj, qkv_bias),
            q_norm=getattr(attention, "q_norm", None),
            k_norm=getattr(attention, "k_norm", None),
            o_proj=PrepackedLinear.prepack(attention.o_proj.weight, attention.o_proj.bias),
            gate_up_proj=PrepackedLinear.prepack(gate_up_proj, gate_up_bias),
            down_proj=PrepackedLinear.prepack(mlp.down_proj.weight, mlp.down_proj.bias),
            activation=mlp.act_fn,
            is_silu=is_silu,
            # queries and keys are scaled as they are rotated (`_freqs_cis_at`)
            attention=AttentionSettings(scaling=1.0, sliding_window=window),
        )

    def _compile_decoder(self) -> CompiledDecoder | None:
        """All layers as one compiled kernel, if it supports them and they are small enough to hold twice."""
        layers, self.compilable_weights = self.compilable_weights, None
        size = sum(each.gate_up_proj.numel() + each.down_proj.numel() for each in layers or ())
        if (
            not layers
            or not self.has_static_rope
            or size > MAX_COMPILED_ELEMENTS
            or not CompiledDecoder.supports(layers, self.head_dim)
        ):
            return None
        return CompiledDecoder(
            layers,
            num_heads=self.num_heads,
            num_kv_heads=self.num_kv_heads,
            head_dim=self.head_dim,
            epsilon=self.final_norm.eps,
        )

    def _interleave_halves(self, parts: list[torch.Tensor]) -> torch.Tensor:
        """Query, key and value weights in one matrix; dimensions i and i + D/2 of queries and keys become adjacent.

        Rotary embedding rotates such a pair as one complex number. Attention scores do not depend on the order.
        """
        query, key = (
            part.unflatten(0, (-1, 2, self.head_dim // 2)).transpose(1, 2).flatten(0, 2) for part in parts[:2]
        )
        return torch.cat((query, key, parts[2]))


def _interleaved_head_norm(norm: Any, heads: torch.Tensor) -> torch.Tensor:
    """The norm of each head, with its weight in the order of `_interleave_halves`."""
    weight = norm.weight.unflatten(0, (2, -1)).t().flatten()
    return rms_norm(heads.to(weight.dtype), weight.shape, weight, norm.variance_epsilon).to(heads.dtype)


def _rms_norm_of(module: Any) -> RMSNorm:
    weight, epsilon = module.weight, float(module.variance_epsilon)
    return RMSNorm(weight, epsilon, torch.full((1, 1), epsilon, device=weight.device, dtype=torch.float32))


def _fold_norm_weight(module: Any, weights: torch.Tensor) -> tuple[torch.Tensor, RMSNorm]:
    """Fold the weight of a norm into the projection after it: the weights [outputs, hidden], and the norm.

    In half precision the product would be rounded once more, so there the norm keeps its weight.
    """
    norm = _rms_norm_of(module)
    if weights.dtype != torch.float32 or norm.weight is None:
        return weights, norm
    return weights * norm.weight, replace(norm, weight=None)


def _apply_rms_norm(norm: RMSNorm, hidden: torch.Tensor) -> torch.Tensor:
    """RMSNorm over the last dimension; torch's own is one kernel on CUDA, but takes twice the time on a CPU."""
    if hidden.is_cuda:
        return rms_norm(hidden, hidden.shape[-1:], norm.weight, norm.eps)
    if fused_ops.supports_no_grad(hidden):
        return fused_ops.rms_norm_rows(hidden, norm.weight, norm.eps, out=torch.empty_like(hidden))
    length = torch.linalg.vector_norm(hidden, dim=-1, keepdim=True, dtype=torch.float32)
    scale = torch.addcmul(norm.eps_tensor, length, length, value=1 / hidden.shape[-1]).rsqrt_()
    scaled = (hidden * scale).to(hidden.dtype)
    return scaled if norm.weight is None else scaled * norm.weight


def _add_residual(hidden: torch.Tensor, rows: torch.Tensor, layer: PrepackedLinear) -> torch.Tensor:
    """hidden + layer(rows), in place in one operation, unless there is a bias or the dtypes differ."""
    if layer.bias is not None or hidden.dtype != rows.dtype:
        return hidden + layer(rows)
    return add_linear(hidden, rows, layer.weight)


def _is_rms_norm(module: Any) -> bool:
    return type(module).__name__.endswith("RMSNorm") and hasattr(module, "variance_epsilon")
