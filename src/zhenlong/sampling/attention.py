"""Attention of one sampling step, registered with transformers under its own name.

A step is one flat batch [1, N]: first one token of each of R running rows, then all tokens of prompts that enter. A
running row attends to its prompt, whose keys and values all rows of the prompt share, and to what it has generated
itself; both score blocks go through one softmax. A prompt attends causally to itself and leaves its keys and values in
the store. With small models the number of tensor operations decides the speed, so whatever is the same for all layers
is prepared once (`zhenlong.sampling.step`) and a layer is left with about ten operations.
Legend: R rows, G prompts with running rows, S rows of a prompt, P positions of the longest prompt, W positions of the
running rows' own, H query heads, Hkv key heads, Q = H / Hkv, D head size.
"""

from __future__ import annotations

from typing import Any, Final

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from zhenlong.forest.attention import HARMLESS, UnsupportedAttention
from zhenlong.forest.packed import can_pack, packed_attention, precision_of
from zhenlong.kernels import decoding as compiled
from zhenlong.kernels.attention import Trees, forest_attention
from zhenlong.kernels.attention import serves as kernels_serve
from zhenlong.sampling.step import BEGINNING, Layout, Step

NAME: Final = "zhenlong_sampling"
QUERY_CHUNK: Final = 512  # queries of an entering prompt scored at a time where the scores have to be held


@torch.compiler.disable
def step_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    step: Step,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """Attention of a flat batch of running rows and entering prompts.

    query [1, H, N, D], key and value [1, Hkv, N, D] -> [1, N, H, D]. Raises `UnsupportedAttention` for keywords it does
    not know to be harmless, such as attention sinks.
    """
    for name, given in others.items():
        if given is not None and (name not in HARMLESS or (name == "is_causal" and not given)):
            raise UnsupportedAttention(f"attention is asked to honour {name}")
    if attention_mask is not None:
        raise UnsupportedAttention("attention is asked to honour a mask of its own")
    step.windows.add(sliding_window)
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    layer = int(module.layer_idx)  # type: ignore[arg-type]
    dtype = precision_of(query)
    q, k, v = (states[0].transpose(0, 1).to(dtype) for states in (query, key, value))  # [N, H, D]
    with torch.autocast(query.device.type, enabled=False):
        return flat_attention(q, k, v, layer, step, scaling, sliding_window, softcap).unsqueeze(0), None


def flat_attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    layer: int,
    step: Step,
    scaling: float,
    window: int | None,
    softcap: float | None,
) -> torch.Tensor:
    """The same of q [N, H, D], k and v [N, Hkv, D] -> [N, H, D], in the layer of that number."""
    if not step.entering:
        return _running(q, k, v, layer, step, scaling, window, softcap)
    parts = []
    if step.rows:
        rows = slice(0, step.rows)
        parts.append(_running(q[rows], k[rows], v[rows], layer, step, scaling, window, softcap))
    if step.shared.empty:
        step.shared.allocate(k.transpose(0, 1), v.transpose(0, 1))
    if can_pack(q, v, 0.0, softcap):
        entering = slice(step.rows, None)
        parts.append(_together(q[entering], k[entering], v[entering], layer, step, scaling, window))
        return torch.cat(parts)
    for slot, start, end in step.entering:
        new_q, new_k, new_v = (part[start:end].transpose(0, 1).unsqueeze(0) for part in (q, k, v))  # [1, H, L, D]
        if slot == BEGINNING:
            step.beginning[layer] = new_k, new_v
        else:
            if layer in step.beginning:
                old_k, old_v = step.beginning[layer]
                new_k, new_v = torch.cat((old_k, new_k), 2), torch.cat((old_v, new_v), 2)
            step.shared.keys[layer, slot, :, : new_k.shape[2]] = new_k[0]
            step.shared.values[layer, slot, :, : new_v.shape[2]] = new_v[0]
        out = _entering(new_q, new_k, new_v, scaling, window, softcap)
        parts.append(out[0].transpose(0, 1))
    return torch.cat(parts)


def _running(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    layer: int,
    step: Step,
    scaling: float,
    window: int | None,
    softcap: float | None,
) -> torch.Tensor:
    """One token of every running row: q [R, H, D], k and v [R, Hkv, D] -> [R, H, D]."""
    if compiled.serves(q, v, softcap):
        of_rows, of_prompts = ((store.keys[layer], store.values[layer]) for store in (step.own, step.shared))
        return compiled.decoding_attention(q, k, v, of_rows, of_prompts, step.places, step.column, scaling, window)
    step.write(layer, k, v)
    views, layout, heads = step.views(), step.layout, k.shape[1]
    q = q.reshape(step.rows * heads, -1, q.shape[-1])  # [R*Hkv, Q, D]
    q = q if scaling == 1 else q * scaling
    keys, values = views.shared_keys[layer], views.shared_values[layer]
    scores, of_prompt, own = views.scores(q, layout, heads)
    longest, (mask_of_prompt, own_mask) = keys.shape[-1], step.masks(window)
    found = torch.bmm(_by_prompt(q, layout, heads), keys)
    torch.add(_capped(_by_row(found, layout, heads), softcap), mask_of_prompt, out=of_prompt)
    found = torch.bmm(q, views.own_keys[layer])
    torch.add(_capped(found.view(own.shape), softcap), own_mask, out=own)
    weights = scores.softmax(-1)  # of half precision computed in fp32
    found = torch.bmm(_by_prompt(weights[..., :longest], layout, heads), values)
    seen = _by_row(found, layout, heads).reshape(*q.shape[:2], -1)  # values may be narrower than keys
    return seen.baddbmm_(weights[..., longest:], views.own_values[layer]).view(step.rows, -1, v.shape[-1])


def _capped(scores: torch.Tensor, softcap: float | None) -> torch.Tensor:
    return scores if softcap is None else softcap * torch.tanh(scores / softcap)  # Gemma 2, §2


def _by_prompt(rows: torch.Tensor, layout: Layout, heads: int) -> torch.Tensor:
    """[R*Hkv, Q, X] -> [G*Hkv, S*Q, X]: all rows of a prompt become the queries of one product."""
    queries, size = rows.shape[1:]
    if layout.gather is not None:
        rows = rows.reshape(layout.rows, heads * queries * size).index_select(0, layout.gather)
        rows = rows.view(-1, queries, size)
    grouped = rows.view(layout.prompts, layout.width, heads, queries, size).transpose(1, 2)
    return grouped.reshape(layout.prompts * heads, layout.width * queries, size)


def _by_row(grouped: torch.Tensor, layout: Layout, heads: int) -> torch.Tensor:
    """[G*Hkv, S*Q, X] -> [G, S, Hkv, Q, X] or [R, 1, Hkv, Q, X], the inverse of `_by_prompt`."""
    rows = grouped.view(layout.prompts, heads, layout.width, -1, grouped.shape[-1]).transpose(1, 2)
    return rows if layout.back is None else rows.flatten(0, 1).index_select(0, layout.back).unsqueeze(1)


def _together(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, layer: int, step: Step, scaling: float, window: int | None
) -> torch.Tensor:
    """All tokens of all entering prompts at once: q [N, H, D], k and v [N, Hkv, D] -> [N, H, D]."""
    together = step.together(q.device)
    if layer in step.beginning:
        before = (part[0].transpose(0, 1) for part in step.beginning[layer])
        all_k, all_v = (torch.cat(both) for both in zip(before, (k, v), strict=True))
    else:
        all_k, all_v = k, v
    if together.unkept:
        beginning_k, beginning_v = (part[: together.unkept].transpose(0, 1).unsqueeze(0) for part in (k, v))
        step.beginning[layer] = beginning_k, beginning_v
    keys, values = (part.index_select(0, together.source) for part in (all_k, all_v))
    for block, new in ((step.shared.keys, keys), (step.shared.values, values)):
        block[layer].transpose(1, 2).index_put_((together.slots, together.places), new[together.unkept :])
    return packed_attention(q, keys, values, together.packing, scaling, window)


def _entering(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scaling: float, window: int | None, softcap: float | None
) -> torch.Tensor:
    """Causal attention of the end of one prompt over all of it: q [1, H, L, D], k and v [1, Hkv, K, D] -> [1, H, L, D].

    L is less than K where the prompt's beginning was computed before.
    """
    length, keys, shared = q.shape[2], k.shape[2], q.shape[1] != k.shape[1]
    if softcap is None and length == keys and kernels_serve(q, v, 0.0, softcap):
        whole = Trees.of([(0, length, -1, 0)])
        new_q, new_k, new_v = (part[0].transpose(0, 1) for part in (q, k, v))
        return forest_attention(new_q, new_k, new_v, whole, scaling, window).transpose(0, 1).unsqueeze(0)
    if softcap is None and length == keys and (window is None or length <= window):
        return scaled_dot_product_attention(q, k, v, is_causal=True, scale=scaling, enable_gqa=shared)
    results = []
    position = torch.arange(keys, device=q.device)
    for start in range(keys - length, keys, QUERY_CHUNK):
        end = min(start + QUERY_CHUNK, keys)
        query, seen = position[start:end, None], position[None, :end]
        hidden = seen > query if window is None else (seen > query) | (seen <= query - window)
        chunk = q[:, :, start - keys + length : end - keys + length]
        results.append(_masked(chunk, k[:, :, :end], v[:, :, :end], hidden, scaling, softcap))
    return torch.cat(results, 2)


def _masked(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, hidden: torch.Tensor, scaling: float, softcap: float | None
) -> torch.Tensor:
    """Attention with some keys hidden from some queries [Q, L]; scores pass through the cap before the mask."""
    groups = q.shape[1] // k.shape[1]
    if softcap is None and not q.is_cuda:
        return scaled_dot_product_attention(q, k, v, attn_mask=~hidden, scale=scaling, enable_gqa=groups > 1)
    k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
    if softcap is None:  # no kernel on CUDA takes a mask and shared heads
        return scaled_dot_product_attention(q, k, v, attn_mask=~hidden, scale=scaling)
    scores = softcap * torch.tanh(q @ k.transpose(2, 3) * (scaling / softcap))
    return scores.masked_fill(hidden, float("-inf")).softmax(-1, dtype=torch.float32).to(q.dtype) @ v


AttentionInterface.register(NAME, step_attention)
