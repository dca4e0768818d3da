"""Requests to a model, answered from the cache where they are known, and by the model otherwise."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from zhenlong.inference.backend import Backend, IndexedResults
from zhenlong.inference.cache import RequestCache
from zhenlong.inference.requests import (
    GeneratedOutput,
    GenerateRequest,
    Request,
    RequestPrompt,
    RequestResult,
    cache_key,
)

ProgressCallback = Callable[[int, int], None]  # (requests answered, requests known of so far)


def run_requests(
    requests: Sequence[Request], backend: Backend, cache: RequestCache, on_progress: ProgressCallback | None = None
) -> list[RequestResult]:
    """An answer to each request: kept, or else asked of the model, equal requests once. Each batch is kept at once."""
    keys = [cache_key(backend.fingerprint, request) for request in requests]
    by_key = dict(zip(keys, requests, strict=True))
    results = cache.read(list(by_key))
    if on_progress:
        on_progress(len(results), len(by_key))
    missing = [key for key in by_key if key not in results]
    for places, batch in _run_batches([by_key[key] for key in missing], backend):
        named = [(missing[places[place]], answer) for place, answer in batch]
        cache.write(named)
        results |= dict(named)
        if on_progress:
            on_progress(len(results), len(by_key))
    return [results[key] for key in keys]


def generate_outputs(
    prompts: Sequence[RequestPrompt],
    backend: Backend,
    cache: RequestCache,
    make_request: Callable[[int], GenerateRequest],
    min_new_tokens: int = 1,
) -> list[tuple[GeneratedOutput, ...]]:
    """What the model generates for each prompt, `request` giving the request of a place.

    Nothing where the prompt leaves fewer than `room` tokens of the context, or the endpoint failed.
    """
    context = backend.context_length
    fitting = [
        place
        for place, one in enumerate(prompts)
        if context is None or backend.count_tokens(one) + min_new_tokens <= context
    ]
    found: list[tuple[GeneratedOutput, ...]] = [()] * len(prompts)
    for place, answer in zip(
        fitting, run_requests([make_request(one) for one in fitting], backend, cache), strict=True
    ):
        found[place] = answer.outputs
    return found


def _run_batches(requests: Sequence[Request], backend: Backend) -> Iterator[tuple[list[int], IndexedResults]]:
    """The batches of scored and of generated requests, each with the places among `requests` that it counts by."""
    scored = {place: one for place, one in enumerate(requests) if not isinstance(one, GenerateRequest)}
    generated = {place: one for place, one in enumerate(requests) if isinstance(one, GenerateRequest)}
    if scored:
        for batch in backend.score(list(scored.values())):
            yield list(scored), batch
    if generated:
        for batch in backend.generate(list(generated.values())):
            yield list(generated), batch
