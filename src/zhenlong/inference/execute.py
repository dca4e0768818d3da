"""Many instances are asked side by side, and nothing is asked twice."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from zhenlong.evaluate.adapters.methods import RequestPlan
from zhenlong.evaluate.results.outcome import GeneratedOutput, Outcome
from zhenlong.inference.backend import Backend, IndexedResults
from zhenlong.inference.cache import RequestCache
from zhenlong.inference.requests import GenerateRequest, Request, RequestPrompt, RequestResult, cache_key

ProgressCallback = Callable[[int, int], None]  # (requests answered, requests known of so far)


def run_plans(
    plans: Sequence[RequestPlan], backend: Backend, cache: RequestCache, on_progress: ProgressCallback | None = None
) -> list[Outcome]:
    """Run all askings to their outcomes. The requests of a round go to the model together."""
    outcomes: dict[int, Outcome] = {}
    waiting: dict[int, list[Request]] = {}
    for number, asking in enumerate(plans):
        _advance(number, asking, None, waiting, outcomes)
    while waiting:
        requests_of_round = [request for requests in waiting.values() for request in requests]
        answers = iter(run_requests(requests_of_round, backend, cache, on_progress))
        round_, waiting = waiting, {}
        for number, requests in round_.items():
            _advance(number, plans[number], [next(answers) for _ in requests], waiting, outcomes)
    return [outcomes[number] for number in range(len(plans))]


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


def _advance(
    number: int,
    plan: RequestPlan,
    answers: list[RequestResult] | None,
    waiting: dict[int, list[Request]],
    outcomes: dict[int, Outcome],
) -> None:
    try:
        waiting[number] = next(plan) if answers is None else plan.send(answers)
    except StopIteration as ended:
        outcomes[number] = ended.value
