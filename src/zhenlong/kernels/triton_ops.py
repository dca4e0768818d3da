"""Launches the Triton kernels of `triton_kernels.py` on CUDA: RMSNorm, SwiGLU, RoPE and the LM head's softmax.

PyTorch in eager mode launches one kernel per operation, and each reads and writes device memory: seven for a norm. Here
each is a single kernel. Triton compiles them on first use and caches them for the user.

Shapes: R rows, D width, N tokens, H heads, V vocabulary.
"""

from __future__ import annotations

import functools
import importlib
import warnings
from contextlib import AbstractContextManager, nullcontext
from types import ModuleType
from typing import Final

import torch

from zhenlong.kernels.build import ENV_VARIABLE, kernels_enabled

SUPPORTED_DTYPES: Final = (torch.float32, torch.bfloat16, torch.float16)
MAX_NORM_WIDTH: Final = 1 << 14  # one program holds a row
TILE: Final = 1 << 12  # elements of narrow rows per program
BLOCK: Final = 1 << 11  # elements of a flat tensor per program
LOGITS_BLOCK: Final = 1 << 13  # logits of a row that a program reads at a time
PROGRAMS_PER_SM: Final = 4  # for reductions over all rows


def is_on_cuda(states: torch.Tensor) -> bool:
    """Whether the tensor is on a CUDA device; a function so that tests can interpret kernels on a CPU."""
    return states.is_cuda


def supports_triton(*states: torch.Tensor) -> bool:
    """Whether the kernels support these: floating-point tensors on a CUDA device, with Triton."""
    suitable = all(is_on_cuda(each) and each.dtype in SUPPORTED_DTYPES and each.numel() > 0 for each in states)
    return suitable and kernels_enabled() and _triton_works()


def launch_rms_norm(
    rows: torch.Tensor, weight: torch.Tensor, epsilon: float, *, out: torch.Tensor, inverse_rms: torch.Tensor
) -> None:
    """RMSNorm of rows [R, D] into `out`; `inverse_rms` [R], fp32, receives 1 / rms."""
    count, width = rows.shape
    block, tile, warps = _norm_tiling(width)
    with _on_device_of(rows):
        _triton_kernels().rms_norm_kernel[(-(-count // tile),)](
            rows,
            rows.stride(0),
            weight,
            out,
            inverse_rms,
            count,
            width,
            epsilon,
            TILE=tile,
            BLOCK=block,
            num_warps=warps,
        )


def launch_rms_norm_backward(
    grad_rows: torch.Tensor,
    rows: torch.Tensor,
    weight: torch.Tensor,
    *,
    inverse_rms: torch.Tensor,
    grad_input: torch.Tensor,
) -> torch.Tensor:
    """Gradient of rows [R, D] into `grad_input`; returns partial sums [any, D] of the weight gradient, in fp32."""
    count, width = rows.shape
    block, tile, warps = _norm_tiling(width)
    tiles = -(-count // tile)
    programs = min(tiles, PROGRAMS_PER_SM * _multiprocessor_count(rows.device))
    grad_weight = torch.empty(programs, width, dtype=torch.float32, device=rows.device)
    with _on_device_of(rows):
        _triton_kernels().rms_norm_backward_kernel[(programs,)](
            grad_rows, grad_rows.stride(0), rows, rows.stride(0), weight, inverse_rms, grad_input, grad_weight,
            count, tiles, width, TILE=tile, BLOCK=block, num_warps=warps
        )  # fmt: skip
    return grad_weight


def launch_swiglu(gates: torch.Tensor, ups: torch.Tensor, out: torch.Tensor) -> None:
    """silu(gate) * up of rows [R, D] into `out`."""
    gates, ups = gates.contiguous(), ups.contiguous()
    with _on_device_of(gates):
        _triton_kernels().swiglu_kernel[(-(-gates.numel() // BLOCK),)](
            gates, ups, out, gates.numel(), BLOCK=BLOCK, num_warps=8
        )


def launch_swiglu_backward(
    grad_rows: torch.Tensor, gates: torch.Tensor, ups: torch.Tensor, *, grad_gates: torch.Tensor, grad_ups: torch.Tensor
) -> None:
    """Gradients of gates and ups, both [R, D], into `grad_gates` and `grad_ups`."""
    grad_rows, gates, ups = (each.contiguous() for each in (grad_rows, gates, ups))
    with _on_device_of(gates):
        _triton_kernels().swiglu_backward_kernel[(-(-gates.numel() // BLOCK),)](
            grad_rows, gates, ups, grad_gates, grad_ups, gates.numel(), BLOCK=BLOCK, num_warps=8
        )


def launch_rope(
    states: torch.Tensor, cosines: torch.Tensor, sines: torch.Tensor, *, backward: bool, out: torch.Tensor
) -> None:
    """Rotate states [1, H, N, D] by cosines and sines [1, N, D], or back, into `out` [N, H, D]."""
    _, heads, tokens, head_dim = states.shape
    strides = states.stride(2), states.stride(1)
    with _on_device_of(states):
        _triton_kernels().rope_kernel[(tokens,)](
            states, *strides, cosines, sines, out, heads, head_dim,
            BACKWARD=backward, TILE=_next_power_of_two(heads), BLOCK=_next_power_of_two(head_dim // 2), num_warps=4,
        )  # fmt: skip


def launch_log_softmax_gather(logits: torch.Tensor, target: torch.Tensor, out: torch.Tensor) -> None:
    """Target log-probabilities, maxima, sums and (`out` [4, R]) entropies; logits [R, V] become e^(x - max)."""
    log_probs, max_logits, exp_sums, *entropies = out
    with_entropy = bool(entropies)
    with _on_device_of(logits):
        _triton_kernels().log_softmax_gather_kernel[(len(logits),)](
            logits, logits.stride(0), target, log_probs, max_logits, exp_sums,
            entropies[0] if with_entropy else exp_sums, logits.shape[1],
            ENTROPY=with_entropy, BLOCK=min(LOGITS_BLOCK, _next_power_of_two(logits.shape[1])), num_warps=16,
        )  # fmt: skip


def launch_exp_rows(logits: torch.Tensor, max_logits: torch.Tensor) -> None:
    """Overwrite logits [R, V] by e^(logit - max_logit); `max_logits` [R]."""
    block = min(LOGITS_BLOCK, _next_power_of_two(logits.shape[1]))
    with _on_device_of(logits):
        _triton_kernels().exp_rows_kernel[(len(logits), -(-logits.shape[1] // block))](
            logits, logits.stride(0), max_logits, logits.shape[1], BLOCK=block, num_warps=8
        )


def _norm_tiling(width: int) -> tuple[int, int, int]:
    """Padded row width, rows per program, and warps per program."""
    block = _next_power_of_two(width)
    return block, max(1, TILE // block), 4 if block <= TILE else 16


def _next_power_of_two(count: int) -> int:
    """The smallest power of two >= count."""
    return 1 << (count - 1).bit_length()


@functools.cache
def _multiprocessor_count(device: torch.device) -> int:
    return int(torch.cuda.get_device_properties(device).multi_processor_count) if device.type == "cuda" else 1


def _on_device_of(states: torch.Tensor) -> AbstractContextManager[None]:
    """Make the tensor's device current: Triton launches on the current device."""
    if not states.is_cuda or states.device.index == torch.cuda.current_device():
        return nullcontext()
    return torch.cuda.device(states.device)


@functools.cache
def _triton_kernels() -> ModuleType:
    """Imported on first use: CPU builds of PyTorch have no Triton."""
    return importlib.import_module("zhenlong.kernels.triton_kernels")


@functools.cache
def _triton_works() -> bool:
    """Whether Triton is installed and compiles for this device; warns once if not."""
    try:
        rows = torch.ones(1, 8, device="cuda")
        launch_rms_norm(rows, rows[0], 0.0, out=torch.empty_like(rows), inverse_rms=rows.new_empty(1))
        torch.cuda.synchronize()
    except Exception as error:  # of Triton, its compiler, the C compiler or the driver
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        warnings.warn(
            f"{reason}: the GPU computes without compiled kernels, which is slower; set {ENV_VARIABLE}=0 if this is "
            "intended",
            stacklevel=2,
        )
        return False
    return True
