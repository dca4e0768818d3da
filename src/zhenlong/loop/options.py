"""The options that all training stages share: one flat, documented, validated list.

A stage accepts them as `**training` and calls `TrainingOptions(**training)`. The command line follows that call: each
field becomes an option of each stage, and the string below it becomes the help. A stage with another default repeats
the field in its own signature and passes it on: `def dpo(*, lr: float = 1e-6, **training): TrainingOptions(lr=lr,
**training)`.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import Any, Final, Literal, get_args, get_type_hints

from zhenlong.errors import UserError

Schedule = Literal["constant", "linear", "cosine", "wsd"]
Dtype = Literal["auto", "float32", "bfloat16"]

RESUMABLE_CHANGES: Final = frozenset(
    {"log_every", "save_every", "sample_every", "keep_checkpoints", "resume", "tensorboard", "wandb", "progress"}
    | {"evaluate_every", "evaluation_suite", "evaluation_limit", "stop_on_gate"}
)
"""Options that may change when a run is resumed: none of them affects the weights."""


@dataclass(frozen=True)
class TrainingOptions:
    """How a stage optimises, saves and reports. An invalid value raises `UserError` naming the option."""

    lr: float = 1e-5
    """Peak learning rate of AdamW, reached at the end of the warm-up."""
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
    dtype: Dtype = "auto"
    """Precision of matrix products: auto is bfloat16 on CUDA devices that support it, float32 elsewhere."""
    compile: bool = False
    """Compile layers with torch.compile: useful on CUDA for architectures without kernels; needs a C++ compiler."""
    device: str = "auto"
    """Where to train: cpu, cuda, cuda:1; auto is the first CUDA device, or the CPU if there is none."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about 25 % more time."""
    lora_rank: int = 0
    """Rank of the LoRA adapters, which are trained instead of all weights; 0 trains all weights."""
    lora_alpha: float = 16.0
    """LoRA scale: the adapter's output is multiplied by lora_alpha / lora_rank."""
    lora_dropout: float = 0.0
    """Dropout on the input of the adapters."""
    lora_targets: str = "all-linear"
    """Modules that get an adapter, separated by commas; all-linear is every linear layer but the head."""
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

    def __post_init__(self) -> None:
        for name, kind in get_type_hints(type(self)).items():
            object.__setattr__(self, name, _coerce(name, getattr(self, name), kind))
        for name in ("lr", "eps", "max_grad_norm", "weight_decay", "warmup_steps", "lora_alpha"):
            _require(name, getattr(self, name), "a finite number of 0 or more", lambda x: math.isfinite(x) and x >= 0)
        for name in ("min_lr_ratio", "decay_fraction"):
            _require(name, getattr(self, name), "a fraction from 0 to 1", lambda x: 0 <= x <= 1)
        for name in ("beta1", "beta2", "lora_dropout"):
            _require(name, getattr(self, name), "a number from 0 to below 1", lambda x: 0 <= x < 1)
        for name in ("batch_size", "tokens_per_microbatch", "log_every", "keep_checkpoints"):
            _require(name, getattr(self, name), "a whole number of 1 or more", lambda x: x >= 1)
        for name in ("steps", "seed", "lora_rank", "save_every", "sample_every", "evaluate_every", "evaluation_limit"):
            _require(name, getattr(self, name), "a whole number of 0 or more", lambda x: x >= 0)
        gated = bool(self.stop_on_gate) and not self.evaluate_every
        _require("evaluate_every", self.evaluate_every, "1 or more, because stop_on_gate is set", lambda _: not gated)
        _require("epochs", self.epochs, "a finite number above 0", lambda x: math.isfinite(x) and x > 0)
        _require(
            "warmup_steps", self.warmup_steps, "whole steps, or a fraction below 1", lambda x: x < 1 or x == int(x)
        )

    def total_steps(self, num_records: int) -> int:
        """Number of optimiser steps: `steps`, or what `epochs` passes over `num_records` records take."""
        return self.steps or max(1, math.ceil(self.epochs * num_records / self.batch_size))

    def as_dict(self) -> dict[str, Any]:
        """All options and their values, in the order of the fields."""
        return asdict(self)


def _coerce(name: str, value: Any, expected_type: Any) -> Any:
    """The value as the field's type: an int passes as a float, nothing else is converted."""
    if choices := get_args(expected_type):
        return _require(name, value, "one of " + ", ".join(choices), lambda x: x in choices)
    if expected_type is float:
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return float(_require(name, value, "a number", lambda _: is_number))
    described = {int: "a whole number", bool: "true or false", str: "text"}[expected_type]
    return _require(name, value, described, lambda x: type(x) is expected_type)


def _require(name: str, value: Any, expected: str, is_valid: Any) -> Any:
    if not is_valid(value):
        raise UserError(f"{name}: expected {expected}, got {value!r}")
    return value


OPTION_NAMES: Final = tuple(field.name for field in fields(TrainingOptions))
