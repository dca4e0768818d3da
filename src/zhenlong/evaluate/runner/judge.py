"""A model as a judge: conversations in, one answer each, kept in the cache like all others."""

from __future__ import annotations

from collections.abc import Sequence

from zhenlong.evaluate.adapters.request import Generate
from zhenlong.evaluate.outcome import Output
from zhenlong.evaluate.runner.backend import Backend
from zhenlong.evaluate.runner.cache import Cache
from zhenlong.evaluate.runner.drive import replies
from zhenlong.records import Messages


class ModelJudge:
    """A backend under the protocol of judges (`zhenlong.evaluate.outcome.Judge`).

    A conversation that does not fit the model's context, or that it failed to answer, gets an empty answer, which holds
    no verdict: metrics count it as such.
    """

    def __init__(self, backend: Backend, cache: Cache) -> None:
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
    ) -> list[Output]:
        """One answer to each conversation."""
        drawn = seed if temperature else 0

        def request(place: int) -> Generate:
            return Generate(conversations[place], max_tokens, temperature, seed=drawn, top_log_probs=top_log_probs)

        found = replies(conversations, self._backend, self._cache, request)
        return [outputs[0] if outputs else Output("") for outputs in found]
