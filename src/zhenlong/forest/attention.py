"""Attention over a forest, registered with transformers as an attention implementation.

A model set to it calls `forest_attention` in each layer with queries, keys, values and the keyword `forest`, which
`forward` adds to the call. Keywords that would change the result are supported or refused.

It is computed by one of three: on CUDA devices in half precision by FlashAttention (Dao 2023, arXiv:2307.08691) over
sequences of variable length, each a segment's queries with the keys of its path; in fp32 on a CPU by the compiled
kernels; else by dense blocks.

Shapes: N packed tokens, P query tokens (all N except in the last layer), H query heads, Hkv key heads, D head size.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Final

import torch
from torch.nn.attention.varlen import varlen_attn
from torch.nn.functional import dropout as drop
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from zhenlong.forest.attention_metadata import AttentionMetadata, Block, VarlenLayout
from zhenlong.forest.packing import Forest
from zhenlong.kernels.attention import AttentionSettings, compiled_forest_attention, supports_attention

FOREST_ATTENTION: Final = "zhenlong_forest"
# Keywords that models pass along and that do not affect attention over a forest.
IGNORABLE_KWARGS: Final = {
    "cache_position", "cu_seq_lens_k", "cu_seq_lens_q", "deterministic", "head_mask", "is_causal", "max_length_k",
    "max_length_q", "output_attentions", "output_hidden_states", "output_router_logits", "past_key_values",
    "position_embeddings", "position_ids", "query_subset", "return_dict", "use_cache",
}  # fmt: skip
MAX_HEAD_DIM: Final = 256  # FlashAttention's limit
# Some releases of torch need a keyword for grouped-query attention.
GQA_KWARGS: Final[dict[str, Any]] = (
    {"enable_gqa": True} if "enable_gqa" in inspect.signature(varlen_attn).parameters else {}
)


class UnsupportedAttention(Exception):
    """The model needs an attention feature that the forest lacks; the padded layout is used instead."""


@torch.compiler.disable  # index tables differ per batch, so compiled layers call this uncompiled
def forest_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Attention of each token to the preceding tokens of its own segment and to all of its ancestors.

    query [1, H, N, D], key and value [1, Hkv, N, D] -> [1, N, H, D]. The keywords are `forest`, a dictionary
    `module_settings`, which collects the settings of each attention module, and the settings themselves. Raises
    `UnsupportedAttention` for others that are not known to be harmless, such as attention sinks.
    """
    forest: Forest = kwargs.pop("forest")
    module_settings: dict[torch.nn.Module, AttentionSettings] | None = kwargs.pop("module_settings", None)
    settings = read_attention_settings(attention_mask, kwargs)
    if module_settings is not None:
        module_settings[module] = settings
    return attend_forest(query, key, value, forest=forest, settings=settings), None


def read_attention_settings(attention_mask: torch.Tensor | None, kwargs: Mapping[str, Any]) -> AttentionSettings:
    """The settings that a model passes to an attention implementation of ours.

    Raises `UnsupportedAttention` for a mask, and for a keyword that is neither a setting nor known to be harmless.
    """
    known = {field.name for field in fields(AttentionSettings)}
    others = {name: given for name, given in kwargs.items() if given is not None and name not in known}
    unsupported = sorted(others.keys() - IGNORABLE_KWARGS)
    if unsupported or attention_mask is not None:
        raise UnsupportedAttention(f"attention needs {', '.join(unsupported) or 'a mask of its own'}")
    return AttentionSettings(**{name: given for name, given in kwargs.items() if name in known})


@torch.compiler.disable
def attend_forest(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    *,
    forest: Forest,
    settings: AttentionSettings,
    metadata: AttentionMetadata | None = None,
) -> torch.Tensor:
    """`forest_attention` with its settings read: [1, H, N, D], [1, Hkv, N, D] twice -> [1, N, H, D].

    In the sparse last layer `metadata` is given, and the queries [1, H, P, D] and the result are those of P tokens.
    """
    metadata = metadata or forest.attention_metadata
    if query.shape[1] == 1 and key.shape[1] != 1:
        raise UnsupportedAttention("there are fewer query heads than key heads")
    forest.attention_calls += 1
    q, k, v = (states.squeeze(0).transpose(0, 1) for states in (query, key, value))  # [N, H, D]
    if supports_varlen(query, value, settings):
        return varlen_attention(q, k, v, layout=metadata.varlen_layout, settings=settings).unsqueeze(0)
    if supports_attention(q, v, settings):
        return compiled_forest_attention(q, k, v, segments=metadata.kernel_trees, settings=settings).unsqueeze(0)
    layout = metadata.block_layout(settings.sliding_window)
    q = GatherRows.apply(q, layout.query_indices, layout.unpad_indices)
    k, v = (
        GatherRows.apply(states, layout.key_indices, layout.unpad_indices if layout.keys_are_queries else None)
        for states in (k, v)
    )
    queries = q.split([block.num_rows * block.num_queries for block in layout.blocks])
    ks, vs = (states.split([block.num_rows * block.num_keys for block in layout.blocks]) for states in (k, v))
    parts = [_attend_block(*given, settings=settings) for given in zip(layout.blocks, queries, ks, vs, strict=True)]
    result = parts[0] if len(parts) == 1 else torch.cat(parts)
    return result.index_select(0, layout.unpad_indices).unsqueeze(0)


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


def attention_dtype(states: torch.Tensor) -> torch.dtype:
    """The precision in which attention runs: that of autocast if it is enabled."""
    kind = states.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else states.dtype


def _attend_block(
    block: Block, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *, settings: AttentionSettings
) -> torch.Tensor:
    """One block's output [B*Q, H, D] from its queries [B*Q, H, D] and keys and values [B*K, Hkv, D]."""
    q, k, v = (states.unflatten(0, (block.num_rows, -1)).transpose(1, 2) for states in (q, k, v))
    if settings.softcap is None:
        grouped_query = q.shape[1] != k.shape[1]
        if grouped_query and block.mask is not None and q.is_cuda:  # no CUDA kernel supports a mask with grouped heads
            k, v = (states.repeat_interleave(q.shape[1] // k.shape[1], 1) for states in (k, v))
            grouped_query = False
        out = scaled_dot_product_attention(
            q,
            k,
            v,
            block.mask,
            settings.dropout,
            is_causal=block.mask is None,
            scale=settings.scaling,
            enable_gqa=grouped_query,
        )
    else:
        out = _softcapped_attention(q, k, v, mask=block.mask, softcap=settings.softcap, settings=settings)
    return out.transpose(1, 2).flatten(0, 1)


def _softcapped_attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    mask: torch.Tensor | None,
    softcap: float,
    settings: AttentionSettings,
) -> torch.Tensor:
    """Attention with scores softcap * tanh(score / softcap), applied before the mask (Gemma 2, §2)."""
    groups = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
    scores = q @ k.transpose(-1, -2) * settings.scale(q.shape[-1])
    scores = softcap * torch.tanh(scores / softcap)
    if mask is None:
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).tril()
    weights = scores.masked_fill(~mask, float("-inf")).softmax(-1, dtype=torch.float32).to(q.dtype)
    return drop(weights, settings.dropout) @ v


class GatherRows(torch.autograd.Function):
    """Gather `states` [N, H, D] at `index` [P].

    If every state is gathered exactly once, apart from padding, `inverse` [N] is the inverse index. Padding gets no
    gradient, because no result depends on it, so the backward pass is a gather too and needs no zeros to add into.
    Without `inverse`, gradients of states gathered several times are summed in fp32.
    """

    @staticmethod
    def forward(ctx: Any, states: torch.Tensor, index: torch.Tensor, inverse: torch.Tensor | None) -> torch.Tensor:
        ctx.save_for_backward(index, inverse)
        ctx.shape = states.shape
        return states.index_select(0, index)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        index, inverse = ctx.saved_tensors
        if inverse is not None:
            return gradient.index_select(0, inverse), None, None
        gradient_fp32 = gradient.to(torch.promote_types(gradient.dtype, torch.float32))
        return gradient_fp32.new_zeros(ctx.shape).index_add_(0, index, gradient_fp32).to(gradient.dtype), None, None


AttentionInterface.register(FOREST_ATTENTION, forest_attention)
