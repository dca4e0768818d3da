"""The order in which training draws records: one source shuffled, or several in proportion to sampling weights.

The next record comes from the source with the largest deficit, so after n draws each source has fewer than one draw
more than its weight times n: proportions are deterministic. Within a source each epoch is a new permutation, so nothing
repeats before everything was drawn. Weights by size give one shuffled pass over all records. When weights change,
because the decay phase begins or a source has reached its max_epochs, counting restarts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from zhenlong.data.mixture_spec import MixtureSpec, parse_mixture_spec
from zhenlong.data.reader import BadRow, RecordT, read
from zhenlong.errors import UserError

_SUBSAMPLE_STREAM = 1  # separates the generator that subsamples a capped source from those of the epochs


class Mixture:
    """An endless order over concatenated sources; indices run through all of them.

    `sizes` are the numbers of records of the sources, `weights` their sampling weights on any positive scale (default:
    their sizes), unless a `spec` determines them. All draws follow from counts alone: the permutation of an epoch comes
    from a generator of its own (PCG64), seeded by seed, source and epoch, so a state is a few numbers.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        weights: Sequence[float] | None = None,
        seed: int = 0,
        spec: MixtureSpec | None = None,
    ) -> None:
        if not sizes or min(sizes) < 1:
            raise UserError(f"mixture: expected at least one record in every source, got sizes {list(sizes)}")
        raw_weights = list(sizes) if weights is None else list(weights)
        smallest_allowed = 0.0 if spec else math.ulp(0.0)
        raw_weights = spec.sampling_weights(sizes) if spec else raw_weights
        if len(raw_weights) != len(sizes) or not all(math.isfinite(w) and w >= smallest_allowed for w in raw_weights):
            raise UserError(f"mixture: expected {len(sizes)} weights above 0, one for each source, got {raw_weights}")
        self.sizes = tuple(int(size) for size in sizes)
        self.weights = _normalised(raw_weights)
        self.decay_weights = _normalised(spec.sampling_weights(sizes, decay=True)) if spec else self.weights
        self.max_draws = tuple(spec.max_draws(sizes)) if spec else (None,) * len(sizes)
        self.seed = seed
        self.spec = spec
        self._weights_by_size = weights is None
        self._in_decay = False
        self._counts = [0] * len(self.sizes)
        self._base_counts = self._counts[:]  # the counts when the current weights began
        self._current_weights = self.weights
        self._permutations: list[tuple[int, np.ndarray] | None] = [None] * len(self.sizes)
        self._offsets = [sum(self.sizes[:i]) for i in range(len(self.sizes))]

    def draw(self, k: int, decay: bool = False) -> list[int]:
        """The next k indices into the list of all records. `decay`: use the weights of the decay phase.

        Raises `UserError` when every source has reached its max_epochs.
        """
        if (decay and self.has_decay_weights) != self._in_decay:
            self._in_decay = not self._in_decay
            self._restart_counts()
        return [self._draw_one() for _ in range(k)]

    @property
    def drawn(self) -> tuple[int, ...]:
        """How many records were drawn from each source."""
        return tuple(self._counts)

    @property
    def epoch_size(self) -> int:
        """Number of draws in one epoch."""
        return self.spec.epoch_size(self.sizes) if self.spec else sum(self.sizes)

    @property
    def has_decay_weights(self) -> bool:
        """Whether the decay phase has other weights."""
        return self.decay_weights != self.weights

    def with_sizes(self, sizes: Sequence[int]) -> Mixture:
        """The same order for sources that now have `sizes` records."""
        return Mixture(sizes, None if self._weights_by_size else self.weights, self.seed, self.spec)

    def state_dict(self) -> dict[str, Any]:
        """The position, as JSON values."""
        position = {"drawn": self._counts[:], "base_counts": self._base_counts[:], "in_decay": self._in_decay}
        return {**self._identity(), **position}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue exactly from `state`. Raises `UserError` if it is the state of another mixture."""
        for name, mine in self._identity().items():
            if state.get(name, mine) != mine:
                raise UserError(
                    f"data order: the saved {name} {state[name]} are not those of this data, {mine}; "
                    "resume with the data and seed that the run started with"
                )
        self._counts = [int(count) for count in state["drawn"]]
        self._base_counts = [int(count) for count in state.get("base_counts", [0] * len(self.sizes))]
        self._in_decay = bool(state.get("in_decay", False))
        self._current_weights = self._available_weights()

    def _identity(self) -> dict[str, Any]:
        own = {"sizes": list(self.sizes), "weights": list(self.weights), "seed": self.seed}
        return {**own, "decay_weights": list(self.decay_weights), "max_draws": list(self.max_draws)}

    def _draw_one(self) -> int:
        if not any(self._current_weights):
            raise UserError(
                "data: every source has reached its max_epochs; train fewer steps, or raise the max_epochs of one"
            )
        draw_number = sum(self._counts) - sum(self._base_counts) + 1 if len(self.sizes) > 1 else 0
        counts = zip(self._current_weights, self._counts, self._base_counts, strict=True)
        deficits = [share * draw_number - (count - base) if share else -math.inf for share, count, base in counts]
        source = deficits.index(max(deficits))
        epoch, position = divmod(self._counts[source], self.sizes[source])
        self._counts[source] += 1
        if self._counts[source] == self.max_draws[source]:
            self._restart_counts()
        return self._offsets[source] + int(self._permutation(source, epoch)[position])

    def _restart_counts(self) -> None:
        """Use the current weights, and count from here."""
        self._base_counts, self._current_weights = self._counts[:], self._available_weights()

    def _available_weights(self) -> tuple[float, ...]:
        """The weights of the phase for the sources that may still be drawn; all 0 if there are none."""
        weights = self.decay_weights if self._in_decay else self.weights
        candidates = zip(weights, self._counts, self.max_draws, strict=True)
        return _normalised(
            [0.0 if limit is not None and count >= limit else share for share, count, limit in candidates]
        )

    def _permutation(self, source: int, epoch: int) -> np.ndarray:
        cached = self._permutations[source]
        if cached is None or cached[0] != epoch:
            generator = np.random.Generator(np.random.PCG64([self.seed, source, epoch]))
            cached = self._permutations[source] = epoch, generator.permutation(self.sizes[source])
        return cached[1]


def _normalised(weights: Sequence[float]) -> tuple[float, ...]:
    total = sum(weights)
    return tuple(share / total for share in weights) if total else tuple(0.0 for _ in weights)


def read_mixture(
    specs: str | Sequence[str] | MixtureSpec,
    kind: type[RecordT],
    *,
    seed: int = 0,
    skip_bad_rows: bool = False,
    limit: int | None = None,
    skipped: list[BadRow] | None = None,
) -> tuple[list[RecordT], Mixture]:
    """The records of all sources, concatenated, and the order in which to draw them.

    `specs` is an argument or a result of `parse_mixture_spec`; `limit` applies to each source. Sources without weights
    form one shuffled pass.
    """
    spec = specs if isinstance(specs, MixtureSpec) else parse_mixture_spec(specs)
    parts = []
    for number, one in enumerate(spec.sources):
        part = read([one.spec], kind, skip_bad_rows=skip_bad_rows, limit=limit, skipped=skipped)
        parts.append(_subsample(part, one.cap, seed, number))
    return [record for part in parts for record in part], Mixture([len(part) for part in parts], None, seed, spec)


def _subsample(records: list[RecordT], cap: int | None, seed: int, source_index: int) -> list[RecordT]:
    """`cap` of the records, chosen by the seed, in their original order."""
    if cap is None or cap >= len(records):
        return records
    generator = np.random.Generator(np.random.PCG64([seed, source_index, 0, _SUBSAMPLE_STREAM]))
    return [records[place] for place in sorted(generator.permutation(len(records))[:cap].tolist())]
