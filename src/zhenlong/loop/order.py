"""Which records each step learns from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from zhenlong.errors import UserError
from zhenlong.loop.options import Options


class DataOrder:
    """An endless order over `count` records, shuffled anew in every epoch, cut into batches.

    Epoch e is the permutation drawn from (seed, e), so the position alone is the whole state. Every epoch has every
    record exactly once. Its last batch is short when the batch size does not divide the records; with `full` it is
    filled up with the first records of the next epoch instead, for objectives that need batches of one size.
    """

    def __init__(self, count: int, batch_size: int, seed: int = 0, *, shuffle: bool = True, full: bool = False) -> None:
        if count < 1:
            raise UserError("data: expected at least one record to train on, got none")
        self.count, self.batch_size, self.seed, self.shuffle, self.full = count, batch_size, seed, shuffle, full
        self.epoch = 0
        self.position = 0
        self._order = self._permutation(0)

    def next(self) -> list[int]:
        """The indices of the next batch."""
        batch = self._take(self.batch_size)
        while self.full and len(batch) < self.batch_size:
            batch += self._take(self.batch_size - len(batch))
        return batch

    def steps(self, options: Options) -> int:
        """The batches that training takes: `options.steps`, or those of `options.epochs` passes over the data."""
        if options.steps:
            return options.steps
        if self.full:
            return max(math.ceil(options.epochs * self.count / self.batch_size), 1)
        whole, part = divmod(options.epochs, 1)
        batches = math.ceil(self.count / self.batch_size)
        return max(int(whole) * batches + math.ceil(part * self.count / self.batch_size), 1)

    def state_dict(self) -> dict[str, Any]:
        """The position, and what it is a position in."""
        return {"count": self.count, "epoch": self.epoch, "position": self.position}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go to a saved position. Raises `UserError` when the data has another number of records now."""
        if state["count"] != self.count:
            raise UserError(
                f"data: has {self.count} records, but the run to resume had {state['count']}; "
                "give it the data it began with, or choose another output"
            )
        self.epoch, self.position = state["epoch"], state["position"]
        self._order = self._permutation(self.epoch)

    def _take(self, wanted: int) -> list[int]:
        """Up to `wanted` indices, never across the end of an epoch."""
        if self.position == self.count:
            self.epoch, self.position = self.epoch + 1, 0
            self._order = self._permutation(self.epoch)
        taken = self._order[self.position : self.position + wanted].tolist()
        self.position += len(taken)
        return taken

    def _permutation(self, epoch: int) -> np.ndarray:
        if not self.shuffle:
            return np.arange(self.count)
        return np.random.default_rng([self.seed, epoch]).permutation(self.count)
