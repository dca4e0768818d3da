"""The options of what is computed and where: device, precision, memory, adapters, the shape of a new model."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from zhenlong.options import Options, require_option

Dtype = Literal["auto", "float32", "bfloat16"]
WeightDtype = Literal["float32", "bfloat16", "float16"]


@dataclass(frozen=True)
class LoadOptions(Options):
    """Where a model computes that is not trained, and the type of its weights."""

    device: str = "auto"
    """Where to compute: cpu, cuda, cuda:1; auto is the first CUDA device, or the CPU if there is none."""
    dtype: WeightDtype = "float32"
    """Type of the weights: float32, bfloat16 or float16."""


@dataclass(frozen=True)
class ModelOptions(Options):
    """Where and how a model is trained. A value out of range raises `UserError` naming the option."""

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

    def validate(self) -> None:
        finite = math.isfinite(self.lora_alpha) and self.lora_alpha >= 0
        require_option("lora_alpha", self.lora_alpha, "a finite number of 0 or more", is_valid=finite)
        in_range = 0 <= self.lora_dropout < 1
        require_option("lora_dropout", self.lora_dropout, "a number from 0 to below 1", is_valid=in_range)
        require_option("lora_rank", self.lora_rank, "a whole number of 0 or more", is_valid=self.lora_rank >= 0)


@dataclass(frozen=True)
class NewModelOptions(Options):
    """The shape of a model made from random weights, and its tokenizer."""

    tokenizer: str = ""
    """Tokenizer of a new model: a folder or hub id; empty trains a byte-level BPE."""
    vocab_size: int = 4096
    """Size of the tokenizer to train."""
    hidden_size: int = 128
    """Width of a new model."""
    layers: int = 6
    """Layers of a new model; an encoder-decoder gives half of them to each part."""
    heads: int = 4
    """Attention heads of a new model."""
    intermediate_size: int = 384
    """Width of a new model's feed-forward layers."""
