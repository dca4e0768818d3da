"""The last layer of a decoder where its result is read, and nowhere else.

A layer hands a token to later ones by two ways: as a key and value to tokens after it, and as its own state. No layer
comes after the last one, so there queries, attention, what is done with them, and the feed-forward part are needed only
of the positions that are read: those that predict scored tokens, or the last token of each response. Of a prompt that
eight answers share, the last layer then computes keys and values and little else. Results and gradients are the same.

It serves layers with the parts of Llama, Mistral, Qwen 2 and 3 and their like, found by name and by trying.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from types import MethodType
from typing import Any, Final

import torch
from torch import nn

from zhenlong.forest.attention import forest_attention

PARTS: Final = {"input_layernorm", "self_attn", "post_attention_layernorm", "mlp"}
INNER_PARTS: Final = {"q_proj", "k_proj", "v_proj", "o_proj"}
NORMS: Final = {"q_norm", "k_norm"}  # of each head, in Qwen 3
NEEDED_OF_ALL: Final = ("input_layernorm.", "self_attn.k_", "self_attn.v_")  # parameters, for keys and values
DROPOUTS: Final = {"residual_dropout", "hidden_dropout"}  # a trial in eval mode would not show them
WORTH: Final = 0.9  # of all tokens that are read at most: gathering them costs as well
Rotation = Callable[..., tuple[torch.Tensor, torch.Tensor]]


@dataclass(frozen=True)
class Narrowed:
    """What a narrowed layer does as its attention does: keywords handed on, and the rotation of queries and keys."""

    settings: dict[str, Any]
    rotate: Rotation


def last_layer_of(decoder: nn.Module) -> nn.Module | None:
    """The last layer, if it has the parts that `narrow` knows and nothing else."""
    layers = getattr(decoder, "layers", None)
    if not isinstance(layers, nn.ModuleList) or not len(layers):
        return None
    layer: Any = layers[-1]
    if _names(layer) != PARTS or not INNER_PARTS <= _names(layer.self_attn) <= INNER_PARTS | NORMS:
        return None
    both = layer, layer.self_attn
    known = all(hasattr(layer.self_attn, name) for name in ("head_dim", "attention_dropout"))
    own = any(True for module in both for _ in module.parameters(recurse=False))
    drops = any(value for module in both for name, value in vars(module).items() if name in DROPOUTS)
    return layer if known and not own and not drops and _rotation(layer.self_attn) is not None else None


def narrow(layer: Any, seen: dict[str, Any]) -> None:
    """Let the layer compute only what a call's `reading` reads, where it has one.

    `seen` are the keywords that its own attention hands on, which this one hands on too.
    """
    rotate = _rotation(layer.self_attn)
    assert rotate is not None  # last_layer_of has looked
    layer.narrowed = Narrowed(seen, rotate)
    if "forward" not in layer.__dict__:
        layer.forward = MethodType(_forward, layer)


def widen(layer: nn.Module) -> None:
    """Give the layer its own forward pass back."""
    if getattr(layer.__dict__.get("forward"), "__func__", None) is _forward:
        del layer.forward
    layer.__dict__.pop("narrowed", None)


def spared_parameters(model: nn.Module) -> list[nn.Parameter]:
    """The parameters of the last layer that tokens which nobody reads can do without; none where it is not known."""
    layer = last_layer_of(decoder_of(model))
    parts = [] if layer is None else layer.named_parameters()
    return [part for name, part in parts if not name.startswith(NEEDED_OF_ALL)]


def decoder_of(model: Any) -> Any:
    """The stack of layers beneath the output head, adapters included."""
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    return getattr(inner, getattr(inner, "base_model_prefix", ""), inner)


def _forward(layer: Any, hidden_states: torch.Tensor, *others: Any, **named: Any) -> Any:
    """hidden_states [1, N, d] -> [1, P, d] for a reading of P rows, and as the layer itself without one."""
    reading = named.get("reading")
    if reading is None:
        return type(layer).forward(layer, hidden_states, *others, **named)
    attention, known = layer.self_attn, layer.narrowed
    settings = known.settings | {"dropout": attention.attention_dropout if attention.training else 0.0}
    asking = hidden_states.index_select(1, reading.rows)
    every = layer.input_layernorm(hidden_states)
    q = _heads(attention, "q", layer.input_layernorm(asking))  # once more, rather than a gradient of N rows for P
    k, v = (_heads(attention, name, every) for name in "kv")
    cos, sin = named["position_embeddings"]
    q, _ = known.rotate(q, q[:, :1], *(angles.index_select(1, reading.rows) for angles in (cos, sin)))
    _, k = known.rotate(k[:, :1], k, cos, sin)
    out, _ = forest_attention(attention, q, k, v, None, forest=named["forest"], view=reading.view, **settings)
    asking = asking + attention.o_proj(out.flatten(2))
    return asking + layer.mlp(layer.post_attention_layernorm(asking))


def _heads(attention: Any, name: str, states: torch.Tensor) -> torch.Tensor:
    """Queries, keys or values [1, H, N, D] of states [1, N, d]."""
    found = getattr(attention, f"{name}_proj")(states).unflatten(-1, (-1, attention.head_dim))
    norm = getattr(attention, f"{name}_norm", None)
    return (found if norm is None else norm(found)).transpose(1, 2)


def _rotation(attention: nn.Module) -> Rotation | None:
    """What the attention's own forward pass rotates queries and keys by."""
    own = inspect.unwrap(getattr(attention.forward, "__func__", attention.forward))
    return getattr(own, "__globals__", {}).get("apply_rotary_pos_emb")


def _names(module: nn.Module) -> set[str]:
    return {name for name, _ in module.named_children()}
