"""The KV cache: one buffer for all layers and slots, written in place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Final

import torch

MAX_POOLED_BYTES: Final = 2**28  # per buffer, CPU memory that a sampler keeps between calls


@dataclass
class BufferPool:
    """Buffers reused between calls, because faulting in new pages costs more than writing to them.

    Only buffers of limited size on the CPU are kept; on an accelerator torch's allocator caches memory itself.
    """

    buffers: dict[str, torch.Tensor] = field(default_factory=dict)

    def get(self, name: str, shape: Sequence[int], like: torch.Tensor) -> torch.Tensor:
        """A tensor of finite numbers with this shape, and the dtype and device of `like`.

        A masked position has weight 0, and 0 times NaN is NaN; hence zeros, or what an earlier call left.
        """
        buffer, size = self.buffers.get(name), prod(shape)
        if buffer is None or buffer.numel() < size or buffer.dtype != like.dtype or buffer.device != like.device:
            buffer = like.new_zeros(size)
            if like.device.type == "cpu" and buffer.nbytes <= MAX_POOLED_BYTES:
                self.buffers[name] = buffer
        return buffer[:size].view(*shape)


class KVCache:
    """Keys and values [layers, slots, Hkv, positions, D] of all layers."""

    def __init__(self, name: str, layers: int, slots: int, *, positions: int, pool: BufferPool) -> None:
        self.name, self.layers, self.slots, self.positions, self.pool = name, layers, slots, positions, pool
        self.keys = self.values = torch.empty(0)

    @property
    def unallocated(self) -> bool:
        """Whether no memory has been allocated yet."""
        return not self.keys.numel()

    def allocate(self, key: torch.Tensor, value: torch.Tensor) -> None:
        """Allocate memory for keys and values of shape [..., Hkv, any, D]."""
        shape = (self.layers, self.slots, key.shape[-3], self.positions)
        self.keys = self.pool.get(f"{self.name} keys", (*shape, key.shape[-1]), key)
        self.values = self.pool.get(f"{self.name} values", (*shape, value.shape[-1]), value)

    def grow(self, positions: int) -> None:
        """Extend every slot to this many positions, keeping the contents."""
        self.positions = positions
        if not self.unallocated:
            self.keys, self.values = (_grown(old, positions) for old in (self.keys, self.values))

    def shift_to_start(self, start: int, end: int) -> None:
        """Move the positions from `start` to `end` of every slot to its beginning."""
        for block in (self.keys, self.values):
            block[:, :, :, : end - start] = block[:, :, :, start:end].clone()

    def copy_slots(self, sources: Sequence[int], targets: Sequence[int], *, start: int, end: int) -> None:
        """Copy the positions from `start` to `end` of slots `sources` to slots `targets`; the two are disjoint."""
        if sources and end > start:
            for block in (self.keys, self.values):
                used = block[:, :, :, start:end]
                used[:, list(targets)] = used[:, list(sources)]


def _grown(old: torch.Tensor, positions: int) -> torch.Tensor:
    new = old.new_zeros(*old.shape[:3], positions, old.shape[4])
    new[:, :, :, : old.shape[3]] = old
    return new
