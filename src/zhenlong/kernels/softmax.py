"""What the output head does with logits by a kernel: on the CPU (`softmax.c`) two passes a row, in the cache.

Shapes: R rows, V vocabulary.
"""

from __future__ import annotations

import ctypes

import torch

from zhenlong.kernels import cuda
from zhenlong.kernels.build import NUMBER, POINTER, library, loaded


class Logits(ctypes.Structure):
    """`Logits` of softmax.c."""

    _fields_ = (*((name, NUMBER) for name in ("rows", "vocabulary", "row", "half")), ("at", POINTER))


def serves(logits: torch.Tensor) -> bool:
    """Whether a kernel computes this: fp32 or bf16 on the CPU, or what `cuda` serves."""
    if cuda.holds(logits):
        return cuda.serves(logits) and logits.stride(1) == 1
    kinds = (torch.float32, torch.bfloat16)
    return logits.device.type == "cpu" and logits.dtype in kinds and logits.stride(1) == 1 and library() is not None


def scored(
    logits: torch.Tensor, target: torch.Tensor, entropy: bool
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """Log-probability of each target [R], tops, sums of powers and entropies, all [R] in fp32, of logits [R, V].

    The logits become the powers e^(logit - top). The entropies are None unless asked for.
    """
    found = torch.empty(3 + entropy, len(logits), device=logits.device)
    scores, tops, sums, *spread = found
    wanted = target.contiguous()
    if cuda.holds(logits):
        cuda.score_rows(logits, wanted, found)
        return scores, tops, sums, spread[0] if entropy else None
    where = (each.data_ptr() for each in (wanted, scores, tops, sums, *spread))
    loaded().score_rows(ctypes.byref(_logits(logits)), *where, *[None] * (not entropy))
    return scores, tops, sums, spread[0] if entropy else None


def raised(logits: torch.Tensor, tops: torch.Tensor) -> torch.Tensor:
    """The powers e^(logit - top) in place of logits [R, V]; tops [R]."""
    if cuda.holds(logits):
        cuda.raise_rows(logits, tops.contiguous())
        return logits
    loaded().raise_rows(ctypes.byref(_logits(logits)), tops.contiguous().data_ptr())
    return logits


def _logits(logits: torch.Tensor) -> Logits:
    return Logits(*logits.shape, logits.stride(0), logits.dtype == torch.bfloat16, logits.data_ptr())
