"""A backend for tests that responds by rule, records its requests, and can be killed between batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from zhenlong.inference.requests import (
    GeneratedOutput,
    GenerateRequest,
    RequestCost,
    RequestResult,
    ScoreRequest,
    ScoreTextRequest,
)


class Killed(BaseException):
    """Raised in place of a kill signal."""


class ScriptedBackend:
    """Generates by a function of the request; scores by a function of (context, continuation); fixed batch size."""

    def __init__(
        self,
        respond: Callable[[GenerateRequest], str] = lambda request: "yes",
        score_continuation: Callable[[Any, str], float] = lambda context, continuation: -float(len(continuation)),
        *,
        name: str = "stand-in",
        batch: int = 2,
        dies_at: int | None = None,
        context: int | None = None,
        as_chat: bool = False,
    ) -> None:
        self.name = self.fingerprint = name
        self.metadata: dict[str, Any] = {"kind": "stand-in"}
        self.respond, self.score_continuation, self.batch, self.dies_at = respond, score_continuation, batch, dies_at
        self.context_length, self.as_chat = context, as_chat
        self.requests: list[Any] = []
        self.batches = 0

    def count_tokens(self, prompt: Any) -> int:
        """One token per word, also in messages."""
        text = prompt if isinstance(prompt, str) else " ".join(one.content for one in prompt)
        return len(text.split())

    def generate(self, requests: Sequence[GenerateRequest]) -> Iterator[list[tuple[int, RequestResult]]]:
        yield from self._all(requests, self._generated)

    def score(self, requests: Sequence[ScoreRequest | ScoreTextRequest]) -> Iterator[list[tuple[int, RequestResult]]]:
        yield from self._all(requests, self._scored)

    def _all(
        self, requests: Sequence[Any], answer: Callable[[Any], RequestResult]
    ) -> Iterator[list[tuple[int, RequestResult]]]:
        for start in range(0, len(requests), self.batch):
            if self.batches == self.dies_at:
                raise Killed
            self.batches += 1
            part = requests[start : start + self.batch]
            self.requests += part
            yield [(start + place, answer(one)) for place, one in enumerate(part)]

    def _generated(self, request: GenerateRequest) -> RequestResult:
        text = self.respond(request)
        if text.startswith("FAIL "):
            return RequestResult(failed=text.removeprefix("FAIL "))
        return RequestResult(
            tuple(GeneratedOutput(text, -1.0, 3) for _ in range(request.n)), cost=RequestCost(0.5, 10, 3, 100.0, 1000)
        )

    def _scored(self, request: ScoreRequest | ScoreTextRequest) -> RequestResult:
        if isinstance(request, ScoreTextRequest):
            return RequestResult(
                log_probs=(self.score_continuation("", request.text),), num_tokens=(len(request.text.split()),)
            )
        values = tuple(self.score_continuation(request.context, one) for one in request.continuations)
        return RequestResult(log_probs=values, num_tokens=tuple(len(one.split()) or 1 for one in request.continuations))
