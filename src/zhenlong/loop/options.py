"""The options that every training stage shares: one flat, documented, validated list.

A stage takes them as `**training` and calls `TrainingOptions(**training)`; the command line follows that call, so each
field here is an option of each stage, with the line under it as its help. A stage that wants another default names the
field in its own signature and hands it on: `def dpo(*, lr: float = 1e-6, **training): TrainingOptions(lr=lr,
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
"""The options that a resumed run may change: none of them alters a weight."""


@dataclass(frozen=True)
class TrainingOptions:
    """How a training stage optimises, saves and reports. A value out of range raises `UserError` naming the option."""

    lr: float = 1e-5
    """Peak learning rate of AdamW, reached at the end of the warm-up."""
    schedule: Schedule = "cosine"
    """Learning rate after the warm-up: constant, linear or cosine decay, or wsd (stable, then a short decay)."""
    warmup_steps: float = 0.0
    """Optimiser steps of linear warm-up; below 1 it is a fraction of all steps."""
    decay_fraction: float = 0.2
    """Share of all steps that the final decay of the wsd schedule takes."""
    min_lr_ratio: float = 0.0
    """Learning rate at the end of a decay, as a fraction of lr."""
    weight_decay: float = 0.0
    """Decoupled weight decay of parameters with two or more dimensions; biases and norm gains are never decayed."""
    beta1: float = 0.9
    """AdamW's decay of the mean of gradients."""
    beta2: float = 0.95
    """AdamW's decay of the mean of squared gradients; 0.999 averages longer and suits small batches."""
    eps: float = 1e-8
    """Number that AdamW adds to the denominator."""
    max_grad_norm: float = 1.0
    """Largest gradient norm, longer gradients are scaled down to it; 0 turns clipping off."""
    batch_size: int = 32
    """Records (conversations, pairs, prompts) that one optimiser step learns from."""
    tokens_per_microbatch: int = 4096
    """Tokens in one forward pass; less saves memory, and the gradient stays the same."""
    epochs: float = 1.0
    """Passes over the data."""
    steps: int = 0
    """Optimiser steps in all; 0 leaves the number to epochs."""
    seed: int = 0
    """Seed of every random choice; on CPU it fixes the result to the bit."""
    dtype: Dtype = "auto"
    """Precision of the matrix products: auto takes bfloat16 on CUDA devices that have it and float32 elsewhere."""
    compile: bool = False
    """Compile the layers with torch.compile: pays on CUDA for architectures without kernels; needs a C++ compiler."""
    device: str = "auto"
    """Where to train: cpu, cuda, cuda:1; auto takes the first CUDA device there is, and else the CPU."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a quarter more time."""
    lora_rank: int = 0
    """Rank of the LoRA adapters that are trained in place of all weights; 0 trains all weights."""
    lora_alpha: float = 16.0
    """LoRA scale: the adapter's output is multiplied by lora_alpha / lora_rank."""
    lora_dropout: float = 0.0
    """Dropout on the adapters' input."""
    lora_targets: str = "all-linear"
    """Modules that get an adapter, names separated by commas; all-linear takes every linear layer but the head."""
    log_every: int = 1
    """Steps between two lines of metrics.jsonl."""
    save_every: int = 100
    """Steps between two checkpoints; 0 saves only when the run is told to stop."""
    sample_every: int = 0
    """Steps between two rounds of samples for samples.jsonl; 0 takes none."""
    evaluate_every: int = 0
    """Steps between two evaluations, beside one before the first step and one after the last; 0 makes none."""
    evaluation_suite: str = "quick"
    """Suite of scenarios of these evaluations, such as quick, world, safety or reasoning."""
    evaluation_limit: int = 0
    """Instances of each scenario in these evaluations; 0 takes what the suite says."""
    stop_on_gate: str = ""
    """YAML file of a gate's rules: stop where an evaluation breaks one, held against the one before the first step."""
    keep_checkpoints: int = 2
    """Newest checkpoints to keep."""
    resume: bool = False
    """Continue the run in the output folder from its last checkpoint; starts it where there is none."""
    tensorboard: bool = False
    """Write the metrics for TensorBoard too, to the run's tensorboard folder."""
    wandb: str = ""
    """Weights & Biases project to send the metrics to; empty sends nothing."""
    progress: bool = True
    """Show a progress bar, or now and then a line where there is no terminal."""

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
        _require("evaluate_every", self.evaluate_every, "1 or more, for stop_on_gate is given", lambda _: not gated)
        _require("epochs", self.epochs, "a finite number above 0", lambda x: math.isfinite(x) and x > 0)
        _require(
            "warmup_steps", self.warmup_steps, "whole steps, or a fraction below 1", lambda x: x < 1 or x == int(x)
        )

    def total_steps(self, num_records: int) -> int:
        """Optimiser steps in all: `steps`, or those that `epochs` passes over so many records take."""
        return self.steps or max(1, math.ceil(self.epochs * num_records / self.batch_size))

    def as_dict(self) -> dict[str, Any]:
        """Every option and its value, in the order of the fields."""
        return asdict(self)


def _coerce(name: str, value: Any, expected_type: Any) -> Any:
    """The value as the field's type: whole numbers pass as floats, nothing else is converted."""
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
