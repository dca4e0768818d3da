"""Matrix products of linear layers on x86 processors by oneDNN, forward and backward.

In fp32 PyTorch computes them with MKL, which on an AMD processor with AVX-512 was half as fast as oneDNN, which comes
with PyTorch too (docs/models.md). With AVX2 MKL is the faster one for gradients of weights, whose sides oneDNN
wants turned over first. Both are IEEE fp32.

Mixed precision on a processor that multiplies bf16 rounds both sides of a product to bf16 and hands its result on in
fp32, so that all else stays in fp32 and with the kernels. PyTorch's autocast would keep the results in bf16.

Shapes: M rows, K inputs, N outputs.
"""

from __future__ import annotations

from typing import Any, Final

import torch
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear as torch_linear

from zhenlong.kernels.build import library, loaded

HERE: Final = (
    torch.backends.mkldnn.is_available()
    and torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")
    and hasattr(torch.ops.mkldnn, "_linear_pointwise")
)
OUTER_BY_ONEDNN: Final = torch.backends.cpu.get_cpu_capability() == "AVX512"  # gradients of weights
MULTIPLIES_BF16: Final = HERE and any(
    getattr(torch.cpu, name, lambda: False)() for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
)
NOTHING: Final[tuple[str, list[float], str]] = ("none", [], "")  # is done to the result


def serves(states: torch.Tensor) -> bool:
    """Whether oneDNN computes products of `states` here: fp32 on the CPU, without mixed precision."""
    return bool(
        HERE
        and states.dtype == torch.float32
        and states.device.type == "cpu"
        and torch.backends.mkldnn.enabled
        and not torch.is_autocast_enabled("cpu")
    )


def mixed() -> bool:
    """Whether layers on the CPU multiply in bf16 now, and do all else in fp32."""
    return bool(
        MULTIPLIES_BF16
        and torch.is_autocast_enabled("cpu")
        and torch.get_autocast_dtype("cpu") == torch.bfloat16
        and torch.backends.mkldnn.enabled
    )


def full_precision() -> bool:
    """Whether what is no product is computed in fp32 on the CPU now: without mixed precision, or with `mixed`."""
    return not torch.is_autocast_enabled("cpu") or mixed()


def product(rows: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """rows [M, K] @ weight.T [K, N] + bias -> [M, N], without a gradient; `weight` [N, K] may come from `packed`."""
    if serves(rows):
        return torch.ops.mkldnn._linear_pointwise(rows, weight, bias, *NOTHING)
    return torch_linear(rows, weight, bias)


def added(sums: torch.Tensor, rows: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """sums [M, N] + rows [M, K] @ weight.T, without a gradient; `sums` may be overwritten."""
    if serves(rows):
        return torch.ops.mkldnn._linear_pointwise.binary(rows, sums, weight, None, "add")
    return sums.addmm_(rows, weight.t())


def packed(weight: torch.Tensor, rows: int) -> torch.Tensor:
    """The weight in oneDNN's own order, which is best for that many `rows`; only `product` and `added` can read it."""
    return torch.ops.mkldnn._reorder_linear_weight(weight.detach(), rows) if serves(weight) else weight


def linear(states: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """`torch.nn.functional.linear` with a gradient: states [..., K] -> [..., N]."""
    half = mixed() and states.dtype == torch.float32 and states.device.type == "cpu"
    if not (half or serves(states)) or not states.numel() or weight.dtype != torch.float32:
        return torch_linear(states, weight, bias)
    rows = states.reshape(-1, states.shape[-1])
    return (_Half if half else _Linear).apply(rows, weight, bias).view(*states.shape[:-1], -1)


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        ctx.save_for_backward(rows, weight)
        return product(rows, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        rows, weight = ctx.saved_tensors
        to_rows, to_weight, to_bias = ctx.needs_input_grad
        gradient = gradient.contiguous()  # what a sum hands back has no memory of its own
        return (
            product(gradient, weight.t()) if to_rows else None,
            outer(gradient, rows) if to_weight else None,
            gradient.sum(0) if to_bias else None,
        )


class _Half(torch.autograd.Function):
    """The same with both sides of each product rounded to bf16. It keeps fp32 states, which other layers keep too."""

    @staticmethod
    def forward(ctx: Any, rows: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        ctx.save_for_backward(rows, weight)
        out = (rows.bfloat16() @ weight.bfloat16().t()).float()
        return out if bias is None else out.add_(bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        rows, weight = ctx.saved_tensors
        to_rows, to_weight, to_bias = ctx.needs_input_grad
        half = gradient.bfloat16()
        return (
            (half @ weight.bfloat16()).float() if to_rows else None,
            (half.t() @ rows.bfloat16()).float() if to_weight else None,
            gradient.sum(0) if to_bias else None,
        )


def outer(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """left.T @ right -> [N, K], from [M, N] and [M, K]; oneDNN likes fewer rows than columns in the result."""
    if not (serves(left) and OUTER_BY_ONEDNN):
        return left.t() @ right
    if left.shape[1] <= right.shape[1]:
        return product(transposed(left), right.t())
    return transposed(product(transposed(right), left.t()))


def add_outer(sums: torch.Tensor, left: torch.Tensor, right: torch.Tensor) -> None:
    """sums [N, K] += left.T @ right, from [M, N] and [M, K]; the sums may be of a higher precision."""
    if sums.dtype == left.dtype and not (serves(left) and OUTER_BY_ONEDNN):
        sums.addmm_(left.t(), right)
    else:
        sums += outer(left, right)


def transposed(rows: torch.Tensor) -> torch.Tensor:
    """rows [M, N] as [N, M] in memory of its own."""
    if library() is None or rows.dtype != torch.float32 or rows.device.type != "cpu" or rows.stride(1) != 1:
        return rows.t().contiguous()
    out = rows.new_empty(rows.shape[1], rows.shape[0])
    loaded().transpose(*rows.shape, rows.data_ptr(), rows.stride(0), out.data_ptr())
    return out
