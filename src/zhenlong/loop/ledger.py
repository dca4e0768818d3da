"""What a run cost: tokens, arithmetic, time, memory, and whatever else a stage counts."""

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

from zhenlong.forest.last_layer import spared_parameters
from zhenlong.kernels.products import product

MEASURE_SECONDS = 0.2


class Ledger:
    """Running totals, saved with the run. The clock runs from `start` to `stop`, evaluation and sampling included."""

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        self.device, self.dtype = device, dtype
        self.tokens = 0
        self.flops = 0.0
        self.others: dict[str, float] = {}
        self._seconds = 0.0
        self._since: float | None = None

    def count(self, tokens: int = 0, flops: float = 0.0, **others: float) -> None:
        """Add to the totals. `others` are counted under their own names, such as `annotations=3` or `money=0.2`."""
        self.tokens += tokens
        self.flops += flops
        for name, amount in others.items():
            self.others[name] = self.others.get(name, 0) + amount

    @property
    def seconds(self) -> float:
        """Wall-clock seconds, those before an interruption included."""
        return self._seconds + (time.perf_counter() - self._since if self._since is not None else 0.0)

    def start(self) -> None:
        """Let the clock run."""
        self._since = time.perf_counter()

    def stop(self) -> None:
        """Halt the clock."""
        self._seconds, self._since = self.seconds, None

    def summary(self) -> dict[str, Any]:
        """The totals, their rates, and the peak memory, as ledger.json has them."""
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
            **self.others,
        }

    def state_dict(self) -> dict[str, Any]:
        """The totals, for a checkpoint."""
        return {"tokens": self.tokens, "flops": self.flops, "seconds": self.seconds, "others": dict(self.others)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from saved totals; a running clock goes on from them."""
        self.tokens, self.flops, self.others = state["tokens"], state["flops"], dict(state["others"])
        self._seconds = state["seconds"]
        self._since = None if self._since is None else time.perf_counter()


@dataclass(frozen=True)
class Cost:
    """The arithmetic of a model's matrix products, one multiplication and one addition being two FLOPs.

    `body` and `head` are the matrix elements that a token and a scored position are multiplied with, `trained_body` and
    `trained_head` those of them that get a gradient, and `attention` is layers x width of the attention. `last` and
    `trained_last` are the part of the body that the forest's last layer spares tokens that are not read, and
    `last_attention` the width of its attention; 0 where it spares nothing.
    """

    body: float
    head: float
    trained_body: float
    trained_head: float
    attention: float
    last: float = 0.0
    trained_last: float = 0.0
    last_attention: float = 0.0

    @classmethod
    def of(cls, model: nn.Module) -> Cost:
        """The cost of a transformers causal language model or sequence classifier.

        The input embedding is a lookup and costs nothing. Of a mixture of experts only the share that a token visits
        counts. An adapter costs its own matrices.
        """
        config: Any = getattr(model, "config", None)
        text = config.get_text_config() if hasattr(config, "get_text_config") else config
        embeddings, head = _embeddings(model)
        experts = getattr(text, "num_experts", None) or getattr(text, "num_local_experts", None) or 1
        visited = (getattr(text, "num_experts_per_tok", None) or 1) / experts
        spared = {id(parameter) for parameter in spared_parameters(model)}
        body = trained = last = trained_last = 0.0
        for name, parameter in model.named_parameters():
            if id(parameter) in embeddings or id(parameter) in head or parameter.dim() < 2:
                continue
            size = parameter.numel() * (visited if ".experts." in name else 1.0)
            body += size
            trained += size * parameter.requires_grad
            if id(parameter) in spared:
                last += size
                trained_last += size * parameter.requires_grad
        heads = [p for p in model.parameters() if id(p) in head]
        head_size = float(sum(p.numel() for p in heads))
        trained_head = float(sum(p.numel() for p in heads if p.requires_grad))
        attention = _attention(text)
        one = attention / text.num_hidden_layers if spared else 0.0
        return cls(body, head_size, trained, trained_head, attention, last, trained_last, one)

    def forward(
        self, tokens: float, scored: float | None = None, pairs: float = 0.0, read: float | None = None
    ) -> float:
        """FLOPs of a forward pass: 2 a parameter and token, and 4 layers x width for each attended pair.

        `scored` positions go through the head (all tokens when None); `pairs` is the number of (query, key) pairs that
        attention looks at, n (n + 1) / 2 for one causal sequence of n tokens. `read` positions go through the last
        layer (all tokens when None), and as large a share of the pairs.
        """
        spared = tokens - _scored(read, tokens)
        products = self.body * tokens - self.last * spared + self.head * _scored(scored, tokens)
        return 2 * products + 4 * self._pairs(tokens, pairs, spared)

    def train(self, tokens: float, scored: float | None = None, pairs: float = 0.0, read: float | None = None) -> float:
        """FLOPs of forward and backward: 6 a trained parameter and token, 4 a frozen one (no weight gradient)."""
        forward, spared = self.forward(tokens, scored, pairs, read), tokens - _scored(read, tokens)
        trained = self.trained_body * tokens - self.trained_last * spared
        weights = 2 * (trained + self.trained_head * _scored(scored, tokens))
        return forward + (forward + 4 * self._pairs(tokens, pairs, spared)) + weights

    def _pairs(self, tokens: float, pairs: float, spared: float) -> float:
        """Layers x width x pairs of attention."""
        return pairs * (self.attention - self.last_attention * spared / max(tokens, 1.0))


def _scored(scored: float | None, tokens: float) -> float:
    return tokens if scored is None else scored


def _embeddings(model: nn.Module) -> tuple[set[int], set[int]]:
    """The ids of the parameters that are only looked up, and of those of the output head (a tied one is the head's)."""
    get_input = getattr(model, "get_input_embeddings", lambda: None)
    get_output = getattr(model, "get_output_embeddings", lambda: None)
    looked_up, head = (
        {id(p) for p in part.parameters()} if part is not None else set() for part in (get_input(), get_output())
    )
    positions = {id(p) for module in model.modules() if isinstance(module, nn.Embedding) for p in module.parameters()}
    return (looked_up | positions) - head, head


def _attention(config: Any) -> float:
    """Layers x heads x head dimension."""
    layers = getattr(config, "num_hidden_layers", 0) or 0
    heads = getattr(config, "num_attention_heads", 0) or 0
    width = getattr(config, "hidden_size", 0) or 0
    head_dim = getattr(config, "head_dim", None) or (width // heads if heads else 0)
    return float(layers * heads * head_dim)


def measured_matmul_rate(device: torch.device, dtype: torch.dtype) -> float:
    """FLOP/s of a large square matrix product on this device now: the best of 0.2 s of tries."""
    size = 4096 if device.type == "cuda" else 768
    own = torch.Generator(device).manual_seed(0)  # no global random number is drawn; of ones the product is quicker
    a, b = (torch.randn(size, size, generator=own, device=device, dtype=dtype) for _ in range(2))
    wait = functools.partial(torch.cuda.synchronize, device) if device.type == "cuda" else (lambda: None)
    product(a, b)
    wait()
    best, begun = float("inf"), time.perf_counter()
    while time.perf_counter() - begun < MEASURE_SECONDS:
        started = time.perf_counter()
        product(a, b)
        wait()
        best = min(best, time.perf_counter() - started)
    return 2 * size**3 / best


@functools.cache
def _known_rate(device: str, dtype: torch.dtype, threads: int) -> float:
    return measured_matmul_rate(torch.device(device), dtype)


def matmul_rate(device: torch.device, dtype: torch.dtype) -> float:
    """FLOP/s of a large square matrix product on this device, as `measured_matmul_rate` finds it once a process."""
    return _known_rate(str(device), dtype, torch.get_num_threads())


def peak_memory(device: torch.device) -> int:
    """Most bytes in use since the process began: on CUDA those that torch allocated there, else the resident memory."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024  # getrusage counts kilobytes on Linux, bytes on macOS
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
