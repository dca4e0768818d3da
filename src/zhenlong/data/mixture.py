"""The order in which training draws its data: one source shuffled, or several in proportion to their shares.

The next draw comes from the source that is furthest behind its share, so after n draws a source has been drawn fewer
than one time more than its share of n, and at no time does luck decide a proportion. Within a source each epoch is a
fresh permutation, so nothing repeats before everything was seen. Shares by size make one shuffled pass over all. When
shares change, because the decay phase begins or a source has been seen as often as it may be, counting begins anew.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from zhenlong.data.blend import Blend, parse_blend
from zhenlong.data.reader import BadRow, K, read
from zhenlong.errors import UserError

_CAP = 1  # sets the generator that chooses a capped source's records apart from those of the epochs


class Mixture:
    """An endless order over sources that lie one after the other in a list: an index counts through all of them.

    `sizes` are the sources' record counts, `weights` their shares of the draws (any positive scale; their sizes if
    left out), unless a `blend` says what the shares are. What has been drawn follows from the counts alone: the
    permutation of an epoch is computed from seed, source and epoch by a generator of its own (PCG64), so a state is a
    few numbers and no other randomness touches it.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        weights: Sequence[float] | None = None,
        seed: int = 0,
        blend: Blend | None = None,
    ) -> None:
        if not sizes or min(sizes) < 1:
            raise UserError(f"mixture: expected at least one record in every source, got sizes {list(sizes)}")
        given = list(sizes) if weights is None else list(weights)
        least = 0.0 if blend else math.ulp(0.0)
        given = blend.shares(sizes) if blend else given
        if len(given) != len(sizes) or not all(math.isfinite(w) and w >= least for w in given):
            raise UserError(f"mixture: expected {len(sizes)} weights above 0, one for each source, got {given}")
        self.sizes = tuple(int(size) for size in sizes)
        self.weights = _scaled(given)
        self.late_weights = _scaled(blend.shares(sizes, late=True)) if blend else self.weights
        self.limits = tuple(blend.limits(sizes)) if blend else (None,) * len(sizes)
        self.seed = seed
        self.blend = blend
        self._by_size = weights is None
        self._late = False
        self._counts = [0] * len(self.sizes)
        self._base = self._counts[:]  # the counts when the present shares began
        self._shares = self.weights
        self._orders: list[tuple[int, np.ndarray] | None] = [None] * len(self.sizes)
        self._offsets = [sum(self.sizes[:i]) for i in range(len(self.sizes))]

    def draw(self, k: int, late: bool = False) -> list[int]:
        """The next k indices into the list of all records. `late`: with the shares of the decay phase.

        Raises `UserError` when every source has been seen as often as it may be.
        """
        if (late and self.phased) != self._late:
            self._late = not self._late
            self._begin()
        return [self._next() for _ in range(k)]

    @property
    def drawn(self) -> tuple[int, ...]:
        """How many draws each source has had."""
        return tuple(self._counts)

    @property
    def epoch(self) -> int:
        """The draws that one epoch takes."""
        return self.blend.epoch(self.sizes) if self.blend else sum(self.sizes)

    @property
    def phased(self) -> bool:
        """Whether the decay phase has other shares."""
        return self.late_weights != self.weights

    def resized(self, sizes: Sequence[int]) -> Mixture:
        """The order over the same sources when they have `sizes` records now."""
        return Mixture(sizes, None if self._by_size else self.weights, self.seed, self.blend)

    def state_dict(self) -> dict[str, Any]:
        """The position, as plain JSON values."""
        position = {"drawn": self._counts[:], "base": self._base[:], "late": self._late}
        return {**self._identity(), **position}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on exactly where `state` was taken. Raises `UserError` if it is the state of another mixture."""
        for name, mine in self._identity().items():
            if state.get(name, mine) != mine:
                raise UserError(
                    f"data order: the saved {name} {state[name]} are not those of this data, {mine}; "
                    "resume with the data and seed that the run began with"
                )
        self._counts = [int(count) for count in state["drawn"]]
        self._base = [int(count) for count in state.get("base", [0] * len(self.sizes))]
        self._late = bool(state.get("late", False))
        self._shares = self._present()

    def _identity(self) -> dict[str, Any]:
        own = {"sizes": list(self.sizes), "weights": list(self.weights), "seed": self.seed}
        return {**own, "late_weights": list(self.late_weights), "limits": list(self.limits)}

    def _next(self) -> int:
        if not any(self._shares):
            raise UserError(
                "data: every source has been seen max_epochs times; train fewer steps, or raise the max_epochs of one"
            )
        turn = sum(self._counts) - sum(self._base) + 1 if len(self.sizes) > 1 else 0
        counts = zip(self._shares, self._counts, self._base, strict=True)
        behind = [share * turn - (count - base) if share else -math.inf for share, count, base in counts]
        source = behind.index(max(behind))
        epoch, position = divmod(self._counts[source], self.sizes[source])
        self._counts[source] += 1
        if self._counts[source] == self.limits[source]:
            self._begin()
        return self._offsets[source] + int(self._order(source, epoch)[position])

    def _begin(self) -> None:
        """Take the present shares, and count from here."""
        self._base, self._shares = self._counts[:], self._present()

    def _present(self) -> tuple[float, ...]:
        """The shares of the phase among the sources that may still be drawn; all 0 when none may."""
        shares = self.late_weights if self._late else self.weights
        left = zip(shares, self._counts, self.limits, strict=True)
        return _scaled([0.0 if limit is not None and count >= limit else share for share, count, limit in left])

    def _order(self, source: int, epoch: int) -> np.ndarray:
        held = self._orders[source]
        if held is None or held[0] != epoch:
            generator = np.random.Generator(np.random.PCG64([self.seed, source, epoch]))
            held = self._orders[source] = epoch, generator.permutation(self.sizes[source])
        return held[1]


def _scaled(shares: Sequence[float]) -> tuple[float, ...]:
    total = sum(shares)
    return tuple(share / total for share in shares) if total else tuple(0.0 for _ in shares)


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

    `specs` is what `parse_blend` takes; `limit` is for each source. Sources without shares are one shuffled pass.
    """
    blend = parse_blend(specs)
    parts = []
    for number, one in enumerate(blend.sources):
        part = read([one.spec], kind, skip_bad_rows=skip_bad_rows, limit=limit, skipped=skipped)
        parts.append(_capped(part, one.cap, seed, number))
    return [record for part in parts for record in part], Mixture([len(part) for part in parts], None, seed, blend)


def _capped(part: list[K], cap: int | None, seed: int, number: int) -> list[K]:
    """`cap` of the records, chosen by the seed, in their own order."""
    if cap is None or cap >= len(part):
        return part
    generator = np.random.Generator(np.random.PCG64([seed, number, 0, _CAP]))
    return [part[place] for place in sorted(generator.permutation(len(part))[:cap].tolist())]
