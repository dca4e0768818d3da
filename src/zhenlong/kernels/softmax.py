"""Log-softmax of the LM head's logits by kernels: two passes over each row on the CPU (`softmax.c`), Triton on CUDA.

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


def supports_softmax(logits: torch.Tensor) -> bool:
    """Whether a kernel supports these: fp32 or bf16 on the CPU, or what `triton_ops` supports."""
    if triton_ops.is_on_cuda(logits):
        return triton_ops.supports_triton(logits) and logits.stride(1) == 1
    dtypes = (torch.float32, torch.bfloat16)
    return (
        logits.device.type == "cpu" and logits.dtype in dtypes and logits.stride(1) == 1 and load_library() is not None
    )


def log_softmax_gather(
    logits: torch.Tensor, target: torch.Tensor, entropy: bool
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """Target log-probabilities, row maxima, sums of exponentials and entropies of logits [R, V], each [R] in fp32.

    Overwrites the logits by e^(logit - row maximum). Entropies are None unless `entropy`.
    """
    out = torch.empty(3 + entropy, len(logits), device=logits.device)
    log_probs, max_logits, exp_sums, *entropies = out
    target_ids = target.contiguous()
    if triton_ops.is_on_cuda(logits):
        triton_ops.launch_log_softmax_gather(logits, target_ids, out)
        return log_probs, max_logits, exp_sums, entropies[0] if entropy else None
    pointers = (each.data_ptr() for each in (target_ids, log_probs, max_logits, exp_sums, *entropies))
    require_library().log_softmax_gather(ctypes.byref(_logits(logits)), *pointers, *[None] * (not entropy))
    return log_probs, max_logits, exp_sums, entropies[0] if entropy else None


def exp_rows(logits: torch.Tensor, max_logits: torch.Tensor) -> torch.Tensor:
    """Overwrite logits [R, V] by e^(logit - max_logit); `max_logits` [R]."""
    if triton_ops.is_on_cuda(logits):
        triton_ops.launch_exp_rows(logits, max_logits.contiguous())
        return logits
    require_library().exp_rows(ctypes.byref(_logits(logits)), max_logits.contiguous().data_ptr())
    return logits


def _logits(logits: torch.Tensor) -> Logits:
    return Logits(
        rows=logits.shape[0],
        vocab_size=logits.shape[1],
        row_stride=logits.stride(0),
        is_bf16=logits.dtype == torch.bfloat16,
        data=logits.data_ptr(),
    )
