"""Where keys and values are kept: one block of memory for every layer and slot, written in place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Final

import torch

MAX_POOLED_BYTES: Final = 2**28  # of CPU memory a sampler holds from call to call


@dataclass
class BufferPool:
    """Blocks of memory kept between calls, because fresh pages cost more than the numbers written to them.

    Only small blocks on the CPU are kept; on an accelerator torch's allocator keeps its own.
    """

    buffers: dict[str, torch.Tensor] = field(default_factory=dict)

    def get(self, name: str, shape: Sequence[int], like: torch.Tensor) -> torch.Tensor:
        """A tensor of finite numbers of that shape, and of the dtype and device of `like`.

        A masked position has weight 0, and 0 times NaN would be NaN: hence zeros, or what was left by an earlier call.
        """
        buffer, size = self.buffers.get(name), prod(shape)
        if buffer is None or buffer.numel() < size or buffer.dtype != like.dtype or buffer.device != like.device:
            buffer = like.new_zeros(size)
            if like.device.type == "cpu" and buffer.nbytes <= MAX_POOLED_BYTES:
                self.buffers[name] = buffer
        return buffer[:size].view(*shape)


class KVCache:
    """Keys and values [layers, slots, Hkv, positions, D] of all layers."""

    def __init__(self, name: str, layers: int, slots: int, positions: int, pool: BufferPool) -> None:
        self.name, self.layers, self.slots, self.positions, self.pool = name, layers, slots, positions, pool
        self.keys = self.values = torch.empty(0)

    @property
    def unallocated(self) -> bool:
        """Whether no memory has been taken yet."""
        return not self.keys.numel()

    def allocate(self, key: torch.Tensor, value: torch.Tensor) -> None:
        """Take the memory for keys and values shaped like these, [..., Hkv, anything, D]."""
        shape = (self.layers, self.slots, key.shape[-3], self.positions)
        self.keys = self.pool.get(f"{self.name} keys", (*shape, key.shape[-1]), key)
        self.values = self.pool.get(f"{self.name} values", (*shape, value.shape[-1]), value)

    def grow(self, positions: int) -> None:
        """Let every slot hold that many positions; what is there stays."""
        self.positions = positions
        if not self.unallocated:
            self.keys, self.values = (_grown(old, positions) for old in (self.keys, self.values))

    def shift_to_start(self, start: int, end: int) -> None:
        """Move the positions from `start` to `end` of every slot to the beginning."""
        for block in (self.keys, self.values):
            block[:, :, :, : end - start] = block[:, :, :, start:end].clone()

    def copy_slots(self, sources: Sequence[int], targets: Sequence[int], start: int, end: int) -> None:
        """Copy the positions from `start` to `end` of some slots over those of others, none being both."""
        if sources and end > start:
            for block in (self.keys, self.values):
                used = block[:, :, :, start:end]
                used[:, list(targets)] = used[:, list(sources)]


def _grown(old: torch.Tensor, positions: int) -> torch.Tensor:
    new = old.new_zeros(*old.shape[:3], positions, old.shape[4])
    new[:, :, :, : old.shape[3]] = old
    return new
