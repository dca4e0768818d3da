"""The cost of a run: tokens, FLOPs, time, memory, and any other amount that a stage counts."""

from __future__ import annotations

import functools
import resource
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from zhenlong.forest.last_layer import skippable_parameters
from zhenlong.kernels.onednn_linear import linear_no_grad

MEASURE_SECONDS = 0.2


class Ledger:
    """Running totals, saved in checkpoints. The clock runs from `start` to `stop`, evaluation included."""

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        self.device, self.dtype = device, dtype
        self.tokens = 0
        self.flops = 0.0
        self.extras: dict[str, float] = {}
        self._elapsed_before = 0.0
        self._started_at: float | None = None

    def count(self, tokens: int = 0, flops: float = 0.0, **extras: float) -> None:
        """Add to the totals. `extras` are counted by name, such as `annotations=3` or `money=0.2`."""
        self.tokens += tokens
        self.flops += flops
        for name, amount in extras.items():
            self.extras[name] = self.extras.get(name, 0) + amount

    @property
    def seconds(self) -> float:
        """Wall-clock seconds, including those before an interruption."""
        return self._elapsed_before + (time.perf_counter() - self._started_at if self._started_at is not None else 0.0)

    def start(self) -> None:
        """Start the clock."""
        self._started_at = time.perf_counter()

    def stop(self) -> None:
        """Stop the clock."""
        self._elapsed_before, self._started_at = self.seconds, None

    def summary(self) -> dict[str, Any]:
        """Totals, rates and peak memory, as written to ledger.json."""
        seconds = max(self.seconds, 1e-9)
        peak_rate = matmul_rate(self.device, self.dtype)
        return {
            "tokens": self.tokens,
            "flops": self.flops,
            "seconds": self.seconds,
            "tokens_per_second": self.tokens / seconds,
            "utilisation": self.flops / seconds / peak_rate,
            "matmul_flops_per_second": peak_rate,
            "peak_memory_bytes": peak_memory(self.device),
            **self.extras,
        }

    def state_dict(self) -> dict[str, Any]:
        """The totals, for a checkpoint."""
        return {"tokens": self.tokens, "flops": self.flops, "seconds": self.seconds, "extras": dict(self.extras)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from saved totals; a running clock keeps running."""
        self.tokens, self.flops, self.extras = state["tokens"], state["flops"], dict(state["extras"])
        self._elapsed_before = state["seconds"]
        self._started_at = None if self._started_at is None else time.perf_counter()


@dataclass(frozen=True)
class FlopEstimator:
    """FLOPs of a model's matrix products; one multiplication and one addition are two FLOPs.

    `body` and `head` are the matrix elements that each token and each scored position is multiplied with;
    `trained_body` and `trained_head` are those that get a gradient. `attention` is layers x width of the attention.
    `last_layer` and `trained_last_layer` are the part of the body that the forest's sparse last layer skips for tokens
    whose output is not needed, and `last_layer_attention` is the width of that layer's attention; all 0 where nothing
    is skipped.
    """

    body: float
    head: float
    trained_body: float
    trained_head: float
    attention: float
    last_layer: float = 0.0
    trained_last_layer: float = 0.0
    last_layer_attention: float = 0.0

    @classmethod
    def for_model(cls, model: nn.Module) -> FlopEstimator:
        """The cost of a transformers causal language model or sequence classifier.

        The input embedding is a lookup and costs nothing. For a mixture of experts, only the active fraction of the
        experts counts. A LoRA adapter adds its own matrices.
        """
        config: Any = getattr(model, "config", None)
        text = config.get_text_config() if hasattr(config, "get_text_config") else config
        embeddings, head = _embedding_and_head_ids(model)
        experts = getattr(text, "num_experts", None) or getattr(text, "num_local_experts", None) or 1
        active_fraction = (getattr(text, "num_experts_per_tok", None) or 1) / experts
        skippable = {id(parameter) for parameter in skippable_parameters(model)}
        body = trained_body = last_layer = trained_last_layer = 0.0
        for name, parameter in model.named_parameters():
            if id(parameter) in embeddings or id(parameter) in head or parameter.dim() < 2:
                continue
            size = parameter.numel() * (active_fraction if ".experts." in name else 1.0)
            body += size
            trained_body += size * parameter.requires_grad
            if id(parameter) in skippable:
                last_layer += size
                trained_last_layer += size * parameter.requires_grad
        heads = [p for p in model.parameters() if id(p) in head]
        head_size = float(sum(p.numel() for p in heads))
        trained_head = float(sum(p.numel() for p in heads if p.requires_grad))
        attention = _attention_width(text)
        last_layer_attention = attention / text.num_hidden_layers if skippable else 0.0
        return cls(
            body, head_size, trained_body, trained_head, attention, last_layer, trained_last_layer, last_layer_attention
        )

    def forward(
        self,
        tokens: float,
        scored: float | None = None,
        attention_pairs: float = 0.0,
        last_layer_tokens: float | None = None,
    ) -> float:
        """FLOPs of a forward pass: 2 per parameter and token, and 4 x layers x width per attended pair.

        `scored` positions go through the head (all tokens when None). `attention_pairs` is the number of (query, key)
        pairs, n (n + 1) / 2 for one causal sequence of n tokens. `last_layer_tokens` go through the whole last layer
        (all tokens when None); that layer's attention pairs are scaled by the same fraction.
        """
        skipped = tokens - _or_all_tokens(last_layer_tokens, tokens)
        products = self.body * tokens - self.last_layer * skipped + self.head * _or_all_tokens(scored, tokens)
        return 2 * products + 4 * self._weighted_attention_pairs(tokens, attention_pairs, skipped)

    def train(
        self,
        tokens: float,
        scored: float | None = None,
        attention_pairs: float = 0.0,
        last_layer_tokens: float | None = None,
    ) -> float:
        """FLOPs of forward and backward: 6 per trained parameter and token, 4 per frozen one (no weight gradient)."""
        forward, skipped = (
            self.forward(tokens, scored, attention_pairs, last_layer_tokens),
            tokens - _or_all_tokens(last_layer_tokens, tokens),
        )
        trained = self.trained_body * tokens - self.trained_last_layer * skipped
        weights = 2 * (trained + self.trained_head * _or_all_tokens(scored, tokens))
        return forward + (forward + 4 * self._weighted_attention_pairs(tokens, attention_pairs, skipped)) + weights

    def _weighted_attention_pairs(self, tokens: float, attention_pairs: float, skipped: float) -> float:
        """Layers x width x pairs of attention."""
        return attention_pairs * (self.attention - self.last_layer_attention * skipped / max(tokens, 1.0))


def _or_all_tokens(count: float | None, tokens: float) -> float:
    return tokens if count is None else count


def _embedding_and_head_ids(model: nn.Module) -> tuple[set[int], set[int]]:
    """Ids of the parameters that are only looked up, and of those of the output head (which owns tied weights)."""
    get_input = getattr(model, "get_input_embeddings", lambda: None)
    get_output = getattr(model, "get_output_embeddings", lambda: None)
    looked_up, head = (
        {id(p) for p in part.parameters()} if part is not None else set() for part in (get_input(), get_output())
    )
    positions = {id(p) for module in model.modules() if isinstance(module, nn.Embedding) for p in module.parameters()}
    return (looked_up | positions) - head, head


def _attention_width(config: Any) -> float:
    """Layers x heads x head dimension."""
    layers = getattr(config, "num_hidden_layers", 0) or 0
    heads = getattr(config, "num_attention_heads", 0) or 0
    width = getattr(config, "hidden_size", 0) or 0
    head_dim = getattr(config, "head_dim", None) or (width // heads if heads else 0)
    return float(layers * heads * head_dim)


def measure_matmul_rate(device: torch.device, dtype: torch.dtype) -> float:
    """FLOP/s of a large square matrix product on this device: the best rate seen in 0.2 s."""
    size = 4096 if device.type == "cuda" else 768
    generator = torch.Generator(device).manual_seed(
        0
    )  # a local generator leaves the global ones alone; random values, since products of ones run faster
    a, b = (torch.randn(size, size, generator=generator, device=device, dtype=dtype) for _ in range(2))
    wait = functools.partial(torch.cuda.synchronize, device) if device.type == "cuda" else (lambda: None)
    linear_no_grad(a, b)
    wait()
    best, measuring_since = float("inf"), time.perf_counter()
    while time.perf_counter() - measuring_since < MEASURE_SECONDS:
        started = time.perf_counter()
        linear_no_grad(a, b)
        wait()
        best = min(best, time.perf_counter() - started)
    return 2 * size**3 / best


@functools.cache
def _cached_matmul_rate(device: str, dtype: torch.dtype, threads: int) -> float:
    return measure_matmul_rate(torch.device(device), dtype)


def matmul_rate(device: torch.device, dtype: torch.dtype) -> float:
    """FLOP/s of a large square matrix product on this device, measured once per process."""
    return _cached_matmul_rate(str(device), dtype, torch.get_num_threads())


def peak_memory(device: torch.device) -> int:
    """Peak memory in bytes since the process began: allocated by torch on CUDA, else the resident set size."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024  # getrusage counts kilobytes on Linux, bytes on macOS
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
