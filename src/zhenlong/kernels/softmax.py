"""What the output head does with logits by a kernel: on the CPU (`softmax.c`) two passes a row, in the cache.

Shapes: R rows, V vocabulary.
"""

from __future__ import annotations

import ctypes

import torch

from zhenlong.kernels import triton_ops
from zhenlong.kernels.build import INT64, POINTER, load_library, require_library


class Logits(ctypes.Structure):
    """`Logits` of softmax.c."""

    _fields_ = (*((name, INT64) for name in ("rows", "vocab_size", "row_stride", "is_bf16")), ("data", POINTER))


def supports(logits: torch.Tensor) -> bool:
    """Whether a kernel computes this: fp32 or bf16 on the CPU, or what `triton_ops` supports."""
    if triton_ops.is_on_cuda(logits):
        return triton_ops.supports(logits) and logits.stride(1) == 1
    dtypes = (torch.float32, torch.bfloat16)
    return (
        logits.device.type == "cpu" and logits.dtype in dtypes and logits.stride(1) == 1 and load_library() is not None
    )


def log_softmax_gather(
    logits: torch.Tensor, target: torch.Tensor, entropy: bool
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """Log-probability of each target [R], tops, sums of powers and entropies, all [R] in fp32, of logits [R, V].

    The logits become the powers e^(logit - top). The entropies are None unless asked for.
    """
    out = torch.empty(3 + entropy, len(logits), device=logits.device)
    log_probs, max_logits, exp_sums, *entropies = out
    target_ids = target.contiguous()
    if triton_ops.is_on_cuda(logits):
        triton_ops.log_softmax_gather(logits, target_ids, out)
        return log_probs, max_logits, exp_sums, entropies[0] if entropy else None
    pointers = (each.data_ptr() for each in (target_ids, log_probs, max_logits, exp_sums, *entropies))
    require_library().log_softmax_gather(ctypes.byref(_logits(logits)), *pointers, *[None] * (not entropy))
    return log_probs, max_logits, exp_sums, entropies[0] if entropy else None


def exp_rows(logits: torch.Tensor, max_logits: torch.Tensor) -> torch.Tensor:
    """The powers e^(logit - top) in place of logits [R, V]; tops [R]."""
    if triton_ops.is_on_cuda(logits):
        triton_ops.exp_rows(logits, max_logits.contiguous())
        return logits
    require_library().exp_rows(ctypes.byref(_logits(logits)), max_logits.contiguous().data_ptr())
    return logits


def _logits(logits: torch.Tensor) -> Logits:
    return Logits(*logits.shape, logits.stride(0), logits.dtype == torch.bfloat16, logits.data_ptr())
