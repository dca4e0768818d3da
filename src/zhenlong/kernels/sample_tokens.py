"""Drawing ids from logits in fp32 on the CPU by a compiled kernel (`sample_tokens.c`): one pass, in place of a dozen.

Shapes: R rows, V vocabulary, K draws a row.
"""

from __future__ import annotations

import ctypes

import torch

from zhenlong.kernels.build import INT64, load_library, require_library


class SampleParams(ctypes.Structure):
    """`SampleParams` of sample_tokens.c."""

    _fields_ = (("rows", INT64), ("vocab_size", INT64), ("samples", INT64), ("temperature", ctypes.c_float))


def supports(logits: torch.Tensor) -> bool:
    """Whether the kernel draws from these: fp32 on the CPU."""
    return logits.dtype == torch.float32 and logits.device.type == "cpu" and load_library() is not None


def sample_from_logits(
    logits: torch.Tensor, uniforms: torch.Tensor, temperature: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and log-probabilities [R, K] under softmax(logits / temperature), from uniforms [R, K], float64.

    The id is the first at which the cumulative distribution passes its uniform number; one of probability 0 never is.
    """
    logits = logits if logits.stride(1) == 1 else logits.contiguous()
    uniforms = uniforms.contiguous()
    ids = torch.empty(uniforms.shape, dtype=torch.int64)
    log_probs = torch.empty(uniforms.shape, dtype=torch.float32)
    params = SampleParams(*logits.shape, uniforms.shape[1], temperature)
    pointers = (uniforms.data_ptr(), ids.data_ptr(), log_probs.data_ptr())
    if require_library().sample_from_logits(ctypes.byref(params), logits.data_ptr(), logits.stride(0), *pointers):
        raise MemoryError("sampling: no memory for the probabilities of one row")
    return ids, log_probs
