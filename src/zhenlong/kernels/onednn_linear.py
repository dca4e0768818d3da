"""Matmuls of linear layers on x86 processors by oneDNN, forward and backward.

PyTorch's fp32 matmuls call MKL, which on an AMD processor with AVX-512 was half as fast as oneDNN, also a part of
PyTorch (docs/models.md). With AVX2 MKL is faster for weight gradients, whose operands oneDNN needs transposed. Both
are IEEE fp32.

Under bf16 autocast, on a processor with bf16 instructions, both operands are rounded to bf16 and the result is fp32, so
everything but matmuls stays in fp32 and in the kernels. PyTorch's autocast would return bf16.

Shapes: M rows, K inputs, N outputs.
"""

from __future__ import annotations

from typing import Any, Final

import torch
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear as torch_linear

from zhenlong.kernels.build import kernels_enabled, load_library, require_library

ONEDNN_AVAILABLE: Final = (
    torch.backends.mkldnn.is_available()
    and torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")
    and hasattr(torch.ops.mkldnn, "_linear_pointwise")
)
ONEDNN_WEIGHT_GRADIENT: Final = torch.backends.cpu.get_cpu_capability() == "AVX512"  # else MKL's
BF16_MATMUL_SUPPORTED: Final = ONEDNN_AVAILABLE and any(
    getattr(torch.cpu, name, lambda: False)() for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
)
NO_POST_OP: Final[tuple[str, list[float], str]] = ("none", [], "")  # to apply to the result


def supports_linear(states: torch.Tensor) -> bool:
    """Whether oneDNN multiplies `states` here: fp32 on the CPU, without autocast."""
    return bool(
        ONEDNN_AVAILABLE
        and states.dtype == torch.float32
        and states.device.type == "cpu"
        and kernels_enabled()
        and torch.backends.mkldnn.enabled
        and not torch.is_autocast_enabled("cpu")
    )


def bf16_matmul_active() -> bool:
    """Whether linear layers on the CPU multiply in bf16 now, with everything else in fp32."""
    return bool(
        BF16_MATMUL_SUPPORTED
        and torch.is_autocast_enabled("cpu")
        and torch.get_autocast_dtype("cpu") == torch.bfloat16
        and kernels_enabled()
        and torch.backends.mkldnn.enabled
    )


def non_matmul_in_fp32() -> bool:
    """Whether operations other than matmuls run in fp32 on the CPU now: no autocast, or `bf16_matmul_active`."""
    return not torch.is_autocast_enabled("cpu") or bf16_matmul_active()


def linear_no_grad(rows: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """rows [M, K] @ weight.T [K, N] + bias -> [M, N] without a gradient; `weight` [N, K] may be prepacked."""
    if weight.is_mkldnn or supports_linear(rows):  # only oneDNN can read a prepacked weight
        return torch.ops.mkldnn._linear_pointwise(rows, weight, bias, *NO_POST_OP)
    return torch_linear(rows, weight, bias)


def add_linear(sums: torch.Tensor, rows: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """sums [M, N] + rows [M, K] @ weight.T, without a gradient; `sums` may be overwritten."""
    if weight.is_mkldnn or supports_linear(rows):
        return torch.ops.mkldnn._linear_pointwise.binary(rows, sums, weight, None, "add")
    return sums.addmm_(rows, weight.t())


def prepack_weight(weight: torch.Tensor, rows: int) -> torch.Tensor:
    """The weight in oneDNN's blocked layout for that many `rows`; for `linear_no_grad` and `add_linear` only."""
    return torch.ops.mkldnn._reorder_linear_weight(weight.detach(), rows) if supports_linear(weight) else weight


def linear(states: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """`torch.nn.functional.linear` with a gradient: states [..., K] -> [..., N]."""
    bf16 = bf16_matmul_active() and states.dtype == torch.float32 and states.device.type == "cpu"
    if not (bf16 or supports_linear(states)) or not states.numel() or weight.dtype != torch.float32:
        return torch_linear(states, weight, bias)
    rows = states.reshape(-1, states.shape[-1])
    return (_BF16Linear if bf16 else _Linear).apply(rows, weight, bias).view(*states.shape[:-1], -1)


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        ctx.save_for_backward(rows, weight)
        return linear_no_grad(rows, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        rows, weight = ctx.saved_tensors
        needs_input, needs_weight, needs_bias = ctx.needs_input_grad
        grad_output = grad_output.contiguous()  # the gradient of a sum is an expanded scalar
        return (
            linear_no_grad(grad_output, weight.t()) if needs_input else None,
            weight_gradient(grad_output, rows) if needs_weight else None,
            grad_output.sum(0) if needs_bias else None,
        )


class _BF16Linear(torch.autograd.Function):
    """`_Linear` with both operands of each matmul rounded to bf16; saves the fp32 input, as other layers do."""

    @staticmethod
    def forward(ctx: Any, rows: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        ctx.save_for_backward(rows, weight)
        out = (rows.bfloat16() @ weight.bfloat16().t()).float()
        return out if bias is None else out.add_(bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        rows, weight = ctx.saved_tensors
        needs_input, needs_weight, needs_bias = ctx.needs_input_grad
        grad_bf16 = grad_output.bfloat16()
        return (
            (grad_bf16 @ weight.bfloat16()).float() if needs_input else None,
            (grad_bf16.t() @ rows.bfloat16()).float() if needs_weight else None,
            grad_output.sum(0) if needs_bias else None,
        )


def weight_gradient(grad_output: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
    """grad_output.T @ inputs -> [N, K], from [M, N] and [M, K]; oneDNN is faster with fewer rows than columns."""
    if not (supports_linear(grad_output) and ONEDNN_WEIGHT_GRADIENT):
        return grad_output.t() @ inputs
    if grad_output.shape[1] <= inputs.shape[1]:
        return linear_no_grad(transposed_copy(grad_output), inputs.t())
    return transposed_copy(linear_no_grad(transposed_copy(inputs), grad_output.t()))


def add_weight_gradient(sums: torch.Tensor, grad_output: torch.Tensor, inputs: torch.Tensor) -> None:
    """sums [N, K] += grad_output.T @ inputs, from [M, N] and [M, K]; `sums` may have a higher precision."""
    if sums.dtype == grad_output.dtype and not (supports_linear(grad_output) and ONEDNN_WEIGHT_GRADIENT):
        sums.addmm_(grad_output.t(), inputs)
    else:
        sums += weight_gradient(grad_output, inputs)


def transposed_copy(rows: torch.Tensor) -> torch.Tensor:
    """rows [M, N] transposed to a contiguous [N, M]."""
    if load_library() is None or rows.dtype != torch.float32 or rows.device.type != "cpu" or rows.stride(1) != 1:
        return rows.t().contiguous()
    out = rows.new_empty(rows.shape[1], rows.shape[0])
    require_library().transpose(*rows.shape, rows.data_ptr(), rows.stride(0), out.data_ptr())
    return out
