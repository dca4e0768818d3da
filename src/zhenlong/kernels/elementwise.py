"""What a decoder layer does between its products: in fp32 on the CPU (`elementwise.c`), in any precision on CUDA.

Under mixed precision on CUDA the results have its precision, in which the products that read them would have rounded
them one by one.

Shapes: M rows, D width; N tokens, H heads.
"""

from __future__ import annotations

import functools
from typing import Any, Final

import torch
from torch.autograd.function import once_differentiable

from zhenlong.kernels import cuda
from zhenlong.kernels.build import library, loaded
from zhenlong.kernels.products import full_precision

BLOCK: Final = 128  # rows whose gradients of a norm's weight are summed together: BLOCK of elementwise.c


def serves(*states: torch.Tensor) -> bool:
    """Whether kernels compute this, with gradients: fp32 on the CPU, or what `cuda` serves."""
    return cuda.serves(*states) if cuda.holds(states[0]) else serves_rows(*states)


def serves_rows(*states: torch.Tensor) -> bool:
    """Whether the functions without a gradient compute this: fp32 on the CPU."""
    return (
        all(each.dtype == torch.float32 and each.device.type == "cpu" and each.numel() > 0 for each in states)
        and full_precision()
        and library() is not None
    )


def rms_norm(states: torch.Tensor, weight: torch.Tensor, epsilon: float) -> torch.Tensor:
    """states [..., D] / sqrt(mean of their squares + epsilon) * weight [D] (Zhang and Sennrich 2019, eq. 4)."""
    return _Norm.apply(states, weight, epsilon)


def gated(gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    """silu(gate) * up of [..., D] each (Shazeer 2020, eq. 6)."""
    return _Gated.apply(gate, up)


def rotated(states: torch.Tensor, cosines: torch.Tensor, sines: torch.Tensor) -> torch.Tensor:
    """states [1, H, N, D] turned by angles given as [1, N, D], dimension i with i + D/2 (Su et al. 2021, §3.4.2)."""
    return _Rotated.apply(states, cosines, sines)


def norm_rows(
    rows: torch.Tensor,
    weight: torch.Tensor | None,
    epsilon: float,
    out: torch.Tensor,
    scales: torch.Tensor | None = None,
) -> torch.Tensor:
    """`rms_norm` of rows [M, D] into `out`, without a gradient; `scales` [M] gets what each row was multiplied by.

    On the CPU, as are the next two.
    """
    where = (None if part is None else part.data_ptr() for part in (weight, out, scales))
    at_weight, at_out, at_scales = where
    loaded().rms_norm(*rows.shape, *_at(rows), at_weight, epsilon, at_out, at_scales)
    return out


def gate_rows(gates: torch.Tensor, ups: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
    """`gated` of rows [M, D] into `out`, without a gradient."""
    loaded().gated(*gates.shape, *_at(gates), *_at(ups), out.data_ptr())
    return out


def rotate_pairs(states: torch.Tensor, heads: int, turns: torch.Tensor) -> torch.Tensor:
    """The first `heads` of states [N, any, D], neighbouring dimensions turned by complex [N, 1, D/2], in place."""
    loaded().rotate_pairs(len(states), heads, states.shape[2], *_at(states), turns.data_ptr())
    return states


class _Norm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, states: torch.Tensor, weight: torch.Tensor, epsilon: float) -> torch.Tensor:
        rows, weight = _rows(states), weight.contiguous()
        out = rows.new_empty(rows.shape, dtype=_kind_of(states, weight))
        scales = rows.new_empty(len(rows), dtype=torch.float32)
        (cuda.norm_rows if cuda.holds(rows) else norm_rows)(rows, weight, epsilon, out, scales)
        ctx.save_for_backward(rows, weight, scales)
        return out.view(states.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        rows, weight, scales = ctx.saved_tensors
        given = _rows(gradient)
        to_rows = rows.new_empty(rows.shape)
        if cuda.holds(rows):
            to_weight = cuda.norm_rows_backward(given, rows, weight, scales, to_rows)
        else:
            to_weight = rows.new_empty(-(-len(rows) // BLOCK), rows.shape[1])
            loaded().rms_norm_backward(
                *rows.shape, *_at(given), *_at(rows), *_where(weight, scales, to_rows, to_weight)
            )
        return to_rows.view(gradient.shape), to_weight.sum(0).to(weight.dtype), None


class _Gated(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
        gates, ups = _rows(gate), _rows(up)
        out = gates.new_empty(gates.shape, dtype=_kind_of(gate, up))
        (cuda.gate_rows if cuda.holds(gates) else gate_rows)(gates, ups, out)
        ctx.save_for_backward(gates, ups)
        return out.view(gate.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, ...]:
        gates, ups = ctx.saved_tensors
        given = _rows(gradient)
        to_gates, to_ups = (each.new_empty(each.shape) for each in (gates, ups))
        if cuda.holds(gates):
            cuda.gate_rows_backward(given, gates, ups, to_gates, to_ups)
        else:
            loaded().gated_backward(*gates.shape, *_at(given), *_at(gates), *_at(ups), *_where(to_gates, to_ups))
        return to_gates.view(gradient.shape), to_ups.view(gradient.shape)


class _Rotated(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, states: torch.Tensor, cosines: torch.Tensor, sines: torch.Tensor) -> torch.Tensor:
        cosines, sines = cosines.contiguous(), sines.contiguous()
        ctx.save_for_backward(cosines, sines)
        ctx.kind = states.dtype
        return _rotated(states, cosines, sines, _kind_of(states, cosines, sines), back=False)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        cosines, sines = ctx.saved_tensors
        return _rotated(gradient, cosines, sines, ctx.kind, back=True), None, None


def _rotated(
    states: torch.Tensor, cosines: torch.Tensor, sines: torch.Tensor, kind: torch.dtype, back: bool
) -> torch.Tensor:
    """[1, H, N, D] that lie as [N, H, D]."""
    states = states if states.stride(-1) == 1 else states.contiguous()
    _, heads, tokens, size = states.shape
    out = states.new_empty(tokens, heads, size, dtype=kind)
    if cuda.holds(states):
        cuda.rotate(states, cosines, sines, back, out)
    else:
        steps = states.data_ptr(), states.stride(2), states.stride(1)
        loaded().rotate(tokens, heads, size, *steps, *_where(cosines, sines), back, out.data_ptr())
    return out.transpose(0, 1).unsqueeze(0)


def _kind_of(*states: torch.Tensor) -> torch.dtype:
    """The precision of a result: that of mixed precision, which on the CPU only products have."""
    kind = states[0].device.type
    if kind != "cpu" and torch.is_autocast_enabled(kind):
        return torch.get_autocast_dtype(kind)
    return functools.reduce(torch.promote_types, (each.dtype for each in states))


def _rows(states: torch.Tensor) -> torch.Tensor:
    """[M, D], each row's numbers side by side; a view where that can be."""
    rows = states.reshape(-1, states.shape[-1])
    return rows if rows.stride(1) == 1 else rows.contiguous()


def _at(rows: torch.Tensor) -> tuple[int, int]:
    return rows.data_ptr(), rows.stride(0)


def _where(*parts: torch.Tensor) -> tuple[int, ...]:
    return tuple(part.data_ptr() for part in parts)
