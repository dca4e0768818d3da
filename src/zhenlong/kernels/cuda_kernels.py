"""Kernels for CUDA devices in Triton, which PyTorch's builds for CUDA bring along: what lies between matrix products.

Each reads and writes its numbers once, in whatever precision they are, and computes in fp32. This module is imported
only where Triton is; `zhenlong.kernels.cuda` starts them.

Shapes: R rows, D width, H heads.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit(do_not_specialize=["rows"])
def norm(states, row, weight, out, scales, rows, width, epsilon, TILE: tl.constexpr, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    """TILE rows of a root-mean-square norm, and what each row was multiplied by."""
    at = tl.program_id(0) * TILE + tl.arange(0, TILE)
    column = tl.arange(0, BLOCK)
    inside = (at < rows)[:, None] & (column < width)[None, :]
    starts = at.to(tl.int64)[:, None]
    x = tl.load(states + starts * row + column[None, :], mask=inside, other=0.0).to(tl.float32)
    w = tl.load(weight + column, mask=column < width, other=0.0).to(tl.float32)
    scale = 1.0 / tl.sqrt(tl.sum(x * x, 1) / width + epsilon)
    tl.store(scales + at, scale, mask=at < rows)
    tl.store(out + starts * width + column[None, :], x * scale[:, None] * w[None, :], mask=inside)


@triton.jit(do_not_specialize=["rows", "tiles"])
def norm_backward(  # type: ignore[no-untyped-def]
    gradient, step, states, row, weight, scales, to_states, to_weight, rows, tiles, width,
    TILE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Tiles of rows in turn, and the sum of their gradients of the weight into this program's row of `to_weight`."""
    column = tl.arange(0, BLOCK)
    w = tl.load(weight + column, mask=column < width, other=0.0).to(tl.float32)
    total = tl.zeros((BLOCK,), tl.float32)
    for tile in range(tl.program_id(0), tiles, tl.num_programs(0)):
        at = tile * TILE + tl.arange(0, TILE)
        inside = (at < rows)[:, None] & (column < width)[None, :]
        starts = at.to(tl.int64)[:, None]
        g = tl.load(gradient + starts * step + column[None, :], mask=inside, other=0.0).to(tl.float32)
        x = tl.load(states + starts * row + column[None, :], mask=inside, other=0.0).to(tl.float32)
        scale = tl.load(scales + at, mask=at < rows, other=0.0)
        normed = x * scale[:, None]
        weighted = g * w[None, :]
        along = tl.sum(weighted * normed, 1) / width
        tl.store(to_states + starts * width + column[None, :], (weighted - normed * along[:, None]) * scale[:, None],
                 mask=inside)  # fmt: skip
        total += tl.sum(g * normed, 0)
    tl.store(to_weight + tl.program_id(0).to(tl.int64) * width + column, total, mask=column < width)


@triton.jit
def gate(gates, ups, out, count, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    """silu(gate) * up."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    g = tl.load(gates + at, mask=at < count, other=0.0).to(tl.float32)
    u = tl.load(ups + at, mask=at < count, other=0.0).to(tl.float32)
    tl.store(out + at, g * tl.sigmoid(g) * u, mask=at < count)


@triton.jit
def gate_backward(gradient, gates, ups, to_gates, to_ups, count, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    given = tl.load(gradient + at, mask=at < count, other=0.0).to(tl.float32)
    g = tl.load(gates + at, mask=at < count, other=0.0).to(tl.float32)
    u = tl.load(ups + at, mask=at < count, other=0.0).to(tl.float32)
    share = tl.sigmoid(g)
    tl.store(to_gates + at, given * u * share * (1.0 + g * (1.0 - share)), mask=at < count)
    tl.store(to_ups + at, given * g * share, mask=at < count)


@triton.jit
def rotate(  # type: ignore[no-untyped-def]
    states, token, head, cosines, sines, out, heads, size, BACK: tl.constexpr, TILE: tl.constexpr, BLOCK: tl.constexpr
):
    """The heads of a token turned, dimension i with i + size/2; backward by the angles' opposites."""
    number = tl.program_id(0).to(tl.int64)
    half = size // 2
    at = tl.arange(0, TILE)[:, None]
    column = tl.arange(0, BLOCK)
    known = column < half
    inside = (at < heads) & known[None, :]
    first = states + number * token + at * head + column[None, :]
    x = tl.load(first, mask=inside, other=0.0).to(tl.float32)
    y = tl.load(first + half, mask=inside, other=0.0).to(tl.float32)
    angle = number * size + column
    cos_x = tl.load(cosines + angle, mask=known, other=0.0).to(tl.float32)[None, :]
    cos_y = tl.load(cosines + angle + half, mask=known, other=0.0).to(tl.float32)[None, :]
    sin_x = tl.load(sines + angle, mask=known, other=0.0).to(tl.float32)[None, :]
    sin_y = tl.load(sines + angle + half, mask=known, other=0.0).to(tl.float32)[None, :]
    if BACK:
        turned_x, turned_y = x * cos_x + y * sin_y, y * cos_y - x * sin_x
    else:
        turned_x, turned_y = x * cos_x - y * sin_x, y * cos_y + x * sin_y
    target = out + (number * heads + at) * size + column[None, :]
    tl.store(target, turned_x, mask=inside)
    tl.store(target + half, turned_y, mask=inside)


@triton.jit
def score(  # type: ignore[no-untyped-def]
    logits, row, targets, scores, tops, sums, spreads, vocabulary, ENTROPY: tl.constexpr, BLOCK: tl.constexpr
):
    """A row's log-probability of its target, largest logit, sum of powers and entropy; logits become powers."""
    number = tl.program_id(0)
    start = logits + number.to(tl.int64) * row
    wanted = tl.load(start + tl.load(targets + number)).to(tl.float32)
    column = tl.arange(0, BLOCK)
    most = tl.full((BLOCK,), float("-inf"), tl.float32)
    for begin in range(0, vocabulary, BLOCK):
        x = tl.load(start + begin + column, mask=begin + column < vocabulary, other=float("-inf")).to(tl.float32)
        most = tl.maximum(most, x)
    top = tl.max(most, 0)
    total = tl.zeros((BLOCK,), tl.float32)
    weighted = tl.zeros((BLOCK,), tl.float32)
    for begin in range(0, vocabulary, BLOCK):
        inside = begin + column < vocabulary
        shifted = tl.load(start + begin + column, mask=inside, other=float("-inf")).to(tl.float32) - top
        power = tl.exp(shifted)
        total += power
        if ENTROPY:
            weighted += tl.where(power > 0.0, power * shifted, 0.0)
        tl.store(start + begin + column, power, mask=inside)
    found = tl.sum(total, 0)
    log = tl.log(found)
    tl.store(scores + number, wanted - top - log)
    tl.store(tops + number, top)
    tl.store(sums + number, found)
    if ENTROPY:
        tl.store(spreads + number, log - tl.sum(weighted, 0) / found)


@triton.jit
def raise_powers(logits, row, tops, vocabulary, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    """e^(logit - top) in place of a block of a row's logits."""
    number = tl.program_id(0)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    place = logits + number.to(tl.int64) * row + column
    x = tl.load(place, mask=column < vocabulary, other=0.0).to(tl.float32)
    tl.store(place, tl.exp(x - tl.load(tops + number)), mask=column < vocabulary)
