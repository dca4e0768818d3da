"""A model for tests that answers by rule, remembers what it was asked, and dies when it is told to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from zhenlong.evaluate.adapters.request import Answer, Generate, Score, ScoreText
from zhenlong.evaluate.outcome import Cost, Output


class Killed(BaseException):
    """What a test raises where a process would be killed."""


class StandIn:
    """Answers `say(request)`; scores a continuation by `worth(context, continuation)`. `batch` answers at a time."""

    def __init__(
        self,
        say: Callable[[Generate], str] = lambda request: "yes",
        worth: Callable[[Any, str], float] = lambda context, continuation: -float(len(continuation)),
        *,
        name: str = "stand-in",
        batch: int = 2,
        dies_at: int | None = None,
        context: int | None = None,
        as_chat: bool = False,
    ) -> None:
        self.name = self.fingerprint = name
        self.facts: dict[str, Any] = {"kind": "stand-in"}
        self.say, self.worth, self.batch, self.dies_at = say, worth, batch, dies_at
        self.context, self.as_chat = context, as_chat
        self.asked: list[Any] = []
        self.batches = 0

    def length(self, prompt: Any) -> int:
        """A token a word; a message is as long as its words."""
        text = prompt if isinstance(prompt, str) else " ".join(one.content for one in prompt)
        return len(text.split())

    def generate(self, requests: Sequence[Generate]) -> Iterator[list[tuple[int, Answer]]]:
        yield from self._all(requests, self._generated)

    def score(self, requests: Sequence[Score | ScoreText]) -> Iterator[list[tuple[int, Answer]]]:
        yield from self._all(requests, self._scored)

    def _all(self, requests: Sequence[Any], answer: Callable[[Any], Answer]) -> Iterator[list[tuple[int, Answer]]]:
        for start in range(0, len(requests), self.batch):
            if self.batches == self.dies_at:
                raise Killed
            self.batches += 1
            part = requests[start : start + self.batch]
            self.asked += part
            yield [(start + place, answer(one)) for place, one in enumerate(part)]

    def _generated(self, request: Generate) -> Answer:
        text = self.say(request)
        if text.startswith("FAIL "):
            return Answer(failed=text.removeprefix("FAIL "))
        return Answer(tuple(Output(text, -1.0, 3) for _ in range(request.n)), cost=Cost(0.5, 10, 3, 100.0, 1000))

    def _scored(self, request: Score | ScoreText) -> Answer:
        if isinstance(request, ScoreText):
            return Answer(log_probs=(self.worth("", request.text),), tokens=(len(request.text.split()),))
        values = tuple(self.worth(request.context, one) for one in request.continuations)
        return Answer(log_probs=values, tokens=tuple(len(one.split()) or 1 for one in request.continuations))
