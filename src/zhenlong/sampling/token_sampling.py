"""How a token is sampled from logits, with one uniform number: truncation, then the inverse of the cumulative sum.

`torch.multinomial` generates an exponential variable for every id of the vocabulary; inverting the cumulative sum needs
one uniform number per sample, and a generator keyed by request makes that number independent of the batch.
Legend: R rows, V vocabulary size, B blocks of W ids, K samples per row.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch

from zhenlong.errors import UserError

BLOCK_SIZE: Final = 64  # ids per block: the sums of blocks are searched first, then one block
TOP_P_CANDIDATES: Final = 256  # most probable ids checked for top-p before a full sort


@dataclass(frozen=True)
class SamplingParams:
    """How to choose tokens and when to stop.

    The next token is sampled from softmax(logits / temperature), restricted to the `top_k` most probable ids (0: all),
    then to the smallest set with probability `top_p`, then to ids with at least `min_p` times the highest probability;
    temperature 0 is greedy. A completion ends at `max_tokens`, at an id in `stop_token_ids`, at the tokenizer's
    end-of-text id (unless `ignore_eos`), or once its text contains a string of `stop`.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    max_tokens: int = 128
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    seed: int = 0
    ignore_eos: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "stop", (self.stop,) if isinstance(self.stop, str) else tuple(self.stop))
        object.__setattr__(self, "stop_token_ids", tuple(int(token) for token in self.stop_token_ids))
        valid_temperature = math.isfinite(self.temperature) and self.temperature >= 0
        _require(valid_temperature, f"temperature: expected 0 (greedy) or a positive number, got {self.temperature}")
        _require(self.top_k >= 0, f"top_k: expected 0 (all ids) or a positive number, got {self.top_k}")
        _require(0 < self.top_p <= 1, f"top_p: expected a probability above 0 and at most 1, got {self.top_p}")
        _require(0 <= self.min_p <= 1, f"min_p: expected a fraction from 0 to 1, got {self.min_p}")
        _require(self.max_tokens >= 1, f"max_tokens: expected at least 1, got {self.max_tokens}")
        _require(all(self.stop), "stop: expected strings with at least one character, got an empty one")

    @property
    def truncates_distribution(self) -> bool:
        """Whether some ids are excluded before sampling."""
        return self.top_k > 0 or self.top_p < 1 or self.min_p > 0


def sample_tokens(
    logits: torch.Tensor, uniforms: torch.Tensor, sampling: SamplingParams
) -> tuple[torch.Tensor, torch.Tensor]:
    """Sample ids and log-probabilities, both [R, K], from logits [R, V] and float64 uniforms in [0, 1) [R, K].

    The log-probabilities are those of the distribution sampled from, after temperature and truncation. Temperature 0 is
    greedy and reports the log-probability at temperature 1. An id of probability 0 is never sampled.
    """
    logits = logits.float()
    if sampling.temperature == 0:
        max_logits, ids = logits.max(-1, keepdim=True)
        log_probs = max_logits - logits.logsumexp(-1, keepdim=True)
        return ids.expand(-1, uniforms.shape[1]), log_probs.expand(-1, uniforms.shape[1])
    if sampling.temperature < 0.01:  # dividing by it could overflow
        logits = logits - logits.max(-1, keepdim=True).values
    scaled = logits if sampling.temperature == 1 else logits / sampling.temperature
    return _inverse_cdf(_truncate_probs(scaled.softmax(-1), sampling), uniforms)


def philox_uniforms(seed: int, prompt_index: int, sample_index: int, *, count: int) -> np.ndarray:
    """`count` numbers in [0, 1) that depend only on the seed, the prompt index and the sample index."""
    key = [seed % 2**64, (prompt_index << 32 | sample_index) % 2**64]
    return np.random.Generator(np.random.Philox(key=np.array(key, dtype=np.uint64))).random(count)


def _truncate_probs(probs: torch.Tensor, sampling: SamplingParams) -> torch.Tensor:
    """Probabilities [R, V], 0 outside the support. Ids of equal probability are kept or removed together."""
    if 0 < sampling.top_k < probs.shape[1]:
        threshold = probs.topk(sampling.top_k).values[:, -1:]
        probs = probs.where(probs >= threshold, 0)
    if sampling.top_p < 1:
        probs = probs.where(probs >= _nucleus_threshold(probs, sampling.top_p), 0)
    if sampling.min_p > 0:
        probs = probs.where(probs >= sampling.min_p * probs.max(-1, keepdim=True).values, 0)
    return probs


def _nucleus_threshold(probs: torch.Tensor, top_p: float) -> torch.Tensor:
    """The smallest probability in the smallest set with mass `top_p`, [R, 1] (Holtzman et al. 2020)."""
    mass = top_p * probs.sum(-1, keepdim=True, dtype=torch.float64)
    descending = probs.topk(min(TOP_P_CANDIDATES, probs.shape[1])).values
    if bool((descending.sum(-1, keepdim=True, dtype=torch.float64) < mass).any()):
        descending = probs.sort(-1, descending=True).values
    before = descending.cumsum(-1, dtype=torch.float64) - descending
    inside = (before < mass).sum(-1, keepdim=True)  # at least 1: nothing is before the first
    return descending.gather(1, inside - 1)


def _inverse_cdf(probs: torch.Tensor, uniforms: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The ids at which the cumulative sum of `probs` exceeds each uniform number times the total, in float64.

    `right=True` finds the first sum above the target, so the id found has positive probability. Both targets stay below
    their totals, because a double below 1 times a total rounds to less than the total.
    """
    rows, vocab_size = probs.shape
    if vocab_size % BLOCK_SIZE:
        probs = torch.nn.functional.pad(probs, (0, BLOCK_SIZE - vocab_size % BLOCK_SIZE))
    blocks = probs.view(rows, -1, BLOCK_SIZE)  # [R, B, W]
    cumulative = blocks.sum(-1).cumsum(-1, dtype=torch.float64)  # [R, B]
    target = uniforms * cumulative[:, -1:]
    block = torch.searchsorted(cumulative, target, right=True).clamp_(max=cumulative.shape[1] - 1)  # [R, K]
    end = cumulative.gather(1, block)
    start = cumulative.gather(1, block - 1 + (block == 0)).where(block > 0, 0)
    inner = blocks.gather(1, block[..., None].expand(-1, -1, BLOCK_SIZE))  # [R, K, W]
    inner_cumulative = inner.cumsum(-1, dtype=torch.float64)
    inner_target = (target - start) / (end - start) * inner_cumulative[..., -1]
    offset = torch.searchsorted(inner_cumulative, inner_target[..., None], right=True).clamp_(
        max=BLOCK_SIZE - 1
    )  # [R, K, 1]
    sampled_probs = inner.gather(2, offset).squeeze(2)
    return block * BLOCK_SIZE + offset.squeeze(2), (sampled_probs / cumulative[:, -1:]).log().float()


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise UserError(message)
