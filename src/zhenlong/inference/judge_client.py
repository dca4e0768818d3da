"""A model as a judge: conversations in, one answer each, kept in the cache like all others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from zhenlong.inference.backend import Backend
from zhenlong.inference.cache import RequestCache
from zhenlong.inference.execute import generate_outputs
from zhenlong.inference.requests import GeneratedOutput, GenerateRequest
from zhenlong.records import Messages


class Judge(Protocol):
    """A model that answers conversations, asked to judge."""

    name: str

    def __call__(
        self,
        conversations: Sequence[Messages],
        *,
        max_tokens: int = 1024,
        temperature: float = 0.0,
        seed: int = 0,
        top_log_probs: int = 0,
    ) -> list[GeneratedOutput]:
        """One answer to each conversation; `top_log_probs` asks for that many of the likeliest tokens at each place."""
        ...


class ModelJudge:
    """A backend under the protocol of judges (`Judge`).

    A conversation that does not fit the model's context, or that it failed to answer, gets an empty answer, which holds
    no verdict: metrics count it as such.
    """

    def __init__(self, backend: Backend, cache: RequestCache) -> None:
        self.name = backend.name
        self._backend, self._cache = backend, cache

    def __call__(
        self,
        conversations: Sequence[Messages],
        *,
        max_tokens: int = 1024,
        temperature: float = 0.0,
        seed: int = 0,
        top_log_probs: int = 0,
    ) -> list[GeneratedOutput]:
        """One answer to each conversation."""
        sampling_seed = seed if temperature else 0

        def request(place: int) -> GenerateRequest:
            return GenerateRequest(
                conversations[place], max_tokens, temperature, seed=sampling_seed, top_log_probs=top_log_probs
            )

        found = generate_outputs(conversations, self._backend, self._cache, request)
        return [outputs[0] if outputs else GeneratedOutput("") for outputs in found]
