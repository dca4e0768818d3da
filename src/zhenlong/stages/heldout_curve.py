"""Held-out measures during training: a curve, the best model kept, and an end when it no longer improves.

The history is in metrics.jsonl and the best weights in a file beside it until the run is finished, so a resumed run
decides as one that was never interrupted, and what `finished.json` tells is of the model that is saved.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import torch
from safetensors.torch import load_file, save_file

from zhenlong.errors import UserError
from zhenlong.loop import Run
from zhenlong.loop.atomic import atomic_folder, write_json
from zhenlong.stages.options import HeldoutOptions

BEST_FOLDER: Final = "best"
HELDOUT_LOSS: Final = "heldout_loss"


class HeldoutCurve:
    """The measures of one run. `measure` gives metrics by name; the first decides, a loss by being low."""

    def __init__(
        self,
        run: Run,
        options: HeldoutOptions,
        records: Sequence[Any],
        model: torch.nn.Module,
        measure: Callable[[], Mapping[str, float]],
    ) -> None:
        if options.heldout_every and not records:
            raise UserError("heldout_every: expected held-out records to measure; give --heldout")
        self._run, self._options, self._model, self._measure = run, options, model, measure

    def before_training(self) -> dict[str, float]:
        """The metrics of step 0; none where nothing is measured during training."""
        return self._measured() if self._options.heldout_every else {}

    def after_step(self, is_last: bool) -> None:
        """Measure where it is due, keep the model if it is the best, and end the run if it has not improved."""
        every = self._options.heldout_every
        if not every or (self._run.step % every and not is_last):
            return
        metrics = self._measured()
        self._run.log(metrics, write=True)
        name, value = next(iter(metrics.items()))
        sign = -1.0 if name == HELDOUT_LOSS else 1.0
        earlier = [(step, sign * found) for step, found in self._run.logged(name) if step]
        best = max((found for _, found in earlier), default=-math.inf)
        if sign * value > best or not earlier:
            if self._options.keep_best:
                self._save_best(name, value)
            return
        best_step = next(step for step, found in earlier if found == best)
        since = sum(step > best_step for step, _ in earlier) + 1
        if self._options.patience and since >= self._options.patience:
            self._run.end_after_step()

    def restore_best(self) -> None:
        """Put the best weights back into the model, where they are kept; before the results are measured."""
        if not self._options.keep_best:
            return
        weights = load_file(self._run.output / BEST_FOLDER / "weights.safetensors")
        with torch.no_grad():
            for name, value in self._trained().items():
                value.copy_(weights[name])

    def remove_best(self) -> None:
        """Remove the copy of the best weights; once the run is finished they are those of its model."""
        shutil.rmtree(self._run.output / BEST_FOLDER, ignore_errors=True)

    def _measured(self) -> dict[str, float]:
        with self._run.eval_mode():
            return dict(self._measure())

    def _trained(self) -> dict[str, torch.Tensor]:
        return {name: value for name, value in self._model.named_parameters() if value.requires_grad}

    def _save_best(self, name: str, value: float) -> None:
        weights = {key: one.detach().cpu().contiguous() for key, one in self._trained().items()}
        with atomic_folder(self._run.output / BEST_FOLDER) as folder:
            save_file(weights, folder / "weights.safetensors")
        write_json(self._run.output / "best.json", {"step": self._run.step, name: value})
