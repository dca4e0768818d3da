"""Attention of one sampling step, registered with transformers under its own name.

A step is one flat batch [1, N]: first one token of each of R running rows, then all tokens of prompts that enter. A
running row attends to its prompt, whose keys and values all rows of the prompt share, and to what it has generated
itself; both score blocks go through one softmax. A prompt attends causally to itself and leaves its keys and values in
the store. Legend: R rows, G prompts with running rows, S rows of a prompt, P positions of the longest prompt, T
positions of the longest answer, H query heads, Hkv key heads, D head size.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from zhenlong.forest.attention import HARMLESS, UnsupportedAttention
from zhenlong.sampling.store import Store

NAME: Final = "zhenlong_sampling"
QUERY_CHUNK: Final = 512  # queries scored at a time where the scores have to be held


@dataclass
class Grouping:
    """Which running row continues which prompt."""

    gather: torch.Tensor | None  # [G, S] rows of each prompt, padded with row 0; None: they lie in order already
    back: torch.Tensor | None  # [R] place of each row in [G * S]
    prompts: int  # G
    width: int  # S
    lengths: torch.Tensor  # [R] length of each row's prompt
    longest: int  # P


@dataclass
class Step:
    """What attention has to know about one step."""

    shared: Store  # prompts: slot g holds prompt g
    own: Store  # answers: slot r holds row r
    rows: int  # R
    grouping: Grouping
    slots: torch.Tensor  # [R] 0 ... R-1
    written: torch.Tensor  # [R] positions already written of each row's own slot
    reach: int  # T, the token of this step included
    entering: list[tuple[int, int, int]]  # (slot, start, end) in the flat batch of each entering prompt
    windows: set[int | None] = field(default_factory=set)  # sliding windows that layers asked for
    masks: dict[int | None, torch.Tensor] = field(default_factory=dict)

    def mask(self, window: int | None) -> torch.Tensor:
        """0 where a row may look and -inf elsewhere [R, 1, 1, P + T]; built once a step for each window."""
        if window not in self.masks:
            lengths, written = self.grouping.lengths[:, None], self.written[:, None]
            shared = torch.arange(self.grouping.longest, device=written.device)[None]
            own = torch.arange(self.reach, device=written.device)[None]
            hidden_shared, hidden_own = shared >= lengths, own > written
            if window is not None:
                hidden_shared = hidden_shared | (shared <= lengths + written - window)
                hidden_own = hidden_own | (own <= written - window)
            hidden = torch.cat((hidden_shared, hidden_own), 1)
            mask = torch.zeros(hidden.shape, device=written.device).masked_fill_(hidden, float("-inf"))
            self.masks[window] = mask[:, None, None]
        return self.masks[window]


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
    asked = sorted(name for name, given in others.items() if given is not None and name not in HARMLESS)
    if asked or attention_mask is not None or others.get("is_causal") is False:
        raise UnsupportedAttention(f"attention is asked to honour {', '.join(asked) or 'a mask of its own'}")
    step.windows.add(sliding_window)
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    layer = int(module.layer_idx)  # type: ignore[arg-type]
    parts = []
    if step.rows:
        running = (states[0, :, : step.rows].transpose(0, 1) for states in (query, key, value))
        parts.append(_running(*running, layer, step, scaling, sliding_window, softcap))
    for slot, start, end in step.entering:
        q, k, v = (states[:, :, start:end] for states in (query, key, value))
        keys, values = step.shared.layer(layer, k, v)
        keys[slot, :, : end - start], values[slot, :, : end - start] = k[0], v[0]
        parts.append(_entering(q, k, v, scaling, sliding_window, softcap)[0].transpose(0, 1))
    return (parts[0] if len(parts) == 1 else torch.cat(parts)).unsqueeze(0), None


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
    grouping, heads = step.grouping, k.shape[1]
    keys, values = step.own.layer(layer, k.unsqueeze(2), v.unsqueeze(2))
    keys[step.slots, :, step.written], values[step.slots, :, step.written] = k, v
    shared_keys, shared_values = step.shared.layer(layer, k.unsqueeze(2), v.unsqueeze(2))
    longest, prompts = grouping.longest, grouping.prompts
    q = (q * scaling).reshape(step.rows, heads, -1, q.shape[-1])  # [R, Hkv, H/Hkv, D]
    scores = torch.cat(
        (
            _by_row(_by_prompt(q, grouping) @ shared_keys[:prompts, :, :longest].transpose(2, 3), grouping),
            q @ keys[: step.rows, :, : step.reach].transpose(2, 3),
        ),
        -1,
    )  # [R, Hkv, H/Hkv, P + T]
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    weights = (scores + step.mask(window)).softmax(-1, dtype=torch.float32).to(q.dtype)
    of_prompt = _by_prompt(weights[..., :longest], grouping) @ shared_values[:prompts, :, :longest]
    of_answer = weights[..., longest:] @ values[: step.rows, :, : step.reach]
    return (_by_row(of_prompt, grouping) + of_answer).flatten(1, 2)


def _by_prompt(rows: torch.Tensor, grouping: Grouping) -> torch.Tensor:
    """[R, Hkv, Q, X] -> [G, Hkv, S * Q, X]: the rows of a prompt become queries of one product."""
    heads = rows.shape[1]
    if grouping.gather is None:
        grouped = rows.unflatten(0, (grouping.prompts, grouping.width))
    else:
        grouped = rows[grouping.gather]
    return grouped.transpose(1, 2).reshape(grouping.prompts, heads, -1, rows.shape[-1])


def _by_row(grouped: torch.Tensor, grouping: Grouping) -> torch.Tensor:
    """[G, Hkv, S * Q, X] -> [R, Hkv, Q, X], the inverse of `_by_prompt`."""
    rows = grouped.unflatten(2, (grouping.width, -1)).transpose(1, 2).flatten(0, 1)
    return rows if grouping.back is None else rows[grouping.back]


def _entering(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scaling: float, window: int | None, softcap: float | None
) -> torch.Tensor:
    """Causal attention of one prompt over itself: q [1, H, L, D], k and v [1, Hkv, L, D] -> [1, H, L, D]."""
    length, shared = q.shape[2], q.shape[1] != k.shape[1]
    if softcap is None and (window is None or length <= window):
        return scaled_dot_product_attention(q, k, v, is_causal=True, scale=scaling, enable_gqa=shared)
    results = []
    position = torch.arange(length, device=q.device)
    for start in range(0, length, QUERY_CHUNK):
        end = min(start + QUERY_CHUNK, length)
        query, seen = position[start:end, None], position[None, :end]
        hidden = seen > query if window is None else (seen > query) | (seen <= query - window)
        results.append(_masked(q[:, :, start:end], k[:, :, :end], v[:, :, :end], hidden, scaling, softcap))
    return torch.cat(results, 2)


def _masked(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, hidden: torch.Tensor, scaling: float, softcap: float | None
) -> torch.Tensor:
    """Attention with some keys hidden from some queries [Q, L]; scores pass through the cap first (Gemma 2, §2)."""
    if softcap is None:
        shared = q.shape[1] != k.shape[1]
        return scaled_dot_product_attention(q, k, v, attn_mask=~hidden, scale=scaling, enable_gqa=shared)
    groups = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
    scores = softcap * torch.tanh(q @ k.transpose(2, 3) * scaling / softcap)
    return scores.masked_fill(hidden, float("-inf")).softmax(-1, dtype=torch.float32).to(q.dtype) @ v


AttentionInterface.register(NAME, step_attention)
