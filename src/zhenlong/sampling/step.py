"""What attention needs to know about one step, prepared once for all layers.

Every running row writes its new key and value to the same column of its own slot; a row that entered later merely sees
fewer columns. So writing is one copy a layer, and the mask changes by one column a step. Columns are handed out in
strides of 8: views and masks are made anew only when the stride, the rows or the prompts change. Where steps are
recorded, all columns are in view from the start and the one to write is told by a tensor, so that what was recorded in
one step holds for the next.
Legend as in `zhenlong.sampling.attention`; L layers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np
import torch

from zhenlong.forest.attention import UnsupportedAttention
from zhenlong.forest.packed import Packing
from zhenlong.kernels.decoding import Places
from zhenlong.sampling.store import Store

STRIDE: Final = 8
BEGINNING: Final = -1  # the slot of what all prompts begin with, which is computed once
Masks = tuple[torch.Tensor, torch.Tensor]


@dataclass
class Layout:
    """Which running row continues which prompt, and since which column."""

    rows: int  # R
    prompts: int  # G
    width: int  # S
    gather: torch.Tensor | None  # [G*S] rows of each prompt, padded with row 0; None: rows lie by prompt already
    back: torch.Tensor | None  # [R] place of each row in [G*S]
    lengths: torch.Tensor  # [R] of each row's prompt
    entered: torch.Tensor  # [R] first column of each row's own keys
    longest: int  # P
    first: int  # the least of `entered`
    by_prompt: tuple[
        np.ndarray, np.ndarray
    ]  # [R] rows, those of a prompt side by side; [G + 1] where each prompt's begin

    @property
    def shape(self) -> tuple[int, int]:
        """How rows are counted off: (G, S) where they lie by prompt, (R, 1) where they do not."""
        return (self.prompts, self.width) if self.back is None else (self.rows, 1)

    @classmethod
    def of(cls, prompts: list[int], lengths: list[int], entered: list[int], device: torch.device) -> Layout:
        """From each row's prompt (a slot), each prompt's length and each row's first column."""
        places: list[list[int]] = [[] for _ in range(max(prompts) + 1)]
        for row, prompt in enumerate(prompts):
            places[prompt].append(row)
        width = max(len(rows) for rows in places)
        back = [0] * len(prompts)
        for prompt, rows in enumerate(places):
            for place, row in enumerate(rows):
                back[row] = prompt * width + place
        in_order = back == list(range(len(places) * width))
        gather = [row for rows in places for row in rows + [0] * (width - len(rows))]
        used = torch.tensor(lengths[: len(places)], device=device)
        index = None if in_order else torch.tensor(gather, device=device)
        return cls(
            len(prompts),
            len(places),
            width,
            index,
            None if in_order else torch.tensor(back, device=device),
            used[torch.tensor(prompts, device=device)],
            torch.tensor(entered, device=device),
            max(lengths[: len(places)]),
            min(entered),
            (
                np.concatenate(places).astype(np.int64),
                np.cumsum([0, *map(len, places)]).astype(np.int64),
            ),
        )


@dataclass
class Views:
    """Slices of the stores, one for each layer, and the memory for the scores of any layer."""

    new_keys: tuple[torch.Tensor, ...]  # L x [R, Hkv, D] the column to write; all, [R, Hkv, positions, D], if recorded
    new_values: tuple[torch.Tensor, ...]
    own_keys: tuple[torch.Tensor, ...]  # L x [R*Hkv, D, W]
    own_values: tuple[torch.Tensor, ...]  # L x [R*Hkv, W, D]
    shared_keys: tuple[torch.Tensor, ...]  # L x [G*Hkv, D, P]
    shared_values: tuple[torch.Tensor, ...]  # L x [G*Hkv, P, D]
    _scores: tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None = None

    def scores(self, queries: torch.Tensor, layout: Layout, heads: int) -> tuple[torch.Tensor, ...]:
        """Memory that each layer writes anew: [R*Hkv, Q, P+W] for queries [R*Hkv, Q, D], and what of it is whose.

        The parts of prompts and of own columns are views `layout.shape` x [Hkv, Q, P] and `layout.shape` x [Hkv, Q, W].
        """
        if self._scores is None or self._scores[0].shape[:2] != queries.shape[:2]:
            longest = self.shared_keys[0].shape[-1]
            whole = queries.new_empty(*queries.shape[:2], longest + self.own_keys[0].shape[-1])
            parts = whole.view(*layout.shape, heads, *whole.shape[1:])
            self._scores = whole, parts[..., :longest], parts[..., longest:]
        return self._scores


@dataclass(frozen=True)
class Together:
    """Where the keys of all entering prompts are, one prompt's path after the other's: K keys.

    `source` [K] are places among the tokens that all prompts begin with, if they do, and then the entering ones;
    `slots` and `places` say where each key is kept, for all but the first `unkept`, which are the beginning's own.
    """

    source: torch.Tensor
    slots: torch.Tensor
    places: torch.Tensor
    unkept: int
    packing: Packing


@dataclass
class Step:
    """One step of the running batch, and what of it lasts for the steps after."""

    shared: Store  # prompts: slot g holds prompt g
    own: Store  # answers: slot r holds row r
    recorded: bool = False  # whether a step is recorded to be replayed as the next ones
    windows: set[int | None] = field(default_factory=set)  # sliding windows that layers asked for
    rows: int = 0  # R
    entering: list[tuple[int, int, int]] = field(default_factory=list)  # (slot, start, end) in the flat batch
    beginning: dict[int, tuple[torch.Tensor, torch.Tensor]] = field(default_factory=dict)  # by layer: [1, Hkv, X, D]
    column: int = 0  # to be written by this step
    reach: int = 0  # above every position of this step
    _together: Together | None = None
    _place: torch.Tensor | None = None  # [1] the column, where steps are recorded
    _layout: Layout | None = None
    _span: tuple[int, int] = (0, 0)  # columns in view
    _views: Views | None = None
    _masks: dict[int | None, Masks] = field(default_factory=dict)

    @property
    def layout(self) -> Layout:
        """Rows and prompts of this step."""
        assert self._layout is not None, "a step with running rows has a layout"
        return self._layout

    @property
    def places(self) -> Places:
        """Where the running rows are, as the compiled kernels read it."""
        return (*self.layout.by_prompt, self.layout.lengths, self.layout.entered)

    def begin(self, layout: Layout | None, entering: list[tuple[int, int, int]], reach: int) -> None:
        """Prepare the step that writes `column`; a `layout` other than the last one drops everything prepared."""
        self.entering, self.reach, self._together = entering, reach, None
        self.rows = layout.rows if layout is not None else 0
        if layout is None:
            self._layout = None
            return
        if self.shared.empty:
            raise UnsupportedAttention("its layers do not call the attention they are given")
        if self.own.empty:
            self.own.allocate(self.shared.keys, self.shared.values)
        self.reach = max(reach, layout.longest + self.own.positions)  # of all steps with this layout
        span = (layout.first // STRIDE * STRIDE, min((self.column // STRIDE + 1) * STRIDE, self.own.positions))
        if self.recorded:
            span = (0, self.own.positions)
            self._place = torch.tensor([0], device=self.own.keys.device) if self._place is None else self._place
            self._place.fill_(self.column)
        if layout is not self._layout or span != self._span:
            self._layout, self._span, self._views = layout, span, None
            self._masks.clear()
        if self._views is not None and not self.recorded:
            self._views.new_keys, self._views.new_values = self._to_write()
        for window, (of_prompt, own) in self._masks.items():
            if window is None:
                own[..., self.column - span[0]] = 0
            else:
                for kept, new in zip((of_prompt, own), self._masks_of(window), strict=True):
                    kept.copy_(new)

    def write(self, layer: int, k: torch.Tensor, v: torch.Tensor) -> None:
        """Put new keys and values [R, Hkv, D] into this step's column."""
        views = self.views()
        for slots, new in ((views.new_keys[layer], k), (views.new_values[layer], v)):
            if self._place is None:
                slots.copy_(new)
            else:
                slots.index_copy_(2, self._place, new.unsqueeze(2))

    def _to_write(self) -> tuple[tuple[torch.Tensor, ...], tuple[torch.Tensor, ...]]:
        place = slice(None) if self.recorded else self.column
        keys, values = (block[:, : self.rows, :, place].unbind(0) for block in (self.own.keys, self.own.values))
        return keys, values

    def together(self, device: torch.device) -> Together:
        """The keys of all entering prompts, for attention to all of them at once."""
        if self._together is None:
            computed = self.entering[0][0] == BEGINNING  # in this very step
            known = 0 if computed else next((keys.shape[2] for keys, _ in self.beginning.values()), 0)
            unkept = self.entering[0][2] - self.rows if computed else 0
            paths, slots = [], []
            for slot, start, end in self.entering:
                own = np.arange(start, end) - self.rows + known
                paths.append(own if slot == BEGINNING else np.concatenate((np.arange(known + unkept), own)))
                slots.append(np.full(len(paths[-1]), slot))
            lengths = [end - start for _, start, end in self.entering]
            totals = [len(path) for path in paths]
            places = np.concatenate([np.arange(total) for total in totals])
            tables = (np.concatenate(paths), np.concatenate(slots)[unkept:], places[unkept:])
            source, kept_in, kept_at = (torch.from_numpy(table).to(device) for table in tables)
            packing = Packing.of(None, lengths, totals, device)
            self._together = Together(source, kept_in, kept_at, unkept, packing)
        return self._together

    def views(self) -> Views:
        """The slices that this step reads and writes."""
        if self._views is None:
            start, end = self._span
            own, shared, layout = self.own, self.shared, self.layout
            own_keys = own.keys[:, : self.rows].flatten(1, 2)[:, :, start:end].transpose(2, 3)
            shared_keys = shared.keys[:, : layout.prompts].flatten(1, 2)[:, :, : layout.longest].transpose(2, 3)
            self._views = Views(
                *self._to_write(),
                own_keys.unbind(0),
                own.values[:, : self.rows].flatten(1, 2)[:, :, start:end].unbind(0),
                shared_keys.unbind(0),
                shared.values[:, : layout.prompts].flatten(1, 2)[:, :, : layout.longest].unbind(0),
            )
        return self._views

    def masks(self, window: int | None) -> Masks:
        """0 where a row may look and -inf elsewhere: of its prompt and of its own columns, each [G, S, 1, 1, ...].

        Without a window they change by one column a step. With one, position p is seen from position p + window - 1 at
        the latest.
        """
        if window not in self._masks:
            self._masks[window] = self._masks_of(window)
        return self._masks[window]

    def _masks_of(self, window: int | None) -> Masks:
        layout, device = self.layout, self.own.keys.device
        column = torch.arange(*self._span, device=device)[None]
        unseen = (column < layout.entered[:, None]) | (column > self.column)  # [R, W]
        place = torch.arange(layout.longest, device=device)[None]
        outside = place >= layout.lengths[:, None]  # [R, P]
        if window is not None:
            unseen |= column <= self.column - window
            oldest = layout.lengths + (self.column - layout.entered) - window  # [R]
            outside |= place <= oldest[:, None]
        return self._additive(outside), self._additive(unseen)

    def _additive(self, hidden: torch.Tensor) -> torch.Tensor:
        mask = torch.zeros(hidden.shape, dtype=self.own.keys.dtype, device=hidden.device)
        return mask.masked_fill_(hidden, float("-inf")).view(*self.layout.shape, 1, 1, -1)
