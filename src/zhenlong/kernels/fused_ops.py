"""RMSNorm, SwiGLU, RoPE and the LM head's log-softmax as fused kernels.

In fp32 on the CPU (`fused_ops.c`, and for the softmax also in bf16, `softmax.c`: two passes over each row), and in any
dtype on CUDA; RoPE on CUDA only. Under autocast on CUDA results have the autocast dtype: the matmuls that read them
would cast them to it anyway.

Shapes: M rows, D width; N tokens, H heads; R rows of logits, V vocabulary.
"""

from __future__ import annotations

import ctypes
import functools
from typing import Any, Final

import torch
from torch.autograd.function import once_differentiable

from zhenlong.kernels import triton_ops
from zhenlong.kernels.build import INT64, POINTER, load_library, require_library
from zhenlong.kernels.onednn_linear import non_matmul_in_fp32

WEIGHT_GRADIENT_BLOCK: Final = 128  # rows per partial sum of a norm's weight gradient: BLOCK of fused_ops.c


class Logits(ctypes.Structure):
    """`Logits` of softmax.c."""

    _fields_ = (*((name, INT64) for name in ("rows", "vocab_size", "row_stride", "is_bf16")), ("data", POINTER))


def supports_fused_ops(*states: torch.Tensor) -> bool:
    """Whether kernels support these, with gradients: fp32 on the CPU, or what `triton_ops` supports."""
    return triton_ops.supports_triton(*states) if triton_ops.is_on_cuda(states[0]) else supports_no_grad(*states)


def supports_no_grad(*states: torch.Tensor) -> bool:
    """Whether the functions without gradients (`*_rows`, `apply_rope_interleaved`) support these: fp32 on the CPU."""
    return (
        all(each.dtype == torch.float32 and each.device.type == "cpu" and each.numel() > 0 for each in states)
        and non_matmul_in_fp32()
        and load_library() is not None
    )


def supports_softmax(logits: torch.Tensor) -> bool:
    """Whether a kernel supports these: fp32 or bf16 on the CPU, or what `triton_ops` supports."""
    if triton_ops.is_on_cuda(logits):
        return triton_ops.supports_triton(logits) and logits.stride(1) == 1
    dtypes = (torch.float32, torch.bfloat16)
    return (
        logits.device.type == "cpu" and logits.dtype in dtypes and logits.stride(1) == 1 and load_library() is not None
    )


def rms_norm(states: torch.Tensor, weight: torch.Tensor, epsilon: float) -> torch.Tensor:
    """states [..., D] / sqrt(mean of their squares + epsilon) * weight [D] (Zhang and Sennrich 2019, eq. 4)."""
    return _RMSNorm.apply(states, weight, epsilon)


def swiglu(gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    """silu(gate) * up of [..., D] each (Shazeer 2020, eq. 6)."""
    return _SwiGLU.apply(gate, up)


def rope(states: torch.Tensor, cosines: torch.Tensor, sines: torch.Tensor) -> torch.Tensor:
    """On CUDA, states [1, H, N, D] rotated by cosines and sines [1, N, D], i with i + D/2 (Su et al. 2021, §3.4.2)."""
    return _RoPE.apply(states, cosines, sines)


def rms_norm_rows(
    rows: torch.Tensor,
    weight: torch.Tensor | None,
    epsilon: float,
    *,
    out: torch.Tensor,
    inverse_rms: torch.Tensor | None = None,
) -> torch.Tensor:
    """`rms_norm` of rows [M, D] into `out`, without a gradient, on the CPU; `inverse_rms` [M] receives 1 / rms."""
    pointers = (None if part is None else part.data_ptr() for part in (weight, out, inverse_rms))
    weight_pointer, out_pointer, inverse_rms_pointer = pointers
    require_library().rms_norm(
        *rows.shape, *_pointer_and_stride(rows), weight_pointer, epsilon, out_pointer, inverse_rms_pointer
    )
    return out


def swiglu_rows(gates: torch.Tensor, ups: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
    """`swiglu` of rows [M, D] into `out`, without a gradient, on the CPU."""
    require_library().swiglu(*gates.shape, *_pointer_and_stride(gates), *_pointer_and_stride(ups), out.data_ptr())
    return out


def apply_rope_interleaved(states: torch.Tensor, heads: int, freqs_cis: torch.Tensor) -> torch.Tensor:
    """Rotate the first `heads` of states [N, any, D] in place on the CPU: adjacent pairs times complex [N, 1, D/2]."""
    require_library().rope_interleaved(
        len(states), heads, states.shape[2], *_pointer_and_stride(states), freqs_cis.data_ptr()
    )
    return states


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


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, states: torch.Tensor, weight: torch.Tensor, epsilon: float) -> torch.Tensor:
        rows, weight = _as_rows(states), weight.contiguous()
        out = rows.new_empty(rows.shape, dtype=_result_dtype(states, weight))
        inverse_rms = rows.new_empty(len(rows), dtype=torch.float32)
        (triton_ops.launch_rms_norm if triton_ops.is_on_cuda(rows) else rms_norm_rows)(
            rows, weight, epsilon, out=out, inverse_rms=inverse_rms
        )
        ctx.save_for_backward(rows, weight, inverse_rms)
        return out.view(states.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        rows, weight, inverse_rms = ctx.saved_tensors
        grad_rows = _as_rows(grad_output)
        grad_input = rows.new_empty(rows.shape)
        if triton_ops.is_on_cuda(rows):
            grad_weight = triton_ops.launch_rms_norm_backward(
                grad_rows, rows, weight, inverse_rms=inverse_rms, grad_input=grad_input
            )
        else:
            grad_weight = rows.new_empty(-(-len(rows) // WEIGHT_GRADIENT_BLOCK), rows.shape[1])
            require_library().rms_norm_backward(
                *rows.shape,
                *_pointer_and_stride(grad_rows),
                *_pointer_and_stride(rows),
                *_pointers(weight, inverse_rms, grad_input, grad_weight),
            )
        return grad_input.view(grad_output.shape), grad_weight.sum(0).to(weight.dtype), None


class _SwiGLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
        gates, ups = _as_rows(gate), _as_rows(up)
        out = gates.new_empty(gates.shape, dtype=_result_dtype(gate, up))
        (triton_ops.launch_swiglu if triton_ops.is_on_cuda(gates) else swiglu_rows)(gates, ups, out)
        ctx.save_for_backward(gates, ups)
        return out.view(gate.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: torch.Tensor) -> tuple[torch.Tensor, ...]:
        gates, ups = ctx.saved_tensors
        grad_rows = _as_rows(grad_output)
        grad_gates, grad_ups = (each.new_empty(each.shape) for each in (gates, ups))
        if triton_ops.is_on_cuda(gates):
            triton_ops.launch_swiglu_backward(grad_rows, gates, ups, grad_gates=grad_gates, grad_ups=grad_ups)
        else:
            require_library().swiglu_backward(
                *gates.shape,
                *_pointer_and_stride(grad_rows),
                *_pointer_and_stride(gates),
                *_pointer_and_stride(ups),
                *_pointers(grad_gates, grad_ups),
            )
        return grad_gates.view(grad_output.shape), grad_ups.view(grad_output.shape)


class _RoPE(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, states: torch.Tensor, cosines: torch.Tensor, sines: torch.Tensor) -> torch.Tensor:
        cosines, sines = cosines.contiguous(), sines.contiguous()
        ctx.save_for_backward(cosines, sines)
        ctx.dtype = states.dtype
        dtype = _result_dtype(states, cosines, sines)
        return _rope(states, cosines, sines, dtype=dtype, backward=False)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        cosines, sines = ctx.saved_tensors
        return _rope(grad_output, cosines, sines, dtype=ctx.dtype, backward=True), None, None


def _rope(
    states: torch.Tensor, cosines: torch.Tensor, sines: torch.Tensor, *, dtype: torch.dtype, backward: bool
) -> torch.Tensor:
    """[1, H, N, D], stored as [N, H, D]."""
    states = states if states.stride(-1) == 1 else states.contiguous()
    _, heads, tokens, head_dim = states.shape
    out = states.new_empty(tokens, heads, head_dim, dtype=dtype)
    triton_ops.launch_rope(states, cosines, sines, backward=backward, out=out)
    return out.transpose(0, 1).unsqueeze(0)


def _result_dtype(*states: torch.Tensor) -> torch.dtype:
    """The dtype of a result: autocast's, which on the CPU applies to matmuls only."""
    device_type = states[0].device.type
    if device_type != "cpu" and torch.is_autocast_enabled(device_type):
        return torch.get_autocast_dtype(device_type)
    return functools.reduce(torch.promote_types, (each.dtype for each in states))


def _as_rows(states: torch.Tensor) -> torch.Tensor:
    """[M, D] with contiguous rows; a view where possible."""
    rows = states.reshape(-1, states.shape[-1])
    return rows if rows.stride(1) == 1 else rows.contiguous()


def _pointer_and_stride(rows: torch.Tensor) -> tuple[int, int]:
    return rows.data_ptr(), rows.stride(0)


def _pointers(*parts: torch.Tensor) -> tuple[int, ...]:
    return tuple(part.data_ptr() for part in parts)


def _logits(logits: torch.Tensor) -> Logits:
    return Logits(
        rows=logits.shape[0],
        vocab_size=logits.shape[1],
        row_stride=logits.stride(0),
        is_bf16=logits.dtype == torch.bfloat16,
        data=logits.data_ptr(),
    )
