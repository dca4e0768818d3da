"""The options of optimising, saving and reporting that all training stages share, documented and validated.

A stage takes them by `take_options(options, TrainingOptions(lr=1e-6))`; the instance holds the stage's own defaults.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, Final, Literal

from zhenlong.options import Options, require_option

Schedule = Literal["constant", "linear", "cosine", "wsd"]

RESUMABLE_CHANGES: Final = frozenset(
    {"log_every", "save_every", "sample_every", "keep_checkpoints", "resume", "tensorboard", "wandb", "progress"}
    | {"evaluate_every", "evaluation_suite", "evaluation_limit", "stop_on_gate"}
)
"""Options that may change when a run is resumed: none of them affects the weights."""


@dataclass(frozen=True)
class TrainingOptions(Options):
    """How a stage optimises, saves and reports. An invalid value raises `UserError` naming the option."""

    lr: float = 1e-5
    """Peak learning rate of AdamW, reached at the end of the warm-up; about ten times more with LoRA or tiny models."""
    schedule: Schedule = "cosine"
    """Learning rate after the warm-up: constant, linear or cosine decay, or wsd (stable, then a short decay)."""
    warmup_steps: float = 0.0
    """Optimiser steps of linear warm-up; a value below 1 is a fraction of all steps."""
    decay_fraction: float = 0.2
    """Fraction of all steps that the final decay of the wsd schedule takes."""
    min_lr_ratio: float = 0.0
    """Learning rate at the end of the decay, as a fraction of lr."""
    weight_decay: float = 0.0
    """Decoupled weight decay of parameters with two or more dimensions; biases and norm gains are never decayed."""
    beta1: float = 0.9
    """AdamW's decay rate of the mean gradient."""
    beta2: float = 0.95
    """AdamW's decay rate of the mean squared gradient; 0.999 averages longer and suits small batches."""
    eps: float = 1e-8
    """Constant that AdamW adds to the denominator."""
    max_grad_norm: float = 1.0
    """Maximum gradient norm; larger gradients are scaled down to it. 0 disables clipping."""
    batch_size: int = 32
    """Records (conversations, pairs, prompts) per optimiser step."""
    tokens_per_microbatch: int = 4096
    """Tokens per forward pass; fewer tokens save memory and do not change the gradient."""
    epochs: float = 1.0
    """Passes over the data."""
    steps: int = 0
    """Number of optimiser steps; 0 derives it from epochs."""
    seed: int = 0
    """Seed of every random choice; on a CPU it makes the result reproducible to the bit."""
    log_every: int = 1
    """Steps between lines of metrics.jsonl."""
    save_every: int = 100
    """Steps between checkpoints; 0 saves only when the run is interrupted."""
    sample_every: int = 0
    """Steps between samples written to samples.jsonl; 0 writes none."""
    evaluate_every: int = 0
    """Steps between evaluations, besides one before the first step and one after the last; 0 disables them."""
    evaluation_suite: str = "quick"
    """Suite of scenarios for these evaluations, such as quick, world, safety or reasoning."""
    evaluation_limit: int = 0
    """Instances per scenario in these evaluations; 0 uses the suite's own limit."""
    stop_on_gate: str = ""
    """YAML file of gate rules; stop when an evaluation breaks one, compared with the one before the first step."""
    keep_checkpoints: int = 2
    """Number of newest checkpoints to keep."""
    resume: bool = False
    """Continue the run in the output folder from its last checkpoint, or start it if there is none."""
    tensorboard: bool = False
    """Also write the metrics for TensorBoard, to the run's tensorboard folder."""
    wandb: str = ""
    """Weights & Biases project to send the metrics to; empty sends nothing."""
    progress: bool = True
    """Show a progress bar, or an occasional line where there is no terminal."""

    def validate(self) -> None:
        for name in ("lr", "eps", "max_grad_norm", "weight_decay", "warmup_steps"):
            self._require(name, "a finite number of 0 or more", lambda x: math.isfinite(x) and x >= 0)
        for name in ("min_lr_ratio", "decay_fraction"):
            self._require(name, "a fraction from 0 to 1", lambda x: 0 <= x <= 1)
        for name in ("beta1", "beta2"):
            self._require(name, "a number from 0 to below 1", lambda x: 0 <= x < 1)
        for name in ("batch_size", "tokens_per_microbatch", "log_every", "keep_checkpoints"):
            self._require(name, "a whole number of 1 or more", lambda x: x >= 1)
        for name in ("steps", "seed", "save_every", "sample_every", "evaluate_every", "evaluation_limit"):
            self._require(name, "a whole number of 0 or more", lambda x: x >= 0)
        gated = bool(self.stop_on_gate) and not self.evaluate_every
        self._require("evaluate_every", "1 or more, because stop_on_gate is set", lambda _: not gated)
        self._require("epochs", "a finite number above 0", lambda x: math.isfinite(x) and x > 0)
        self._require("warmup_steps", "whole steps, or a fraction below 1", lambda x: x < 1 or x == int(x))

    def total_steps(self, num_records: int) -> int:
        """Number of optimiser steps: `steps`, or what `epochs` passes over `num_records` records take."""
        return self.steps or max(1, math.ceil(self.epochs * num_records / self.batch_size))

    def _require(self, name: str, expected: str, is_valid: Callable[[Any], bool]) -> None:
        value = getattr(self, name)
        require_option(name, value, expected, is_valid(value))


OPTION_NAMES: Final = tuple(field.name for field in fields(TrainingOptions))
