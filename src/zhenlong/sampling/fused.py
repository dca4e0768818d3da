"""Llama-like decoders with fewer, larger operations, for the steps of sampling.

A sampling step computes one token a row, so with small models the number of operations decides its speed, and of the
sixty that transformers spends on a layer less than half are needed: the query, key and value projections are one
product, and so are the two of the feed-forward; rotation is one complex product; the residual is added by the
projection before it. Weights are gathered anew for each call of the sampler, so they are always the current ones.
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

from zhenlong.forest.packed import precision_of
from zhenlong.kernels import elementwise
from zhenlong.kernels.decoding import Layers, Weights
from zhenlong.kernels.products import added, packed, product
from zhenlong.sampling.attention import flat_attention
from zhenlong.sampling.step import Step

MOVING: Final = frozenset({"dynamic", "longrope"})  # rotations that depend on the longest position of a pass
ROWS: Final = 64  # that weights are packed for
LARGEST: Final = 2**25  # numbers in the feed-forward weights of a model whose steps are compiled: 128 MB
SILU: Final = (nn.SiLU, SiLUActivation)
KINDS: Final = frozenset({"llama", "mistral", "qwen2", "qwen3"})  # of config.model_type


@dataclass(frozen=True)
class Norm:
    """A root-mean-square norm. Its weight is None where the projection after it has taken it in."""

    weight: torch.Tensor | None
    number: float  # added to the mean square
    epsilon: torch.Tensor  # the same, [1, 1]


@dataclass(frozen=True)
class Product:
    """The weight [outputs, inputs] and the bias of a linear layer, in the precision that it computes in."""

    weight: torch.Tensor
    bias: torch.Tensor | None

    @classmethod
    def of(cls, weight: torch.Tensor, bias: torch.Tensor | None) -> Product:
        """In the dtype of mixed precision where that is on: cast once, not in every step."""
        dtype = precision_of(weight)
        return cls(packed(weight.to(dtype), ROWS), None if bias is None else bias.to(dtype))

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        return product(rows.to(self.weight.dtype), self.weight, self.bias)


@dataclass(frozen=True)
class Layer:
    """The weights of one layer, gathered."""

    before: Norm
    after: Norm
    projection: Product  # outputs are queries, keys, values: (H + 2 Hkv) D; rotated pairs side by side
    query_norm: nn.Module | None
    key_norm: nn.Module | None
    output: Product
    gates: Product  # outputs are gate, up: 2 inner
    down: Product
    activation: Any
    silu: bool  # whether that is the activation
    window: int | None


def can_fuse(model: PreTrainedModel) -> bool:
    """Whether the model is made of nothing but what `Fused` computes: plain linear layers, no adapters, no hooks."""
    decoder = getattr(model, "model", None)  # a wrapped model's is the model itself
    if model.config.model_type not in KINDS or not hasattr(decoder, "layers") or not hasattr(model, "lm_head"):
        return False
    hooked = any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    if hooked or hasattr(model, "hf_device_map"):
        return False
    layers = list(model.model.layers)
    plain = (
        module
        for layer in layers
        for module in (*layer.self_attn.children(), *layer.mlp.children())
        if module is not layer.mlp.act_fn and not _is_norm(module)
    )
    weights = all(type(module) is nn.Linear and type(module.weight) is nn.Parameter for module in plain)
    return weights and all(_is_norm(layer.input_layernorm) for layer in layers) and type(model.lm_head) is nn.Linear


class Fused:
    """A forward pass with the model's present weights, in place of the model's own."""

    def __init__(self, model: PreTrainedModel) -> None:
        config = model.config
        self.size = int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)
        self.heads = int(config.num_attention_heads)
        self.key_heads = int(config.num_key_value_heads)
        self.embedding, self.head = model.model.embed_tokens, Product.of(model.lm_head.weight, model.lm_head.bias)
        self.norm = _norm(model.model.norm)
        self.rotary = model.model.rotary_emb
        self.scaling = float(model.model.layers[0].self_attn.scaling)  # these architectures have one for all layers
        self.turns = torch.empty(0, 1, 0)  # of the positions from 0 on, as far as they were needed
        self.window = config.sliding_window if config.model_type == "mistral" else None  # of layers that name none
        self.together: list[Weights] | None = []  # of all layers, as long as the compiled ones compute the same
        self.layers = [self._gathered(layer) for layer in model.model.layers]
        self.compiled = self._compiled()

    def __call__(
        self, ids: torch.Tensor, positions: torch.Tensor, step: Step, kept: torch.Tensor | None
    ) -> torch.Tensor:
        """Logits [N, V] of a flat batch of ids and positions [N], or of the `kept` ones of its tokens.

        What mixed precision would cast is cast here, so that it does not depend on torch's lists of operations.
        """
        with torch.autocast(ids.device.type, enabled=False):
            hidden = self.embedding(ids)  # [N, hidden]
            turn = self._turn(hidden, positions, step.reach)
            if self.compiled is not None and not step.entering and not step.recorded:
                own, shared = ((store.keys, store.values) for store in (step.own, step.shared))
                hidden = self.compiled(hidden, turn, own, shared, step.places, step.column)
                return self.head(_normed(self.norm, hidden))
            for number, layer in enumerate(self.layers):
                hidden = self._layer(hidden, layer, number, turn, step)
            hidden = hidden if kept is None else hidden[kept]
            return self.head(_normed(self.norm, hidden))

    @property
    def steady(self) -> bool:
        """Whether a step does the same operations wherever its tokens stand."""
        return getattr(self.rotary, "rope_type", "") not in MOVING

    def _turn(self, hidden: torch.Tensor, positions: torch.Tensor, reach: int) -> torch.Tensor:
        """Rotations [N, 1, D/2] of queries and keys at their positions [N], as complex numbers.

        Their length is the root of what scores are scaled by, so that products of queries and keys are scaled already.
        """
        if not self.steady:
            return self._turns_of(hidden, positions)
        if len(self.turns) < reach:
            self.turns = self._turns_of(hidden, torch.arange(2 * reach, device=positions.device))
        return self.turns.index_select(0, positions)

    def _turns_of(self, hidden: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        cos, sin = self.rotary(hidden, positions[None])  # [1, N, D], each half the same
        half = self.size // 2
        turns = torch.complex(cos[0, :, :half].float(), sin[0, :, :half].float()).unsqueeze(1)
        return turns * self.scaling**0.5

    def _layer(self, hidden: torch.Tensor, layer: Layer, number: int, turn: torch.Tensor, step: Step) -> torch.Tensor:
        both = layer.projection(_normed(layer.before, hidden))
        both = both.view(len(hidden), -1, self.size)  # [N, H + 2 Hkv, D]
        rotated, value = both[:, : -self.key_heads], both[:, -self.key_heads :]
        if layer.query_norm is not None:
            queries, keys = rotated[:, : self.heads], rotated[:, self.heads :]
            rotated = torch.cat((_paired(layer.query_norm, queries), _paired(layer.key_norm, keys)), 1)
        if elementwise.serves_rows(rotated):
            rotated = elementwise.rotate_pairs(rotated, self.heads + self.key_heads, turn)
            return self._attended(hidden, rotated, value, layer, number, step)
        pairs = torch.view_as_complex(rotated.float().unflatten(-1, (-1, 2)))  # [N, H + Hkv, D/2]
        rotated = torch.view_as_real(pairs.mul_(turn)).flatten(2).to(value.dtype)
        return self._attended(hidden, rotated, value, layer, number, step)

    def _attended(
        self, hidden: torch.Tensor, rotated: torch.Tensor, value: torch.Tensor, layer: Layer, number: int, step: Step
    ) -> torch.Tensor:
        """The layer from its rotated queries and keys [N, H + Hkv, D] and its values [N, Hkv, D] on."""
        query, key = rotated[:, : self.heads], rotated[:, self.heads :]
        seen = flat_attention(query, key, value, number, step, 1.0, layer.window, None)
        hidden = _added(hidden, seen.reshape(len(hidden), -1), layer.output)
        gate, up = layer.gates(_normed(layer.after, hidden)).chunk(2, -1)
        if layer.silu and elementwise.serves_rows(gate):
            between = elementwise.gate_rows(gate, up, gate.new_empty(gate.shape))
        else:
            between = layer.activation(gate).mul_(up)
        return _added(hidden, between, layer.down)

    def _gathered(self, layer: nn.Module) -> Layer:
        attention: Any = layer.self_attn
        mlp: Any = layer.mlp
        parts = (attention.q_proj, attention.k_proj, attention.v_proj)
        projection, before = _taken_in(layer.input_layernorm, self._in_pairs([part.weight for part in parts]))
        gates, after = _taken_in(layer.post_attention_layernorm, torch.cat((mlp.gate_proj.weight, mlp.up_proj.weight)))
        bias = None if parts[0].bias is None else self._in_pairs([part.bias for part in parts])
        gates_bias = None if mlp.gate_proj.bias is None else torch.cat((mlp.gate_proj.bias, mlp.up_proj.bias))
        window = getattr(attention, "sliding_window", self.window)
        silu = isinstance(mlp.act_fn, SILU)
        plain = all(part is None for part in (attention.o_proj.bias, gates_bias, mlp.down_proj.bias))
        same = (before.weight, after.weight, before.number, after.number) == (
            None,
            None,
            self.norm.number,
            self.norm.number,
        )
        if self.together is not None and plain and same and silu and not hasattr(attention, "q_norm"):
            weights = Weights(projection, bias, attention.o_proj.weight, gates, mlp.down_proj.weight, window)
            self.together.append(weights)
        else:
            self.together = None
        return Layer(
            before,
            after,
            Product.of(projection, bias),
            getattr(attention, "q_norm", None),
            getattr(attention, "k_norm", None),
            Product.of(attention.o_proj.weight, attention.o_proj.bias),
            Product.of(gates, gates_bias),
            Product.of(mlp.down_proj.weight, mlp.down_proj.bias),
            mlp.act_fn,
            silu,
            window,
        )

    def _compiled(self) -> Layers | None:
        """All layers as one compiled kernel, where it computes them and they are small enough to be held twice."""
        layers, self.together = self.together, None
        size = sum(each.gates.numel() + each.down.numel() for each in layers or ())
        if not layers or not self.steady or size > LARGEST or not Layers.serves(layers, self.size):
            return None
        return Layers(layers, self.heads, self.key_heads, self.size, self.norm.number)

    def _in_pairs(self, parts: list[torch.Tensor]) -> torch.Tensor:
        """Query, key and value weights in one, those of dimensions i and i + D/2 of queries and keys side by side.

        Rotation turns these two as one complex number. Products of queries and keys do not depend on the order.
        """
        query, key = (part.unflatten(0, (-1, 2, self.size // 2)).transpose(1, 2).flatten(0, 2) for part in parts[:2])
        return torch.cat((query, key, parts[2]))


def _paired(norm: Any, heads: torch.Tensor) -> torch.Tensor:
    """The norm of each head, its weight in the order of `_in_pairs`."""
    weight = norm.weight.unflatten(0, (2, -1)).t().flatten()
    return rms_norm(heads.to(weight.dtype), weight.shape, weight, norm.variance_epsilon).to(heads.dtype)


def _norm(module: Any) -> Norm:
    weight, epsilon = module.weight, float(module.variance_epsilon)
    return Norm(weight, epsilon, torch.full((1, 1), epsilon, device=weight.device, dtype=torch.float32))


def _taken_in(module: Any, weights: torch.Tensor) -> tuple[torch.Tensor, Norm]:
    """The weights [outputs, hidden] of a projection that takes in the weight of the norm before it, and that norm.

    Half precision would round their product once more, so there the norm keeps its weight.
    """
    norm = _norm(module)
    if weights.dtype != torch.float32 or norm.weight is None:
        return weights, norm
    return weights * norm.weight, replace(norm, weight=None)


def _normed(norm: Norm, hidden: torch.Tensor) -> torch.Tensor:
    """Root-mean-square norm over the last dimension; torch's own is one kernel on CUDA and twice the time on a CPU."""
    if hidden.is_cuda:
        return rms_norm(hidden, hidden.shape[-1:], norm.weight, norm.number)
    if elementwise.serves_rows(hidden):
        return elementwise.norm_rows(hidden, norm.weight, norm.number, torch.empty_like(hidden))
    length = torch.linalg.vector_norm(hidden, dim=-1, keepdim=True, dtype=torch.float32)
    scale = torch.addcmul(norm.epsilon, length, length, value=1 / hidden.shape[-1]).rsqrt_()
    scaled = (hidden * scale).to(hidden.dtype)
    return scaled if norm.weight is None else scaled * norm.weight


def _added(hidden: torch.Tensor, rows: torch.Tensor, layer: Product) -> torch.Tensor:
    """hidden + layer(rows), in place and one operation but for a bias, or mixed precision, which keeps them apart."""
    if layer.bias is not None or hidden.dtype != rows.dtype:
        return hidden + layer(rows)
    return added(hidden, rows, layer.weight)


def _is_norm(module: Any) -> bool:
    return type(module).__name__.endswith("RMSNorm") and hasattr(module, "variance_epsilon")
