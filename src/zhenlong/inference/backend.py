"""Who answers: a model in this process or behind an endpoint, under one protocol."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

from zhenlong.inference.cache import RequestCache
from zhenlong.inference.requests import GenerateRequest, RequestPrompt, RequestResult, ScoreRequest, ScoreTextRequest
from zhenlong.models.model_argument import ModelLike

ENDPOINT_PREFIX: Final = "openai:"
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


def load_backend(
    model: ModelLike | Backend,
    cache: RequestCache,
    *,
    name: str = "",
    chat_template: str = "auto",
    tokens_per_microbatch: int = 8192,
    max_num_seqs: int = 64,
    device: str = "auto",
    dtype: str = "float32",
) -> Backend:
    """The backend of a model: given as one, by name, as a loaded pair, or as `openai:name@url`."""
    if not isinstance(model, str | Path | tuple):
        return model
    if isinstance(model, str) and model.startswith(ENDPOINT_PREFIX):
        from zhenlong.inference.endpoint import EndpointBackend

        return EndpointBackend(model, chat=chat_template != "none")
    from zhenlong.inference.local import LocalBackend

    return LocalBackend(
        model,
        name=name,
        file_hash=cache.file_hash,
        chat_template=chat_template,
        tokens_per_microbatch=tokens_per_microbatch,
        max_num_seqs=max_num_seqs,
        device=device,
        dtype=dtype,
    )
