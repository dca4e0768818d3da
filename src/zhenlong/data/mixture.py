"""The order in which training draws its data: one source shuffled, or several in proportion to their weights.

The next draw comes from the source that is furthest behind its share, so after n draws a source has been drawn fewer
than one time more than weight * n, and at no time does luck decide a proportion. Within a source each epoch is a fresh
permutation, so nothing repeats before everything was seen. Weighted by size, a mixture is one shuffled pass over all.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from zhenlong.data.reader import BadRow, K, read
from zhenlong.data.sources import split_weights
from zhenlong.errors import UserError


class Mixture:
    """An endless order over sources that lie one after the other in a list: an index counts through all of them.

    `sizes` are the sources' record counts, `weights` their shares of the draws (any positive scale; their sizes if
    left out). What has been drawn follows from the counts alone: the permutation of an epoch is computed from seed,
    source and epoch by a generator of its own (PCG64), so a state is a few numbers and no other randomness touches it.
    """

    def __init__(self, sizes: Sequence[int], weights: Sequence[float] | None = None, seed: int = 0) -> None:
        given = list(sizes) if weights is None else list(weights)
        if not sizes or min(sizes) < 1:
            raise UserError(f"mixture: expected at least one record in every source, got sizes {list(sizes)}")
        if len(given) != len(sizes) or not all(math.isfinite(w) and w > 0 for w in given):
            raise UserError(f"mixture: expected {len(sizes)} weights above 0, one for each source, got {given}")
        self.sizes = tuple(int(size) for size in sizes)
        self.weights = tuple(w / sum(given) for w in given)
        self.seed = seed
        self._counts = [0] * len(self.sizes)
        self._orders: list[tuple[int, np.ndarray] | None] = [None] * len(self.sizes)
        self._offsets = [sum(self.sizes[:i]) for i in range(len(self.sizes))]

    def draw(self, k: int) -> list[int]:
        """The next k indices into the list of all records."""
        return [self._next() for _ in range(k)]

    @property
    def drawn(self) -> tuple[int, ...]:
        """How many draws each source has had."""
        return tuple(self._counts)

    def state_dict(self) -> dict[str, Any]:
        """The position, as plain JSON values."""
        return {"sizes": list(self.sizes), "weights": list(self.weights), "seed": self.seed, "drawn": self._counts[:]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on exactly where `state` was taken. Raises `UserError` if it is the state of another mixture."""
        mine = self.state_dict()
        for name in ("sizes", "weights", "seed"):
            if state[name] != mine[name]:
                raise UserError(
                    f"data order: the saved {name} {state[name]} are not those of this data, {mine[name]}; "
                    "resume with the data and seed that the run began with"
                )
        self._counts = [int(count) for count in state["drawn"]]

    def _next(self) -> int:
        turn = sum(self._counts) + 1 if len(self.sizes) > 1 else 0
        behind = [weight * turn - count for weight, count in zip(self.weights, self._counts, strict=True)]
        source = behind.index(max(behind))
        epoch, position = divmod(self._counts[source], self.sizes[source])
        self._counts[source] += 1
        return self._offsets[source] + int(self._order(source, epoch)[position])

    def _order(self, source: int, epoch: int) -> np.ndarray:
        held = self._orders[source]
        if held is None or held[0] != epoch:
            generator = np.random.Generator(np.random.PCG64([self.seed, source, epoch]))
            held = self._orders[source] = epoch, generator.permutation(self.sizes[source])
        return held[1]


def read_mixture(
    specs: str | Sequence[str],
    kind: type[K],
    *,
    seed: int = 0,
    skip_bad_rows: bool = False,
    limit: int | None = None,
    skipped: list[BadRow] | None = None,
) -> tuple[list[K], Mixture]:
    """The records of all sources one after the other, and the order in which to draw them.

    `specs` is what `split_weights` takes; `limit` is for each source. Sources without weights are one shuffled pass.
    """
    sources = split_weights(specs)
    parts = [read(s, kind, skip_bad_rows=skip_bad_rows, limit=limit, skipped=skipped) for s, _ in sources]
    sizes = [len(part) for part in parts]
    weights = [weight for _, weight in sources if weight is not None]
    return [record for part in parts for record in part], Mixture(sizes, weights or None, seed)
