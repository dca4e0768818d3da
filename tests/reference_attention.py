"""A plain stand-in for the kernel of attention between sequences of unequal lengths, which is for CUDA devices only."""

from itertools import pairwise

import torch
from torch.nn.functional import scaled_dot_product_attention


def reference_varlen_attn(q, k, v, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k, *, scale, window_size, **_):
    """What FlashAttention computes: each sequence alone, the last query at the last key."""
    before, after = window_size
    assert after == 0
    results = []
    bounds = zip(pairwise(cu_seqlens_q.tolist()), pairwise(cu_seqlens_k.tolist()), strict=True)
    for (q0, q1), (k0, k1) in bounds:
        assert q1 - q0 <= max_seqlen_q
        assert k1 - k0 <= max_seqlen_k
        key = torch.arange(k1 - k0)[None]
        position = torch.arange(k1 - k0 - (q1 - q0), k1 - k0)[:, None]
        mask = key <= position
        if before >= 0:
            mask &= key >= position - before
        parts = (part.transpose(0, 1)[None] for part in (q[q0:q1], k[k0:k1], v[k0:k1]))
        results.append(
            scaled_dot_product_attention(*parts, attn_mask=mask, scale=scale, enable_gqa=True)[0].transpose(0, 1)
        )
    return torch.cat(results)
