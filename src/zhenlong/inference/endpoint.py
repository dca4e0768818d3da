"""A model behind an OpenAI-compatible endpoint, asked the same as one in this process."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any, TypeVar

from zhenlong.errors import UserError
from zhenlong.inference.backend import IndexedResults
from zhenlong.inference.openai_endpoint import OpenAIEndpoint, parse_endpoint
from zhenlong.inference.openai_responses import ModelResponse, RequestFailure
from zhenlong.inference.requests import (
    GeneratedOutput,
    GenerateRequest,
    RequestCost,
    RequestPrompt,
    RequestResult,
    ScoreRequest,
    ScoreTextRequest,
)
from zhenlong.records import Message

RequestT = TypeVar("RequestT")


class EndpointBackend:
    """`openai:name@url`. Texts are put as a user's turn, or with `chat=False` to `/completions` as they are.

    What cannot be answered after all retries is a failed answer. Choices are scored where the server echoes prompts.
    """

    def __init__(self, model: str, *, chat: bool = True, sampler: OpenAIEndpoint | None = None) -> None:
        endpoint = parse_endpoint(model)
        self.name, self.as_chat, self.context_length = model, False, None
        self._chat = chat
        self._sampler = sampler or OpenAIEndpoint(endpoint.name, endpoint.url, **endpoint.options)
        left_out = ",".join(self._sampler.drop_params)
        self.fingerprint = f"openai:{endpoint.name}@{endpoint.url}{'' if chat else ' completions'} {left_out}"

    @property
    def metadata(self) -> Mapping[str, Any]:
        """How texts are put, and what was spent."""
        return {"texts_as": "user's turn" if self._chat else "completion", "ledger": self._sampler.usage()}

    def count_tokens(self, prompt: RequestPrompt) -> int:
        """A guess, for the tokenizer is the server's: a token for four characters."""
        text = prompt if isinstance(prompt, str) else "".join(message.content for message in prompt)
        return len(text) // 4 + 1

    def generate(self, requests: Sequence[GenerateRequest]) -> Iterator[IndexedResults]:
        """Answers, each as soon as it is there."""
        yield from self._run_concurrently(requests, self._generate_one)

    def score(self, requests: Sequence[ScoreRequest | ScoreTextRequest]) -> Iterator[IndexedResults]:
        """Log-probabilities, of servers that give those of a prompt."""
        for request in requests:
            if isinstance(request, ScoreTextRequest) or not isinstance(request.context, str):
                what = "of whole texts" if isinstance(request, ScoreTextRequest) else "within a conversation"
                raise UserError(f"model {self.name}: an endpoint gives no log-probabilities {what}; use a local model")
        if requests and not self._sampler.supports_scoring():
            raise UserError(
                f"model {self.name}: the endpoint gives no log-probabilities of a prompt (echo), so choices cannot be "
                "scored; use a scenario whose answers are generated (multiple_choice_joint), or a local model"
            )
        yield from self._run_concurrently(requests, self._score_one)

    def _run_concurrently(
        self, requests: Sequence[RequestT], run_one: Callable[[RequestT], RequestResult]
    ) -> Iterator[IndexedResults]:
        pool = ThreadPoolExecutor(self._sampler.concurrency)
        try:
            waiting = {pool.submit(run_one, one): place for place, one in enumerate(requests)}
            for done in as_completed(waiting):
                yield [(waiting[done], done.result())]
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _generate_one(self, request: GenerateRequest) -> RequestResult:
        decoding: dict[str, Any] = {
            name: getattr(request, name)
            for name in ("max_tokens", "temperature", "top_p", "stop", "n", "seed", "top_log_probs")
        }
        begun = time.perf_counter()
        found: list[ModelResponse] | RequestFailure
        if isinstance(request.prompt, str) and not self._chat:
            (found,) = self._sampler.complete([request.prompt], **decoding)
        else:
            text = request.prompt
            messages = (Message("user", text),) if isinstance(text, str) else text
            (found,) = self._sampler.chat([messages], **decoding)
        if isinstance(found, RequestFailure):
            return RequestResult(failed=found.reason)
        outputs = tuple(
            GeneratedOutput(one.text, one.log_prob, one.num_tokens, one.truncated, one.top_log_probs) for one in found
        )
        written = sum(one.num_tokens or 0 for one in found)
        return RequestResult(outputs=outputs, cost=RequestCost(time.perf_counter() - begun, 0, written))

    def _score_one(self, request: ScoreRequest | ScoreTextRequest) -> RequestResult:
        assert isinstance(request, ScoreRequest)
        assert isinstance(request.context, str)
        begun = time.perf_counter()
        opening = request.context.rstrip()
        space = request.context[len(opening) :]
        found = self._sampler.score([(opening, space + one) for one in request.continuations])
        for one in found:
            if isinstance(one, RequestFailure):
                return RequestResult(failed=one.reason)
        scores = [one for one in found if not isinstance(one, RequestFailure)]
        return RequestResult(
            log_probs=tuple(one.log_prob for one in scores),
            num_tokens=tuple(one.num_tokens for one in scores),
            cost=RequestCost(time.perf_counter() - begun),
        )
