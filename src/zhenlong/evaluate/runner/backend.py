"""Who answers: a model in this process or behind an endpoint, under one protocol."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

from zhenlong.evaluate.adapters.request import Answer, Generate, Prompt, Score, ScoreText
from zhenlong.evaluate.runner.cache import Cache
from zhenlong.evaluate.subject import Subject

ENDPOINT: Final = "openai:"
Batch = list[tuple[int, Answer]]  # places among the requests, and their answers


class Backend(Protocol):
    """A model that answers requests.

    `fingerprint` names everything about it that changes an answer: weights, configuration, tokenizer, template, dtype.
    `as_chat` tells that it takes texts as a user's turn only. `facts` are kept with the evaluation.
    """

    name: str
    fingerprint: str
    as_chat: bool

    @property
    def context(self) -> int | None:
        """The most tokens of prompt and answer together; None where it is not known."""
        ...

    @property
    def facts(self) -> Mapping[str, Any]:
        """What a reader of the numbers has to know, such as the chat template and the start token."""
        ...

    def length(self, prompt: Prompt) -> int:
        """The tokens of a prompt."""
        ...

    def generate(self, requests: Sequence[Generate]) -> Iterator[Batch]:
        """Answers, batch by batch, in any order."""
        ...

    def score(self, requests: Sequence[Score | ScoreText]) -> Iterator[Batch]:
        """Log-probabilities, batch by batch, in any order. Raises `UserError` where the model gives none."""
        ...


def backend_of(
    model: Subject | Backend,
    cache: Cache,
    *,
    name: str = "",
    chat_template: str = "auto",
    tokens_per_microbatch: int = 8192,
    max_rows: int = 64,
    device: str = "auto",
    dtype: str = "float32",
) -> Backend:
    """The backend of a model: given as one, by name, as a loaded pair, or as `openai:name@url`."""
    if not isinstance(model, str | Path | tuple):
        return model
    if isinstance(model, str) and model.startswith(ENDPOINT):
        from zhenlong.evaluate.runner.endpoint import EndpointBackend

        return EndpointBackend(model, chat=chat_template != "none")
    from zhenlong.evaluate.runner.local import LocalBackend

    return LocalBackend(
        model,
        name=name,
        hashed=cache.file_hash,
        chat_template=chat_template,
        tokens_per_microbatch=tokens_per_microbatch,
        max_rows=max_rows,
        device=device,
        dtype=dtype,
    )
