"""Starting the kernels of `cuda_kernels.py`: what a decoder layer and the output head do between products, on CUDA.

PyTorch in eager mode takes a kernel for every operation, and each reads and writes device memory: a norm is seven of
them. These kernels are one each. Triton compiles them when they are first needed and keeps them in the user's cache.

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

from zhenlong.kernels.build import SWITCH, allowed

PRECISIONS: Final = (torch.float32, torch.bfloat16, torch.float16)
WIDEST_NORM: Final = 1 << 14  # a row's numbers are held by one program
TILE: Final = 1 << 12  # numbers of narrow rows that one program takes together
BLOCK: Final = 1 << 11  # numbers of a flat tensor that one program takes
LOGITS_BLOCK: Final = 1 << 13  # of a row that one program takes at a time
PROGRAMS: Final = 4  # of a multiprocessor, for sums over all rows


def holds(states: torch.Tensor) -> bool:
    """Whether a CUDA device does."""
    return states.is_cuda


def serves(*states: torch.Tensor) -> bool:
    """Whether the kernels compute this: floating-point numbers on a CUDA device, with Triton."""
    known = all(holds(each) and each.dtype in PRECISIONS and each.numel() > 0 for each in states)
    return known and allowed() and _works()


def norm_rows(
    rows: torch.Tensor, weight: torch.Tensor, epsilon: float, out: torch.Tensor, scales: torch.Tensor
) -> None:
    """Root-mean-square norm of rows [R, D] into `out`; `scales` [R], fp32, gets what each row was multiplied by."""
    count, width = rows.shape
    block, tile, warps = _tiling(width)
    with _on(rows):
        _kernels().norm[(-(-count // tile),)](
            rows, rows.stride(0), weight, out, scales, count, width, epsilon, TILE=tile, BLOCK=block, num_warps=warps
        )


def norm_rows_backward(
    given: torch.Tensor, rows: torch.Tensor, weight: torch.Tensor, scales: torch.Tensor, to_rows: torch.Tensor
) -> torch.Tensor:
    """The gradient of rows [R, D] into `to_rows`; returns that of the weight in parts [any, D], in fp32."""
    count, width = rows.shape
    block, tile, warps = _tiling(width)
    tiles = -(-count // tile)
    programs = min(tiles, PROGRAMS * _multiprocessors(rows.device))
    to_weight = torch.empty(programs, width, dtype=torch.float32, device=rows.device)
    with _on(rows):
        _kernels().norm_backward[(programs,)](
            given, given.stride(0), rows, rows.stride(0), weight, scales, to_rows, to_weight, count, tiles, width,
            TILE=tile, BLOCK=block, num_warps=warps
        )  # fmt: skip
    return to_weight


def gate_rows(gates: torch.Tensor, ups: torch.Tensor, out: torch.Tensor) -> None:
    """silu(gate) * up of rows [R, D] into `out`."""
    gates, ups = gates.contiguous(), ups.contiguous()
    with _on(gates):
        _kernels().gate[(-(-gates.numel() // BLOCK),)](gates, ups, out, gates.numel(), BLOCK=BLOCK, num_warps=8)


def gate_rows_backward(
    given: torch.Tensor, gates: torch.Tensor, ups: torch.Tensor, to_gates: torch.Tensor, to_ups: torch.Tensor
) -> None:
    given, gates, ups = (each.contiguous() for each in (given, gates, ups))
    with _on(gates):
        _kernels().gate_backward[(-(-gates.numel() // BLOCK),)](
            given, gates, ups, to_gates, to_ups, gates.numel(), BLOCK=BLOCK, num_warps=8
        )


def rotate(states: torch.Tensor, cosines: torch.Tensor, sines: torch.Tensor, back: bool, out: torch.Tensor) -> None:
    """states [1, H, N, D] turned by angles [1, N, D], or back, into `out` [N, H, D]."""
    _, heads, tokens, size = states.shape
    steps = states.stride(2), states.stride(1)
    with _on(states):
        _kernels().rotate[(tokens,)](
            states, *steps, cosines, sines, out, heads, size,
            BACK=back, TILE=_power_of_two(heads), BLOCK=_power_of_two(size // 2), num_warps=4,
        )  # fmt: skip


def score_rows(logits: torch.Tensor, target: torch.Tensor, found: torch.Tensor) -> None:
    """Of logits [R, V], which become powers: scores, tops, sums and, if `found` [3 or 4, R] has room, entropies."""
    scores, tops, sums, *spread = found
    entropy = bool(spread)
    with _on(logits):
        _kernels().score[(len(logits),)](
            logits, logits.stride(0), target, scores, tops, sums, spread[0] if entropy else sums, logits.shape[1],
            ENTROPY=entropy, BLOCK=min(LOGITS_BLOCK, _power_of_two(logits.shape[1])), num_warps=16,
        )  # fmt: skip


def raise_rows(logits: torch.Tensor, tops: torch.Tensor) -> None:
    """The powers e^(logit - top) in place of logits [R, V]; tops [R]."""
    block = min(LOGITS_BLOCK, _power_of_two(logits.shape[1]))
    with _on(logits):
        _kernels().raise_powers[(len(logits), -(-logits.shape[1] // block))](
            logits, logits.stride(0), tops, logits.shape[1], BLOCK=block, num_warps=8
        )


def _tiling(width: int) -> tuple[int, int, int]:
    """Numbers of a row with padding, rows of a program, and its warps."""
    block = _power_of_two(width)
    return block, max(1, TILE // block), 4 if block <= TILE else 16


def _power_of_two(count: int) -> int:
    """The least power of two that is not below."""
    return 1 << (count - 1).bit_length()


@functools.cache
def _multiprocessors(device: torch.device) -> int:
    return int(torch.cuda.get_device_properties(device).multi_processor_count) if device.type == "cuda" else 1


def _on(states: torch.Tensor) -> AbstractContextManager[None]:
    """Triton starts kernels on the current device."""
    if not states.is_cuda or states.device.index == torch.cuda.current_device():
        return nullcontext()
    return torch.cuda.device(states.device)


@functools.cache
def _kernels() -> ModuleType:
    """Imported when first needed: PyTorch's builds for CPUs come without Triton."""
    return importlib.import_module("zhenlong.kernels.cuda_kernels")


@functools.cache
def _works() -> bool:
    """Whether Triton is there and can compile for this device; a warning says once where it cannot."""
    try:
        rows = torch.ones(1, 8, device="cuda")
        norm_rows(rows, rows[0], 0.0, torch.empty_like(rows), rows.new_empty(1))
        torch.cuda.synchronize()
    except Exception as error:  # of Triton, its compiler, the C compiler or the driver
        told = (str(error).strip() or type(error).__name__).splitlines()[0]
        warnings.warn(f"{told}: the GPU computes without compiled kernels, which is slower; {SWITCH}=0 says that this "
                      "is meant", stacklevel=2)  # fmt: skip
        return False
    return True
