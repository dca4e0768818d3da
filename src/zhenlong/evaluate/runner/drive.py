"""Many instances are asked side by side, and nothing is asked twice."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from zhenlong.evaluate.adapters.ask import Asking
from zhenlong.evaluate.adapters.request import Answer, Generate, Prompt, Request, key_of
from zhenlong.evaluate.outcome import Outcome, Output
from zhenlong.evaluate.runner.backend import Backend, Batch
from zhenlong.evaluate.runner.cache import Cache

Told = Callable[[int, int], None]  # (requests answered, requests known of so far)


def drive(askings: Sequence[Asking], backend: Backend, cache: Cache, told: Told | None = None) -> list[Outcome]:
    """Run all askings to their outcomes. The requests of a round go to the model together."""
    outcomes: dict[int, Outcome] = {}
    waiting: dict[int, list[Request]] = {}
    for number, asking in enumerate(askings):
        _advance(number, asking, None, waiting, outcomes)
    while waiting:
        asked = [request for requests in waiting.values() for request in requests]
        answers = iter(answered(asked, backend, cache, told))
        round_, waiting = waiting, {}
        for number, requests in round_.items():
            _advance(number, askings[number], [next(answers) for _ in requests], waiting, outcomes)
    return [outcomes[number] for number in range(len(askings))]


def answered(requests: Sequence[Request], backend: Backend, cache: Cache, told: Told | None = None) -> list[Answer]:
    """An answer to each request: kept, or else asked of the model, equal requests once. Each batch is kept at once."""
    keys = [key_of(backend.fingerprint, request) for request in requests]
    by_key = dict(zip(keys, requests, strict=True))
    found = cache.read(list(by_key))
    if told:
        told(len(found), len(by_key))
    missing = [key for key in by_key if key not in found]
    for places, batch in _batches([by_key[key] for key in missing], backend):
        named = [(missing[places[place]], answer) for place, answer in batch]
        cache.write(named)
        found |= dict(named)
        if told:
            told(len(found), len(by_key))
    return [found[key] for key in keys]


def replies(
    prompts: Sequence[Prompt], backend: Backend, cache: Cache, request: Callable[[int], Generate], room: int = 1
) -> list[tuple[Output, ...]]:
    """What the model generates for each prompt, `request` giving the request of a place.

    Nothing where the prompt leaves fewer than `room` tokens of the context, or the endpoint failed.
    """
    context = backend.context
    fitting = [place for place, one in enumerate(prompts) if context is None or backend.length(one) + room <= context]
    found: list[tuple[Output, ...]] = [()] * len(prompts)
    for place, answer in zip(fitting, answered([request(one) for one in fitting], backend, cache), strict=True):
        found[place] = answer.outputs
    return found


def _batches(requests: Sequence[Request], backend: Backend) -> Iterator[tuple[list[int], Batch]]:
    """The batches of scored and of generated requests, each with the places among `requests` that it counts by."""
    scored = {place: one for place, one in enumerate(requests) if not isinstance(one, Generate)}
    generated = {place: one for place, one in enumerate(requests) if isinstance(one, Generate)}
    if scored:
        for batch in backend.score(list(scored.values())):
            yield list(scored), batch
    if generated:
        for batch in backend.generate(list(generated.values())):
            yield list(generated), batch


def _advance(
    number: int,
    asking: Asking,
    answers: list[Answer] | None,
    waiting: dict[int, list[Request]],
    outcomes: dict[int, Outcome],
) -> None:
    try:
        waiting[number] = next(asking) if answers is None else asking.send(answers)
    except StopIteration as ended:
        outcomes[number] = ended.value
