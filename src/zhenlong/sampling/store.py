"""Where keys and values are kept: one block of memory for every layer and slot, written in place."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from zhenlong.forest.attention import UnsupportedAttention


class Store:
    """Keys and values [layers, slots, Hkv, positions, D] of all layers, allocated when the first layer's shapes are known.

    `positions` is what one slot can hold; `reserve` doubles it when it is outgrown, so that a long answer's memory is
    taken only once it is written.
    """

    def __init__(self, layers: int, slots: int, positions: int) -> None:
        self.layers, self.slots, self.positions = layers, slots, positions
        self.keys: torch.Tensor | None = None
        self.values: torch.Tensor | None = None

    def layer(self, number: int, key: torch.Tensor, value: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The keys and values [slots, Hkv, positions, D] of one layer whose new ones are shaped [..., Hkv, N, D]."""
        if self.keys is None or self.values is None:
            # Zeros, not uninitialised memory: a masked position has weight 0, and 0 times NaN would be NaN.
            shape = (self.layers, self.slots, key.shape[-3], self.positions)
            self.keys = key.new_zeros(*shape, key.shape[-1])
            self.values = value.new_zeros(*shape, value.shape[-1])
        keys, values = self.keys[number], self.values[number]
        if (keys.shape[1], keys.shape[3], values.shape[3]) != (key.shape[-3], key.shape[-1], value.shape[-1]):
            raise UnsupportedAttention("its layers have keys of different shapes")
        return keys, values

    def reserve(self, positions: int) -> None:
        """Make room for that many positions in every slot."""
        if positions <= self.positions:
            return
        wider = max(positions, 2 * self.positions)
        if self.keys is not None and self.values is not None:
            self.keys, self.values = (_widened(old, wider) for old in (self.keys, self.values))
        self.positions = wider

    def move(self, sources: Sequence[int], targets: Sequence[int], positions: int) -> None:
        """Copy the first positions of some slots over those of others; no slot is both source and target."""
        if not sources:
            return
        for block in (self.keys, self.values):
            if block is not None:
                used = block[:, :, :, :positions]
                used[:, list(targets)] = used[:, list(sources)]


def _widened(old: torch.Tensor, positions: int) -> torch.Tensor:
    new = old.new_zeros(*old.shape[:3], positions, old.shape[4])
    new[:, :, :, : old.shape[3]] = old
    return new
