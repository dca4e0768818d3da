"""The device and the precision that the options select."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch

from zhenlong.errors import UserError
from zhenlong.models.options import ModelOptions


def device_of(options: ModelOptions) -> torch.device:
    """The device that the options name; `auto` is the first CUDA device, else the CPU. `UserError` if it is missing."""
    has_cuda = torch.cuda.is_available()
    if options.device == "auto":
        return torch.device("cuda" if has_cuda else "cpu")
    try:
        device = torch.device(options.device)
    except RuntimeError:
        raise UserError(f"device: expected auto, cpu, cuda or cuda:<number>, got {options.device!r}") from None
    if device.type == "cuda" and (not has_cuda or (device.index or 0) >= torch.cuda.device_count()):
        count = torch.cuda.device_count() if has_cuda else 0
        raise UserError(f"device: {options.device!r} is not available ({count} CUDA devices found); use auto or cpu")
    return device


def compute_dtype(options: ModelOptions, device: torch.device) -> torch.dtype:
    """Precision of matrix products: bfloat16 when requested, or when `auto` and CUDA supports it; else float32."""
    if options.dtype == "auto":
        supported = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if supported else torch.float32
    return getattr(torch, options.dtype)


def autocast(dtype: torch.dtype, device: torch.device) -> AbstractContextManager[None]:
    """Run a forward pass with products in `dtype`: weights keep their type, bfloat16 products go through autocast.

    Compute reference, old and new log-probabilities under the same context, or they are not comparable.
    """
    return torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32)
