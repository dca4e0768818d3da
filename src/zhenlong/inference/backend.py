"""Who answers: a model in this process or behind an endpoint, under one protocol."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from zhenlong.inference.requests import GenerateRequest, RequestPrompt, RequestResult, ScoreRequest, ScoreTextRequest

IndexedResults = list[tuple[int, RequestResult]]  # places among the requests, and their answers


class Backend(Protocol):
    """A model that answers requests.

    `fingerprint` names everything about it that changes an answer: weights, configuration, tokenizer, template, dtype.
    `as_chat` tells that it takes texts as a user's turn only. `facts` are kept with the evaluation.
    """

    name: str
    fingerprint: str
    as_chat: bool

    @property
    def context_length(self) -> int | None:
        """The most tokens of prompt and answer together; None where it is not known."""
        ...

    @property
    def metadata(self) -> Mapping[str, Any]:
        """What a reader of the numbers has to know, such as the chat template and the start token."""
        ...

    def count_tokens(self, prompt: RequestPrompt) -> int:
        """The tokens of a prompt."""
        ...

    def generate(self, requests: Sequence[GenerateRequest]) -> Iterator[IndexedResults]:
        """Answers, batch by batch, in any order."""
        ...

    def score(self, requests: Sequence[ScoreRequest | ScoreTextRequest]) -> Iterator[IndexedResults]:
        """Log-probabilities, batch by batch, in any order. Raises `UserError` where the model gives none."""
        ...
