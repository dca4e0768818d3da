"""The learning rate of each step: warm-up, then constant, linear, cosine or WSD."""

from __future__ import annotations

import math
from typing import Literal

from zhenlong.loop.options import TrainingOptions

SchedulePhase = Literal["warmup", "stable", "decay"]


def learning_rate(step: int, options: TrainingOptions, total: int) -> float:
    """The learning rate of the next update after `step` completed ones, of `total`.

    With W warm-up steps, T = `total`, k = `step` and p = (k - W) / (T - W), as fractions of `options.lr`:

        warm-up, k < W     (k + 1) / W
        constant           1
        linear             1 - p
        cosine             (1 + cos(pi p)) / 2                              (Loshchilov and Hutter 2017, Eq. 5)
        wsd                1, and over the last D steps 1 - sqrt((k - (T - D)) / D)
                           (warm-up, stable, decay: Hu et al. 2024, MiniCPM; the 1-sqrt shape: Hägele et al. 2024)

    and decays end at `min_lr_ratio` instead of 0. The first update has a rate above 0, the first update after the
    warm-up has the peak rate, and the end of the decay, `step = total`, is one past the last update.
    """
    warmup = _warmup_steps(options, total)
    if step < warmup:
        return options.lr * (step + 1) / warmup
    decay_factor = _decay_factor(step, options, warmup, total)
    return options.lr * (options.min_lr_ratio + (1.0 - options.min_lr_ratio) * decay_factor)


def schedule_phase(step: int, options: TrainingOptions, total: int) -> SchedulePhase:
    """The schedule phase of that update: `warmup`, `stable` (at the peak) or `decay`.

    With WSD, pretraining changes its data mixture when the decay begins; linear and cosine decay right after warm-up.
    """
    if step < _warmup_steps(options, total):
        return "warmup"
    if options.schedule == "constant" or (options.schedule == "wsd" and step < _decay_start(options, total)):
        return "stable"
    return "decay"


def _decay_factor(step: int, options: TrainingOptions, warmup: int, total: int) -> float:
    progress = min((step - warmup) / max(total - warmup, 1), 1.0)
    if options.schedule == "linear":
        return 1.0 - progress
    if options.schedule == "cosine":
        return 0.5 * (1.0 + math.cos(math.pi * progress))
    if options.schedule == "wsd":
        start = _decay_start(options, total)
        return 1.0 - math.sqrt(min(max(step - start, 0) / max(total - start, 1), 1.0))
    return 1.0


def _warmup_steps(options: TrainingOptions, total: int) -> int:
    """Whole warm-up steps, at most `total`."""
    steps = options.warmup_steps if options.warmup_steps >= 1 else round(options.warmup_steps * total)
    return min(int(steps), total)


def _decay_start(options: TrainingOptions, total: int) -> int:
    """The first step of WSD's decay; never before the end of the warm-up."""
    return max(total - round(options.decay_fraction * total), _warmup_steps(options, total))
