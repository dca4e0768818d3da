"""Who attends to whom in a layer: segments of a flat batch, and which of them ask.

All layers but the last compute every token. What the last one computes is read at some positions only, so there only
these ask, while all tokens before them are seen. `narrowed` cuts segments into parts that ask and parts that do not.

Shapes: N flat tokens, P positions that are read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import torch

from zhenlong.forest.layout import SILENT, AttentionLayout, Span, lay_out
from zhenlong.forest.packed import Packing, pack
from zhenlong.kernels.attention import Trees


@dataclass
class View:
    """Segments, parents before children, the number of tokens that ask, and the tables that attention needs of them.

    Each table is built once, when it is first asked for, and shared by all layers.
    """

    spans: list[Span]
    queries: int
    device: torch.device
    _layouts: dict[int | None, AttentionLayout] = field(default_factory=dict, repr=False)
    _packing: Packing | None = field(default=None, repr=False)
    _trees: Trees | None = field(default=None, repr=False)

    def layout(self, window: int | None = None) -> AttentionLayout:
        """Which tokens attend to which, in dense blocks, for a sliding window."""
        if window not in self._layouts:
            self._layouts[window] = lay_out(self.spans, self.queries, window, self.device)
        return self._layouts[window]

    @property
    def packing(self) -> Packing:
        """The same as sequences of unequal lengths."""
        if self._packing is None:
            self._packing = pack(self.spans, self.device)
        return self._packing

    @property
    def trees(self) -> Trees:
        """The same for the compiled kernels."""
        if self._trees is None:
            self._trees = Trees.of(self.spans)
        return self._trees


@dataclass(frozen=True)
class Reading:
    """The positions that are read: `rows` [P], ascending flat indices, the view of the layer that computes only them,
    and `back`, the place in `rows` of each position asked for; None where that is the same."""

    rows: torch.Tensor
    view: View
    back: torch.Tensor | None

    @classmethod
    def of(cls, spans: Sequence[Span], positions: np.ndarray, device: torch.device) -> Reading:
        """From flat indices in any order, some of them more than once."""
        rows, back = np.unique(positions, return_inverse=True)
        same = len(rows) == len(back) and bool((back == np.arange(len(back))).all())
        view = View(narrowed(spans, rows), len(rows), device)
        found, places = (torch.from_numpy(each).to(device) for each in (rows, back))
        return cls(found, view, None if same else places)


def narrowed(spans: Sequence[Span], rows: np.ndarray) -> list[Span]:
    """The same segments in parts that ask or do not; `rows` [P] are the flat tokens that ask, ascending.

    Parts that nobody asks about are left out.
    """
    parts: list[Span] = []
    ends: list[int] = []  # the last part of each segment
    for start, length, parent, _ in spans:
        first, last = np.searchsorted(rows, (start, start + length))
        asks = np.zeros(length, dtype=bool)
        asks[rows[first:last] - start] = True
        above = ends[parent] if parent >= 0 else -1
        place = int(first)
        for begin, end in pairwise((0, *(np.flatnonzero(asks[1:] != asks[:-1]) + 1).tolist(), length)):
            parts.append((start + begin, end - begin, above, place if asks[begin] else SILENT))
            place += (end - begin) * int(asks[begin])
            above = len(parts) - 1
        ends.append(above)
    seen = [row != SILENT for _, _, _, row in parts]
    for number in range(len(parts) - 1, -1, -1):
        if seen[number] and parts[number][2] >= 0:
            seen[parts[number][2]] = True
    numbers = np.cumsum(seen) - 1
    return [
        (start, length, int(numbers[parent]) if parent >= 0 else -1, row)
        for (start, length, parent, row), kept in zip(parts, seen, strict=True)
        if kept
    ]
