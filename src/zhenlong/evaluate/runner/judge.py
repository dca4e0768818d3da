"""A model as a judge: conversations in, one answer each, kept in the cache like all others."""

from __future__ import annotations

from collections.abc import Sequence

from zhenlong.evaluate.adapters.request import Generate
from zhenlong.evaluate.outcome import Output
from zhenlong.evaluate.runner.backend import Backend
from zhenlong.evaluate.runner.cache import Cache
from zhenlong.evaluate.runner.drive import answered
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
        context = self._backend.context
        fitting = [place for place, one in enumerate(conversations)
                   if context is None or self._backend.length(one) < context]  # fmt: skip
        drawn = seed if temperature else 0
        requests = [
            Generate(conversations[place], max_tokens, temperature, seed=drawn, top_log_probs=top_log_probs)
            for place in fitting
        ]
        found = [Output("")] * len(conversations)
        for place, answer in zip(fitting, answered(requests, self._backend, self._cache), strict=True):
            if answer.outputs:
                found[place] = answer.outputs[0]
        return found
