"""Held-out measures during training: a curve, the best model kept, and an end when it no longer improves.

The history is in metrics.jsonl, so a resumed run decides as one that was never interrupted.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from transformers import PreTrainedModel

from zhenlong.data import ChatTemplate
from zhenlong.errors import UserError
from zhenlong.loop import Run
from zhenlong.loop.atomic import write_json
from zhenlong.models import save_model
from zhenlong.stages.options import HeldoutOptions
from zhenlong.stages.stage_steps import prepare_for_saving

BEST_FOLDER: Final = "best"
HELDOUT_LOSS: Final = "heldout_loss"


class HeldoutCurve:
    """The measures of one run. `measure` gives metrics by name; the first decides, a loss by being low."""

    def __init__(
        self,
        run: Run,
        options: HeldoutOptions,
        records: Sequence[Any],
        model: tuple[PreTrainedModel, ChatTemplate],
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
        if sign * value > best:
            if self._options.keep_best:
                self._save_best(name, value)
            return
        best_step = next(step for step, found in earlier if found == best)
        since = sum(step > best_step for step, _ in earlier) + 1
        if self._options.patience and since >= self._options.patience:
            self._run.end_after_step()

    def save_finished(self, model: Any, tokenizer: Any, folder: Path) -> None:
        """Save the model that the run ends with: the best one where it is kept, else the last."""
        best = self._run.output / BEST_FOLDER
        if self._options.keep_best and (best / "config.json").exists():
            shutil.rmtree(folder, ignore_errors=True)
            best.rename(folder)
        else:
            save_model(model, tokenizer, folder)

    def _measured(self) -> dict[str, float]:
        with self._run.eval_mode():
            return dict(self._measure())

    def _save_best(self, name: str, value: float) -> None:
        model, template = self._model
        chat_template = template.tokenizer.chat_template
        save_model(*prepare_for_saving(model, template), self._run.output / BEST_FOLDER)
        template.tokenizer.chat_template = chat_template
        write_json(self._run.output / "best.json", {"step": self._run.step, name: value})
