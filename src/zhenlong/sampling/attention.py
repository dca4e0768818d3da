"""Attention of one sampling step, registered with transformers as an attention implementation.

A step is one flat batch [1, N]: first one token of each of R running sequences, then all tokens of the prompts to
prefill. A running sequence attends to its prompt, whose keys and values all its samples share, and to its own response;
both score blocks go through one softmax. A prompt attends causally to itself and writes its keys and values to the
prompt cache. For small models the number of tensor operations limits the speed, so everything that is equal for all
layers is prepared once (`zhenlong.sampling.step_metadata`), which leaves about ten operations per layer.
Legend: R sequences, G prompts with running sequences, S samples of a prompt, P length of the longest prompt, W
positions of the responses, H query heads, Hkv key heads, Q = H / Hkv, D head size.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from zhenlong.forest.attention import (
    UnsupportedAttention,
    attention_dtype,
    read_attention_settings,
    supports_varlen,
    varlen_attention,
)
from zhenlong.kernels.attention import AttentionSettings, SegmentTable, compiled_forest_attention, supports_attention
from zhenlong.kernels.decoding import decoding_attention, supports_decoding
from zhenlong.sampling.step_metadata import SHARED_PREFIX, BatchLayout, StepMetadata

SAMPLING_ATTENTION: Final = "zhenlong_sampling"
QUERY_CHUNK: Final = 512  # queries of a prompt scored at a time where the scores are materialised


@torch.compiler.disable
def sampling_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Attention of a flat batch of running sequences and prompts to prefill.

    query [1, H, N, D], key and value [1, Hkv, N, D] -> [1, N, H, D]. The keywords are `metadata` and the settings.
    Raises `UnsupportedAttention` for others that are not known to be harmless, such as attention sinks.
    """
    metadata: StepMetadata = kwargs.pop("metadata")
    if not kwargs.get("is_causal", True):
        raise UnsupportedAttention("attention needs is_causal")
    settings = replace(read_attention_settings(attention_mask, kwargs), dropout=0.0)
    metadata.sliding_windows.add(settings.sliding_window)
    layer = int(module.layer_idx)  # type: ignore[arg-type]
    dtype = attention_dtype(query)
    q, k, v = (states[0].transpose(0, 1).to(dtype) for states in (query, key, value))  # [N, H, D]
    with torch.autocast(query.device.type, enabled=False):
        return flat_attention(q, k, v, layer=layer, metadata=metadata, settings=settings).unsqueeze(0), None


def flat_attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    layer: int,
    metadata: StepMetadata,
    settings: AttentionSettings,
) -> torch.Tensor:
    """The same for q [N, H, D], k and v [N, Hkv, D] -> [N, H, D], in layer number `layer`."""
    if not metadata.prefills:
        return _decode_attention(q, k, v, layer=layer, metadata=metadata, settings=settings)
    parts = []
    if metadata.num_sequences:
        decodes = (states[: metadata.num_sequences] for states in (q, k, v))
        parts.append(_decode_attention(*decodes, layer=layer, metadata=metadata, settings=settings))
    if metadata.prompt_cache.unallocated:
        metadata.prompt_cache.allocate(k.transpose(0, 1), v.transpose(0, 1))
    if supports_varlen(q, v, settings):
        prefills = (states[metadata.num_sequences :] for states in (q, k, v))
        parts.append(_packed_prefill(*prefills, layer=layer, metadata=metadata, settings=settings))
        return torch.cat(parts)
    for slot, start, end in metadata.prefills:
        new_q, new_k, new_v = (part[start:end].transpose(0, 1).unsqueeze(0) for part in (q, k, v))  # [1, H, L, D]
        if slot == SHARED_PREFIX:
            metadata.shared_prefix_kv[layer] = new_k, new_v
        else:
            if layer in metadata.shared_prefix_kv:
                old_k, old_v = metadata.shared_prefix_kv[layer]
                new_k, new_v = torch.cat((old_k, new_k), 2), torch.cat((old_v, new_v), 2)
            metadata.prompt_cache.keys[layer, slot, :, : new_k.shape[2]] = new_k[0]
            metadata.prompt_cache.values[layer, slot, :, : new_v.shape[2]] = new_v[0]
        out = _prefill_one(new_q, new_k, new_v, settings=settings)
        parts.append(out[0].transpose(0, 1))
    return torch.cat(parts)


def _decode_attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    layer: int,
    metadata: StepMetadata,
    settings: AttentionSettings,
) -> torch.Tensor:
    """One token of every running sequence: q [R, H, D], k and v [R, Hkv, D] -> [R, H, D]."""
    if supports_decoding(q, v, settings):
        response_kv, prompt_kv = (
            (store.keys[layer], store.values[layer]) for store in (metadata.response_cache, metadata.prompt_cache)
        )
        return decoding_attention(
            q, k, v, response_kv=response_kv, prompt_kv=prompt_kv, step=metadata.decode_step, settings=settings
        )
    metadata.write_kv(layer, k, v)
    views, layout, heads = metadata.views(), metadata.layout, k.shape[1]
    q = q.reshape(metadata.num_sequences * heads, -1, q.shape[-1])  # [R*Hkv, Q, D]
    scaling, softcap = settings.scale(q.shape[-1]), settings.softcap
    q = q if scaling == 1 else q * scaling
    keys, values = views.prompt_keys[layer], views.prompt_values[layer]
    scores, prompt_scores, response_scores = views.score_buffers(q, layout, heads)
    longest_prompt, (prompt_mask, response_mask) = keys.shape[-1], metadata.masks(settings.sliding_window)
    products = torch.bmm(_group_by_prompt(q, layout, heads), keys)
    torch.add(_apply_softcap(_ungroup(products, layout, heads), softcap), prompt_mask, out=prompt_scores)
    products = torch.bmm(q, views.response_keys[layer])
    torch.add(_apply_softcap(products.view(response_scores.shape), softcap), response_mask, out=response_scores)
    weights = scores.softmax(-1)  # computed in fp32, also for half precision
    products = torch.bmm(_group_by_prompt(weights[..., :longest_prompt], layout, heads), values)
    attended = _ungroup(products, layout, heads).reshape(
        *q.shape[:2], -1
    )  # values may have a smaller head size than keys
    return attended.baddbmm_(weights[..., longest_prompt:], views.response_values[layer]).view(
        metadata.num_sequences, -1, v.shape[-1]
    )


def _apply_softcap(scores: torch.Tensor, softcap: float | None) -> torch.Tensor:
    return scores if softcap is None else softcap * torch.tanh(scores / softcap)  # Gemma 2, §2


def _group_by_prompt(states: torch.Tensor, layout: BatchLayout, heads: int) -> torch.Tensor:
    """[R*Hkv, Q, X] -> [G*Hkv, S*Q, X]: all samples of a prompt become the queries of one matmul."""
    queries, size = states.shape[1:]
    if layout.to_prompt_order is not None:
        states = states.reshape(layout.num_sequences, heads * queries * size).index_select(0, layout.to_prompt_order)
        states = states.view(-1, queries, size)
    grouped = states.view(layout.num_prompts, layout.max_samples, heads, queries, size).transpose(1, 2)
    return grouped.reshape(layout.num_prompts * heads, layout.max_samples * queries, size)


def _ungroup(grouped: torch.Tensor, layout: BatchLayout, heads: int) -> torch.Tensor:
    """[G*Hkv, S*Q, X] -> [G, S, Hkv, Q, X] or [R, 1, Hkv, Q, X], the inverse of `_group_by_prompt`."""
    states = grouped.view(layout.num_prompts, heads, layout.max_samples, -1, grouped.shape[-1]).transpose(1, 2)
    return (
        states
        if layout.to_slot_order is None
        else states.flatten(0, 1).index_select(0, layout.to_slot_order).unsqueeze(1)
    )


def _packed_prefill(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    layer: int,
    metadata: StepMetadata,
    settings: AttentionSettings,
) -> torch.Tensor:
    """All tokens of all prompts to prefill at once: q [N, H, D], k and v [N, Hkv, D] -> [N, H, D]."""
    prefill_keys = metadata.prefill_keys(q.device)
    if layer in metadata.shared_prefix_kv:
        prefix_kv = (part[0].transpose(0, 1) for part in metadata.shared_prefix_kv[layer])
        all_k, all_v = (torch.cat(both) for both in zip(prefix_kv, (k, v), strict=True))
    else:
        all_k, all_v = k, v
    if prefill_keys.num_unstored:
        prefix_k, prefix_v = (part[: prefill_keys.num_unstored].transpose(0, 1).unsqueeze(0) for part in (k, v))
        metadata.shared_prefix_kv[layer] = prefix_k, prefix_v
    keys, values = (part.index_select(0, prefill_keys.gather_index) for part in (all_k, all_v))
    for block, new in ((metadata.prompt_cache.keys, keys), (metadata.prompt_cache.values, values)):
        block[layer].transpose(1, 2).index_put_(
            (prefill_keys.slots, prefill_keys.positions), new[prefill_keys.num_unstored :]
        )
    return varlen_attention(q, keys, values, layout=prefill_keys.packing, settings=settings)


def _prefill_one(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *, settings: AttentionSettings) -> torch.Tensor:
    """Causal attention of the last L tokens of a prompt of K: q [1, H, L, D], k and v [1, Hkv, K, D] -> [1, H, L, D].

    L is less than K if the prompt's prefix was computed before.
    """
    length, keys, grouped_heads = q.shape[2], k.shape[2], q.shape[1] != k.shape[1]
    scaling, window = settings.scale(q.shape[-1]), settings.sliding_window
    if length == keys and supports_attention(q, v, settings):
        segment = SegmentTable.from_segments([(0, length, -1, 0)])
        new_q, new_k, new_v = (part[0].transpose(0, 1) for part in (q, k, v))
        out = compiled_forest_attention(new_q, new_k, new_v, segments=segment, settings=settings)
        return out.transpose(0, 1).unsqueeze(0)
    if settings.softcap is None and length == keys and (window is None or length <= window):
        return scaled_dot_product_attention(q, k, v, is_causal=True, scale=scaling, enable_gqa=grouped_heads)
    results = []
    position = torch.arange(keys, device=q.device)
    for start in range(keys - length, keys, QUERY_CHUNK):
        end = min(start + QUERY_CHUNK, keys)
        query_position, key_position = position[start:end, None], position[None, :end]
        masked = (
            key_position > query_position
            if window is None
            else (key_position > query_position) | (key_position <= query_position - window)
        )
        chunk = q[:, :, start - keys + length : end - keys + length]
        results.append(_masked_attention(chunk, k[:, :, :end], v[:, :, :end], masked=masked, settings=settings))
    return torch.cat(results, 2)


def _masked_attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *, masked: torch.Tensor, settings: AttentionSettings
) -> torch.Tensor:
    """Attention with a mask [Q, L], true where a key is hidden; the soft cap applies before the mask."""
    groups, scaling, softcap = q.shape[1] // k.shape[1], settings.scale(q.shape[-1]), settings.softcap
    if softcap is None and not q.is_cuda:
        return scaled_dot_product_attention(q, k, v, attn_mask=~masked, scale=scaling, enable_gqa=groups > 1)
    k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
    if softcap is None:  # no CUDA kernel supports a mask with grouped heads
        return scaled_dot_product_attention(q, k, v, attn_mask=~masked, scale=scaling)
    scores = softcap * torch.tanh(q @ k.transpose(2, 3) * (scaling / softcap))
    return scores.masked_fill(masked, float("-inf")).softmax(-1, dtype=torch.float32).to(q.dtype) @ v


AttentionInterface.register(SAMPLING_ATTENTION, sampling_attention)
