"""Sampling parameters, completions, and the sampler protocol."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from zhenlong.errors import UserError


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


@dataclass(frozen=True)
class Completion:
    """One continuation of a prompt.

    `token_ids` are all generated ids, including the stop id; `log_probs` their log-probabilities under the distribution
    that was sampled from (for greedy decoding: at temperature 1). `text` omits special tokens and everything from a
    stop string on. `truncated` is true if it ended at `max_tokens` or at the end of the model's context.
    """

    token_ids: tuple[int, ...]
    log_probs: tuple[float, ...]
    text: str
    truncated: bool


class Sampler(Protocol):
    """Anything that completes prompts, given as token ids."""

    def sample(
        self, prompts: Sequence[Sequence[int]], sampling: SamplingParams, samples_per_prompt: int = 1
    ) -> list[list[Completion]]:
        """`samples_per_prompt` completions of each prompt, in the order of the prompts."""
        ...


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise UserError(message)
