"""Triton kernels for CUDA devices: RMSNorm, SwiGLU, RoPE and the LM head's softmax, forward and backward.

Each reads and writes its tensors once, in their own dtype, and computes in fp32. Imported only where Triton is
installed (CUDA builds of PyTorch include it); `zhenlong.kernels.triton_ops` launches them. A Triton kernel takes every
pointer, stride and size as a parameter of its own, so these functions have more than others.

Shapes: R rows, D width, H heads.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit(do_not_specialize=["rows"])
def rms_norm_kernel(  # type: ignore[no-untyped-def]
    states, row_stride, weight, out, inverse_rms, rows, width, epsilon, TILE: tl.constexpr, BLOCK: tl.constexpr
):
    """RMSNorm of TILE rows, and 1 / rms of each."""
    row_ids = tl.program_id(0) * TILE + tl.arange(0, TILE)
    column = tl.arange(0, BLOCK)
    inside = (row_ids < rows)[:, None] & (column < width)[None, :]
    starts = row_ids.to(tl.int64)[:, None]
    x = tl.load(states + starts * row_stride + column[None, :], mask=inside, other=0.0).to(tl.float32)
    w = tl.load(weight + column, mask=column < width, other=0.0).to(tl.float32)
    scale = 1.0 / tl.sqrt(tl.sum(x * x, 1) / width + epsilon)
    tl.store(inverse_rms + row_ids, scale, mask=row_ids < rows)
    tl.store(out + starts * width + column[None, :], x * scale[:, None] * w[None, :], mask=inside)


@triton.jit(do_not_specialize=["rows", "tiles"])
def rms_norm_backward_kernel(  # type: ignore[no-untyped-def]
    gradient, gradient_stride, states, row_stride, weight, inverse_rms, grad_states, grad_weight, rows, tiles, width,
    TILE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Gradients of every num_programs-th tile; sums their weight gradients into this program's row of `grad_weight`."""
    column = tl.arange(0, BLOCK)
    w = tl.load(weight + column, mask=column < width, other=0.0).to(tl.float32)
    total = tl.zeros((BLOCK,), tl.float32)
    for tile in range(tl.program_id(0), tiles, tl.num_programs(0)):
        row_ids = tile * TILE + tl.arange(0, TILE)
        inside = (row_ids < rows)[:, None] & (column < width)[None, :]
        starts = row_ids.to(tl.int64)[:, None]
        g = tl.load(gradient + starts * gradient_stride + column[None, :], mask=inside, other=0.0).to(tl.float32)
        x = tl.load(states + starts * row_stride + column[None, :], mask=inside, other=0.0).to(tl.float32)
        scale = tl.load(inverse_rms + row_ids, mask=row_ids < rows, other=0.0)
        normed = x * scale[:, None]
        weighted = g * w[None, :]
        along = tl.sum(weighted * normed, 1) / width
        tl.store(grad_states + starts * width + column[None, :], (weighted - normed * along[:, None]) * scale[:, None],
                 mask=inside)  # fmt: skip
        total += tl.sum(g * normed, 0)
    tl.store(grad_weight + tl.program_id(0).to(tl.int64) * width + column, total, mask=column < width)


@triton.jit
def swiglu_kernel(gates, ups, out, count, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    """silu(gate) * up."""
    offsets = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    g = tl.load(gates + offsets, mask=offsets < count, other=0.0).to(tl.float32)
    u = tl.load(ups + offsets, mask=offsets < count, other=0.0).to(tl.float32)
    tl.store(out + offsets, g * tl.sigmoid(g) * u, mask=offsets < count)


@triton.jit
def swiglu_backward_kernel(gradient, gates, ups, grad_gates, grad_ups, count, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    offsets = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    grad = tl.load(gradient + offsets, mask=offsets < count, other=0.0).to(tl.float32)
    g = tl.load(gates + offsets, mask=offsets < count, other=0.0).to(tl.float32)
    u = tl.load(ups + offsets, mask=offsets < count, other=0.0).to(tl.float32)
    gate_sigmoid = tl.sigmoid(g)
    tl.store(grad_gates + offsets, grad * u * gate_sigmoid * (1.0 + g * (1.0 - gate_sigmoid)), mask=offsets < count)
    tl.store(grad_ups + offsets, grad * g * gate_sigmoid, mask=offsets < count)


@triton.jit
def rope_kernel(  # type: ignore[no-untyped-def]
    states,
    token_stride,
    head_stride,
    cosines,
    sines,
    out,
    heads,
    head_dim,
    BACKWARD: tl.constexpr,
    TILE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Rotate all heads of a token, dimension i with i + head_dim/2; BACKWARD applies the transpose."""
    token = tl.program_id(0).to(tl.int64)
    half = head_dim // 2
    head_ids = tl.arange(0, TILE)[:, None]
    column = tl.arange(0, BLOCK)
    in_half = column < half
    inside = (head_ids < heads) & in_half[None, :]
    first = states + token * token_stride + head_ids * head_stride + column[None, :]
    x = tl.load(first, mask=inside, other=0.0).to(tl.float32)
    y = tl.load(first + half, mask=inside, other=0.0).to(tl.float32)
    angle = token * head_dim + column
    cos_x = tl.load(cosines + angle, mask=in_half, other=0.0).to(tl.float32)[None, :]
    cos_y = tl.load(cosines + angle + half, mask=in_half, other=0.0).to(tl.float32)[None, :]
    sin_x = tl.load(sines + angle, mask=in_half, other=0.0).to(tl.float32)[None, :]
    sin_y = tl.load(sines + angle + half, mask=in_half, other=0.0).to(tl.float32)[None, :]
    if BACKWARD:
        rotated_x, rotated_y = x * cos_x + y * sin_y, y * cos_y - x * sin_x
    else:
        rotated_x, rotated_y = x * cos_x - y * sin_x, y * cos_y + x * sin_y
    target = out + (token * heads + head_ids) * head_dim + column[None, :]
    tl.store(target, rotated_x, mask=inside)
    tl.store(target + half, rotated_y, mask=inside)


@triton.jit
def log_softmax_gather_kernel(  # type: ignore[no-untyped-def]
    logits,
    row_stride,
    targets,
    log_probs,
    max_logits,
    exp_sums,
    entropies,
    vocab_size,
    ENTROPY: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Target log-probability, maximum, sum of exponentials and entropy of a row; logits become e^(logit - maximum)."""
    row = tl.program_id(0)
    start = logits + row.to(tl.int64) * row_stride
    target_logit = tl.load(start + tl.load(targets + row)).to(tl.float32)
    column = tl.arange(0, BLOCK)
    block_max = tl.full((BLOCK,), float("-inf"), tl.float32)
    for begin in range(0, vocab_size, BLOCK):
        x = tl.load(start + begin + column, mask=begin + column < vocab_size, other=float("-inf")).to(tl.float32)
        block_max = tl.maximum(block_max, x)
    max_logit = tl.max(block_max, 0)
    total = tl.zeros((BLOCK,), tl.float32)
    weighted = tl.zeros((BLOCK,), tl.float32)
    for begin in range(0, vocab_size, BLOCK):
        inside = begin + column < vocab_size
        shifted = tl.load(start + begin + column, mask=inside, other=float("-inf")).to(tl.float32) - max_logit
        power = tl.exp(shifted)
        total += power
        if ENTROPY:
            weighted += tl.where(power > 0.0, power * shifted, 0.0)
        tl.store(start + begin + column, power, mask=inside)
    exp_sum = tl.sum(total, 0)
    log_sum = tl.log(exp_sum)
    tl.store(log_probs + row, target_logit - max_logit - log_sum)
    tl.store(max_logits + row, max_logit)
    tl.store(exp_sums + row, exp_sum)
    if ENTROPY:
        tl.store(entropies + row, log_sum - tl.sum(weighted, 0) / exp_sum)


@triton.jit
def exp_rows_kernel(logits, row_stride, max_logits, vocab_size, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    """Overwrite a block of a row's logits by e^(logit - maximum)."""
    row = tl.program_id(0)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    pointers = logits + row.to(tl.int64) * row_stride + column
    x = tl.load(pointers, mask=column < vocab_size, other=0.0).to(tl.float32)
    tl.store(pointers, tl.exp(x - tl.load(max_logits + row)), mask=column < vocab_size)
