"""One client for every model that is asked for something: "this model, these requests" -> results, nothing asked twice.

A model is a name (`pocket`, a folder, a hub id, `openai:name@url`), a loaded pair, or anything with the protocol of
`Backend`. Evaluations, judges, feedback and judge rewards all ask through `ModelClient`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from zhenlong.data.template_sources import parse_template_spec
from zhenlong.inference.cache import RequestCache
from zhenlong.inference.endpoint_address import ENDPOINT_PREFIX
from zhenlong.inference.options import BackendSettings
from zhenlong.inference.requests import (
    Backend,
    GeneratedOutput,
    GenerateRequest,
    IndexedResults,
    Request,
    RequestPrompt,
    RequestResult,
    cache_key,
)
from zhenlong.models.model_argument import ModelLike
from zhenlong.models.resolve import resolve_model_path
from zhenlong.records import Messages

ProgressCallback = Callable[[int, int], None]  # (requests answered, requests known of so far)


class Judge(Protocol):
    """A model that answers conversations, asked to judge; a `ModelClient` is one."""

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


@dataclass
class RequestLedger:
    """What a client was asked and what that took. The tokens and seconds are those of the model, not of the cache."""

    requests: int = 0
    from_cache: int = 0  # answered by the cache, or by an equal request of the same call
    failed: int = 0
    prompt_tokens: int = 0
    generated_tokens: int = 0
    seconds: float = 0.0
    oldest_cached: float | None = None  # when the oldest answer from the cache was given, in seconds since 1970

    def add_result(self, result: RequestResult) -> None:
        """Count a result that the model gave."""
        self.failed += bool(result.failed)
        self.prompt_tokens += result.cost.prompt_tokens
        self.generated_tokens += result.cost.generated_tokens
        self.seconds += result.cost.seconds

    def as_dict(self) -> dict[str, Any]:
        """All counts by name."""
        return asdict(self)


class ModelClient:
    """A model and the cache of its results; `ledger` counts what it was asked."""

    def __init__(self, backend: Backend, cache: RequestCache, *, refresh: bool = False) -> None:
        self.name = backend.name
        self.backend, self.cache = backend, cache
        self._answered: set[str] | None = set() if refresh else None  # with refresh, all that the cache may answer
        self.ledger = RequestLedger()

    def __call__(
        self,
        conversations: Sequence[Messages],
        *,
        max_tokens: int = 1024,
        temperature: float = 0.0,
        seed: int = 0,
        top_log_probs: int = 0,
    ) -> list[GeneratedOutput]:
        """One answer to each conversation (the protocol `Judge`).

        A conversation that does not fit the model's context, or that it failed to answer, gets an empty answer, which
        holds no verdict: metrics count it as such.
        """
        sampling_seed = seed if temperature else 0
        requests = [
            GenerateRequest(messages, max_tokens, temperature, seed=sampling_seed, top_log_probs=top_log_probs)
            for messages in conversations
        ]
        return [outputs[0] if outputs else GeneratedOutput("") for outputs in self.generate(requests)]

    def sample_outputs(
        self, prompts: Sequence[Messages], *, samples_per_prompt: int, max_tokens: int, temperature: float, seed: int
    ) -> list[tuple[GeneratedOutput, ...]]:
        """Sampled answers to each prompt; none where one of `max_tokens` does not fit, or the endpoint failed."""
        requests = [
            GenerateRequest(
                prompt, max_tokens, temperature, n=samples_per_prompt, seed=seed + place if temperature else 0
            )
            for place, prompt in enumerate(prompts)
        ]
        return self.generate(requests, min_new_tokens=max_tokens)

    def generate(
        self, requests: Sequence[GenerateRequest], min_new_tokens: int = 1
    ) -> list[tuple[GeneratedOutput, ...]]:
        """The answers to each request.

        None where the prompt leaves fewer than `min_new_tokens` tokens of the context, or the endpoint failed.
        """
        fitting = [place for place, one in enumerate(requests) if self.fits(one.prompt, min_new_tokens)]
        outputs: list[tuple[GeneratedOutput, ...]] = [()] * len(requests)
        for place, result in zip(fitting, self.run([requests[one] for one in fitting]), strict=True):
            outputs[place] = result.outputs
        return outputs

    def fits(self, prompt: RequestPrompt, min_new_tokens: int) -> bool:
        """Whether the model's context holds the prompt and that many tokens more."""
        context = self.backend.context_length
        return context is None or self.backend.count_tokens(prompt) + min_new_tokens <= context

    def run(self, requests: Sequence[Request], on_progress: ProgressCallback | None = None) -> list[RequestResult]:
        """A result for each request, from the cache or else from the model. Each batch is kept as soon as it is there.

        Equal requests are asked once.
        """
        keys = [cache_key(self.backend.fingerprint, request) for request in requests]
        by_key = dict(zip(keys, requests, strict=True))
        self.cache.oldest_read = None
        results = self.cache.read([key for key in by_key if self._answered is None or key in self._answered])
        ages = [one for one in (self.ledger.oldest_cached, self.cache.oldest_read) if one is not None]
        self.ledger.oldest_cached = min(ages, default=None)
        missing = [key for key in by_key if key not in results]
        self.ledger.requests += len(requests)
        self.ledger.from_cache += len(requests) - len(missing)
        if on_progress:
            on_progress(len(results), len(by_key))
        for places, batch in self._run_batches([by_key[key] for key in missing]):
            named = [(missing[places[place]], result) for place, result in batch]
            self.cache.write(named)
            if self._answered is not None:
                self._answered.update(key for key, _ in named)
            for key, result in named:
                results[key] = result
                self.ledger.add_result(result)
            if on_progress:
                on_progress(len(results), len(by_key))
        return [results[key] for key in keys]

    def _run_batches(self, requests: Sequence[Request]) -> Iterator[tuple[list[int], IndexedResults]]:
        """Batches of scored, then of generated requests, each with the places among `requests` that it counts by."""
        scored = {place: one for place, one in enumerate(requests) if not isinstance(one, GenerateRequest)}
        generated = {place: one for place, one in enumerate(requests) if isinstance(one, GenerateRequest)}
        if scored:
            for batch in self.backend.score(list(scored.values())):
                yield list(scored), batch
        if generated:
            for batch in self.backend.generate(list(generated.values())):
                yield list(generated), batch


def open_model(
    model: ModelLike | Backend,
    cache: RequestCache,
    *,
    name: str = "",
    settings: BackendSettings = BackendSettings(),  # noqa: B008 (frozen)
    refresh: bool = False,
) -> ModelClient:
    """The client of a model: given by name, as a loaded pair, or as a backend; `cache` keeps its results.

    With `refresh` what an earlier process asked is asked again.
    """
    return ModelClient(load_backend(model, cache, name=name, settings=settings), cache, refresh=refresh)


def load_backend(model: ModelLike | Backend, cache: RequestCache, *, name: str, settings: BackendSettings) -> Backend:
    """What answers for a model."""
    if not isinstance(model, str | Path | tuple):
        return model
    if isinstance(model, str) and model.startswith(ENDPOINT_PREFIX):
        from zhenlong.inference.openai_endpoint import OpenAIEndpoint

        template, kwargs = parse_template_spec(settings.chat_template)
        given: dict[str, Any] = {"chat_template_kwargs": kwargs} if kwargs else {}
        return OpenAIEndpoint(model, chat=template != "none", **given)
    from zhenlong.inference.local import LocalBackend

    return LocalBackend(model, name=name, file_hash=cache.file_hash, settings=settings)


def require_models_exist(*names: str) -> None:
    """Raise `UserError` for a model that is not there, before anything is written; "" names none."""
    for name in names:
        if name and not name.startswith(ENDPOINT_PREFIX):
            resolve_model_path(name)
