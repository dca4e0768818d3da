"""A plain stand-in for the kernel of attention between sequences of unequal lengths, which is for CUDA devices only."""

from itertools import pairwise

import torch
from torch.nn.functional import scaled_dot_product_attention


def plain_kernel(q, k, v, query_bounds, key_bounds, most_queries, most_keys, *, scale, window_size, **_):
    """What FlashAttention computes: each sequence alone, the last query at the last key."""
    before, after = window_size
    assert after == 0
    results = []
    bounds = zip(pairwise(query_bounds.tolist()), pairwise(key_bounds.tolist()), strict=True)
    for (q0, q1), (k0, k1) in bounds:
        assert q1 - q0 <= most_queries
        assert k1 - k0 <= most_keys
        key = torch.arange(k1 - k0)[None]
        position = torch.arange(k1 - k0 - (q1 - q0), k1 - k0)[:, None]
        seen = key <= position
        if before >= 0:
            seen &= key >= position - before
        parts = (part.transpose(0, 1)[None] for part in (q[q0:q1], k[k0:k1], v[k0:k1]))
        results.append(
            scaled_dot_product_attention(*parts, attn_mask=seen, scale=scale, enable_gqa=True)[0].transpose(0, 1)
        )
    return torch.cat(results)
