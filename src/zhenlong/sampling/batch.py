"""The running batch: which rows and prompts sit in which slots, and one step of all of them.

Rows leave when they end and waiting rows take their slots. Running rows always fill slots 0 to R-1 and their prompts
slots 0 to G-1, so that attention reads plain slices: a hole is filled by a waiting row or by the last running one.
Where steps are recorded and replayed, a change of slots costs a new recording; there rows that ended stay in their
slots, unheard, until they are a quarter of all.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import torch
from transformers import PreTrainedModel

from zhenlong.errors import UserError
from zhenlong.sampling.draw import draw
from zhenlong.sampling.request import Sampling
from zhenlong.sampling.row import Prompt, Row
from zhenlong.sampling.step import BEGINNING, Layout, Step
from zhenlong.sampling.store import Memory, Store

PROMPT_TOKENS: Final = 8192  # of entering prompts in one step, unless a single one is longer
FIRST_COLUMNS: Final = 64  # of the rows' own slots; doubled as answers grow
RECORDED_COLUMNS: Final = 256  # the same where steps are recorded: each doubling is a new recording
TOLERATED: Final = 4  # of so many rows one may have ended, where steps are recorded
LEAST_SHARED: Final = 16  # tokens that prompts have to begin with alike for these to be computed once


# (ids [N], positions [N], step, tokens whose logits are wanted or None for all) -> logits
Network = Callable[[torch.Tensor, torch.Tensor, Step, "torch.Tensor | None"], torch.Tensor]
# (logits [R, V], uniforms [R, K], how) -> ids and log-probabilities [R, K]
Draw = Callable[[torch.Tensor, torch.Tensor, Sampling], tuple[torch.Tensor, torch.Tensor]]


class Batch:
    """The state of sampling all rows of some prompts; `advance` makes one step with the `network` of the model."""

    def __init__(
        self,
        model: PreTrainedModel,
        prompts: Sequence[Prompt],
        sampling: Sampling,
        max_rows: int,
        memory: Memory,
        network: Network,
        recorded: bool = False,
        drawing: Draw | None = None,
    ) -> None:
        self.recorded, self.drawing = recorded, drawing
        self.network, self.sampling, self.max_rows = network, sampling, max_rows
        self.device = next(model.parameters()).device
        self.outside = deque(prompts)
        self.waiting: deque[Row] = deque()  # rows that have their first token and no slot
        self.rows: list[Row] = []  # rows[r] is in slot r
        self.prompts: list[Prompt] = []  # prompts[g] is in slot g
        total = sum(len(prompt.rows) for prompt in prompts)
        layers = int(model.config.get_text_config().num_hidden_layers)
        limit = max(len(row.uniforms) for prompt in prompts for row in prompt.rows)
        columns = min(limit, RECORDED_COLUMNS if recorded else FIRST_COLUMNS)
        own = Store("own", layers, min(total, max_rows), columns, memory)
        longest = max(len(prompt.ids) for prompt in prompts)
        shared = Store("shared", layers, min(len(prompts), max_rows), longest, memory)
        self.beginning = _shared_beginning([prompt.ids for prompt in prompts])
        self.step = Step(shared, own, recorded)
        self._layout: Layout | None = None

    @property
    def finished(self) -> bool:
        """Whether no row is left."""
        return not (self.outside or self.waiting or self.rows)

    def advance(self) -> None:
        """One forward pass: every running row gets a token, and every entering prompt the first token of its rows."""
        entering = self._admit()
        running = len(self.rows)
        logits = self._forward(entering)
        if running:
            numbers = np.array([[0.0 if row.done else row.uniforms[len(row.ids)]] for row in self.rows])
            self._give([[row] for row in self.rows], logits[:running], numbers)
        if entering:
            first = np.array([[row.uniforms[0] for row in prompt.rows] for prompt in entering])
            self._give([prompt.rows for prompt in entering], logits[running:], first)
            for prompt in entering:
                self.waiting.extend(row for row in prompt.rows if not row.done)
                prompt.open = sum(not row.done for row in prompt.rows)
        self._settle_rows()
        self._settle_prompts()

    def _admit(self) -> list[Prompt]:
        """Prompts that enter with this step, as many as free rows can use; each gets the next free slot."""
        entering: list[Prompt] = []
        free, tokens = self.max_rows - len(self.rows) - len(self.waiting), 0
        while self.outside and free > 0 and len(self.prompts) < self.step.shared.slots:
            prompt = self.outside[0]
            new = len(prompt.ids) - len(self.beginning)
            if entering and tokens + new > PROMPT_TOKENS:
                break
            prompt.slot = len(self.prompts)
            self.prompts.append(prompt)
            entering.append(self.outside.popleft())
            free, tokens = free - len(prompt.rows), tokens + new
        return entering

    def _forward(self, entering: list[Prompt]) -> torch.Tensor:
        """Logits [R + entering, V]: of every running row's token and of the last token of every entering prompt."""
        tokens = [row.ids[-1] for row in self.rows]
        written = [len(row.ids) - 1 for row in self.rows]
        positions = [len(row.prompt.ids) + count for row, count in zip(self.rows, written, strict=True)]
        kept, spans = list(range(len(tokens))), []
        known = len(self.beginning)
        if entering and known and not self.step.beginning:
            spans.append((BEGINNING, len(tokens), len(tokens) + known))
            positions.extend(range(known))
            tokens.extend(self.beginning)
        for prompt in entering:
            spans.append((prompt.slot, len(tokens), len(tokens) + len(prompt.ids) - known))
            positions.extend(range(known, len(prompt.ids)))
            tokens.extend(prompt.ids[known:])
            kept.append(len(tokens) - 1)
        self.step.begin(self._current_layout(), spans, max(positions) + 1)
        selected = self._tensor(kept) if entering else None
        logits = self.network(self._tensor(tokens), self._tensor(positions), self.step, selected)
        self.step.column += bool(self.rows)
        return logits

    def _give(self, rows: Sequence[Sequence[Row]], logits: torch.Tensor, numbers: np.ndarray) -> None:
        """Draw tokens for rows [R][K] from logits [R, V] with numbers [R, K] and hand them out."""
        uniforms = torch.from_numpy(numbers).to(self.device)
        ids, log_probs = (self.drawing or draw)(logits, uniforms, self.sampling)
        drawn, scores = ids.tolist(), log_probs.cpu().numpy()
        if not np.isfinite(scores).all():
            self.step.own.memory.blocks.clear()  # it holds the numbers that are none
            raise UserError("sampling: the model gives logits that are not numbers; its weights may have diverged")
        for of_rows, tokens, values in zip(rows, drawn, scores.tolist(), strict=True):
            for row, token, value in zip(of_rows, tokens, values, strict=True):
                if not row.done:
                    row.take(token, value)

    def _settle_rows(self) -> None:
        """Put waiting rows into the slots of ended ones and close the holes that remain."""
        holes = [slot for slot, row in enumerate(self.rows) if row.done]
        room = self.waiting and len(self.rows) < self.max_rows
        if not room and len(holes) <= (len(self.rows) // TOLERATED if self.recorded else 0):
            return
        self._layout = None
        for slot in holes:
            self.rows[slot].prompt.open -= 1
        while holes and self.waiting:
            self._enter(holes.pop(0), self.waiting.popleft())
        sources, targets = _close(self.rows, holes)
        first = min((self.rows[slot].entered for slot in targets), default=0)
        self.step.own.move(sources, targets, first, self.step.column)
        while self.waiting and len(self.rows) < self.max_rows:
            self._enter(len(self.rows), self.waiting.popleft())

    def _enter(self, slot: int, row: Row) -> None:
        self.rows[slot : slot + 1] = [row]
        row.entered = self.step.column

    def _settle_prompts(self) -> None:
        """Drop prompts whose rows have all ended."""
        holes = [slot for slot, prompt in enumerate(self.prompts) if not prompt.open]
        if not holes:
            return
        self._layout = None
        sources, targets = _close(self.prompts, holes)
        for slot in targets:
            self.prompts[slot].slot = slot
        self.step.shared.move(sources, targets, 0, max((len(self.prompts[slot].ids) for slot in targets), default=0))

    def _current_layout(self) -> Layout | None:
        """Rows, prompts and columns; the same object from step to step until one of them changes."""
        if not self.rows:
            self.step.column, self._layout = 0, None
            return None
        if self.step.column == self.step.own.positions:
            self._make_room()
        if self._layout is None:
            self._layout = Layout.of(
                [row.prompt.slot for row in self.rows],
                [len(prompt.ids) for prompt in self.prompts],
                [row.entered for row in self.rows],
                self.device,
            )
        return self._layout

    def _make_room(self) -> None:
        """Forget columns that no running row has written, or, where those are few, double the columns."""
        own, first = self.step.own, min(row.entered for row in self.rows)
        self._layout = None
        if self.step.column - first > own.positions // 2:
            own.widen(2 * own.positions)
            return
        own.shift(first, self.step.column)
        for row in self.rows:
            row.entered -= first
        self.step.column -= first

    def _tensor(self, values: Sequence[int]) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.long, device=self.device)


def _shared_beginning(prompts: Sequence[list[int]]) -> list[int]:
    """What all prompts begin with, the last token of the shortest left out; nothing where it is not worth it.

    The first and the last prompt in sorted order differ at the earliest place of all.
    """
    first, last = min(prompts), max(prompts)
    most = min(len(prompt) for prompt in prompts) - 1
    same = next((place for place in range(most) if first[place] != last[place]), most)
    return first[:same] if len(prompts) > 1 and same >= LEAST_SHARED else []


def _close(items: list[Any], holes: list[int]) -> tuple[list[int], list[int]]:
    """Shorten `items` to those outside `holes`, the last ones moved into the first holes: their old and new places."""
    left = len(items) - len(holes)
    gone = set(holes)
    targets = [place for place in holes if place < left]
    sources = [place for place in range(left, len(items)) if place not in gone]
    for source, target in zip(sources, targets, strict=True):
        items[target] = items[source]
    del items[left:]
    return sources, targets
