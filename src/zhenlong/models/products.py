"""Matrix products of linear layers in fp32 on x86 processors by oneDNN, forward and backward.

PyTorch computes them with MKL, which on an AMD processor with AVX-512 was half as fast as oneDNN, which comes with
PyTorch too (docs/models.md). Both are IEEE fp32.

Shapes: M rows, K inputs, N outputs.
"""

from __future__ import annotations

from types import MethodType
from typing import Any, Final

import torch
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear as torch_linear

HERE: Final = (
    torch.backends.mkldnn.is_available()
    and torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")
    and hasattr(torch.ops.mkldnn, "_linear_pointwise")
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
    if not serves(states) or not states.numel() or weight.dtype != torch.float32:
        return torch_linear(states, weight, bias)
    rows = states.reshape(-1, states.shape[-1])
    return _Linear.apply(rows, weight, bias).view(*states.shape[:-1], -1)


def use_in(model: nn.Module) -> None:
    """Let the model's plain linear layers compute by `linear`; they stay what they are in every other respect."""
    if not HERE:
        return
    for module in model.modules():
        if type(module) is nn.Linear:
            module.forward = MethodType(_forward, module)  # type: ignore[method-assign]


def unused_in(model: nn.Module) -> None:
    """Give the model's linear layers their own forward pass back."""
    for module in model.modules():
        if getattr(module.__dict__.get("forward"), "__func__", None) is _forward:
            del module.forward


def _forward(layer: nn.Linear, states: torch.Tensor) -> torch.Tensor:
    return linear(states, layer.weight, layer.bias)


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


def outer(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """left.T @ right -> [N, K], from [M, N] and [M, K]; oneDNN is faster with fewer rows than columns in the result."""
    if not serves(left):
        return left.t() @ right
    if left.shape[1] <= right.shape[1]:
        return product(left.t(), right.t())
    return product(right.t(), left.t()).t().contiguous()
