"""The sparse last layer: it computes outputs only where they are needed.

A layer's result for a token is used in two ways: as key and value by later tokens, and as the input of the next layer.
The last layer has no next layer, so queries, attention, output projection and MLP are needed only at the positions
that predict scored tokens, or at the last token of each response. For a prompt shared by eight responses, it computes
keys and values and little else. Results and gradients are unchanged.

It supports layers built like those of Llama, Mistral, Qwen 2 and 3, recognised by module names and a trial run.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import MethodType
from typing import Any, Final

import torch
from torch import nn

from zhenlong.forest.attention import attend_forest
from zhenlong.kernels.attention import AttentionSettings

LAYER_MODULES: Final = {"input_layernorm", "self_attn", "post_attention_layernorm", "mlp"}
ATTENTION_MODULES: Final = {"q_proj", "k_proj", "v_proj", "o_proj"}
QK_NORMS: Final = {"q_norm", "k_norm"}  # per head, in Qwen 3
KEY_VALUE_PARAMETERS: Final = (
    "input_layernorm.",
    "self_attn.k_",
    "self_attn.v_",
)  # parameters needed for keys and values
DROPOUT_ATTRIBUTES: Final = {"residual_dropout", "hidden_dropout"}  # a trial in eval mode would not reveal them
MAX_QUERY_FRACTION: Final = 0.9  # above this fraction of needed tokens, gathering costs more than it saves
RotaryFunction = Callable[..., tuple[torch.Tensor, torch.Tensor]]


@dataclass(frozen=True)
class SparseLayerSettings:
    """What a sparse layer needs from its attention: the settings that it passes on, and the rotary function."""

    attention: AttentionSettings
    apply_rotary: RotaryFunction


def last_layer_of(decoder: nn.Module) -> nn.Module | None:
    """The last layer, if it has exactly the modules that `enable_sparse_last_layer` supports; else None."""
    layers = getattr(decoder, "layers", None)
    if not isinstance(layers, nn.ModuleList) or not len(layers):
        return None
    layer: Any = layers[-1]
    if (
        _child_names(layer) != LAYER_MODULES
        or not ATTENTION_MODULES <= _child_names(layer.self_attn) <= ATTENTION_MODULES | QK_NORMS
    ):
        return None
    both = layer, layer.self_attn
    has_expected_attributes = all(hasattr(layer.self_attn, name) for name in ("head_dim", "attention_dropout"))
    has_own_parameters = any(True for module in both for _ in module.parameters(recurse=False))
    has_dropout = any(value for module in both for name, value in vars(module).items() if name in DROPOUT_ATTRIBUTES)
    return (
        layer
        if has_expected_attributes
        and not has_own_parameters
        and not has_dropout
        and _rotary_function(layer.self_attn) is not None
        else None
    )


def enable_sparse_last_layer(layer: Any, settings: AttentionSettings) -> None:
    """Make the layer compute only the queries of a call's `query_subset`, if it is given.

    `settings` are those that its own attention passes on; the sparse layer passes them on too.
    """
    apply_rotary = _rotary_function(layer.self_attn)
    assert apply_rotary is not None  # checked by last_layer_of
    layer.sparse_settings = SparseLayerSettings(settings, apply_rotary)
    if "forward" not in layer.__dict__:
        layer.forward = MethodType(_sparse_forward, layer)


def disable_sparse_last_layer(layer: nn.Module) -> None:
    """Restore the layer's own forward pass."""
    if getattr(layer.__dict__.get("forward"), "__func__", None) is _sparse_forward:
        del layer.forward
    layer.__dict__.pop("sparse_settings", None)


def skippable_parameters(model: nn.Module) -> list[nn.Parameter]:
    """Parameters of the last layer that are skipped for tokens whose output is not needed; [] if unsupported."""
    layer = last_layer_of(decoder_of(model))
    parts = [] if layer is None else layer.named_parameters()
    return [part for name, part in parts if not name.startswith(KEY_VALUE_PARAMETERS)]


def decoder_of(model: Any) -> Any:
    """The stack of layers below the output head, adapters included."""
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    return getattr(inner, getattr(inner, "base_model_prefix", ""), inner)


def _sparse_forward(layer: Any, hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
    """hidden_states [1, N, d] -> [1, P, d] for a subset of P queries; the layer's own forward pass without one."""
    query_subset = kwargs.get("query_subset")
    if query_subset is None:
        return type(layer).forward(layer, hidden_states, *args, **kwargs)
    attention, sparse = layer.self_attn, layer.sparse_settings
    settings = replace(sparse.attention, dropout=attention.attention_dropout if attention.training else 0.0)
    query_states = hidden_states.index_select(1, query_subset.query_indices)
    normed_states = layer.input_layernorm(hidden_states)
    q = _project_heads(
        attention, "q", layer.input_layernorm(query_states)
    )  # normalised again: cheaper than a gradient of N rows for P queries
    k, v = (_project_heads(attention, name, normed_states) for name in "kv")
    cos, sin = kwargs["position_embeddings"]
    q, _ = sparse.apply_rotary(
        q, q[:, :1], *(angles.index_select(1, query_subset.query_indices) for angles in (cos, sin))
    )
    _, k = sparse.apply_rotary(k[:, :1], k, cos, sin)
    metadata = query_subset.attention_metadata
    out = attend_forest(q, k, v, forest=kwargs["forest"], settings=settings, metadata=metadata)
    query_states = query_states + attention.o_proj(out.flatten(2))
    return query_states + layer.mlp(layer.post_attention_layernorm(query_states))


def _project_heads(attention: Any, name: str, states: torch.Tensor) -> torch.Tensor:
    """Queries, keys or values [1, H, N, D] of states [1, N, d]."""
    projected = getattr(attention, f"{name}_proj")(states).unflatten(-1, (-1, attention.head_dim))
    norm = getattr(attention, f"{name}_norm", None)
    return (projected if norm is None else norm(projected)).transpose(1, 2)


def _rotary_function(attention: nn.Module) -> RotaryFunction | None:
    """The function by which the attention's own forward pass rotates queries and keys."""
    forward = inspect.unwrap(getattr(attention.forward, "__func__", attention.forward))
    return getattr(forward, "__globals__", {}).get("apply_rotary_pos_emb")


def _child_names(module: nn.Module) -> set[str]:
    return {name for name, _ in module.named_children()}
