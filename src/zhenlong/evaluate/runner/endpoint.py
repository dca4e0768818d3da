"""A model behind an OpenAI-compatible endpoint, asked the same as one in this process."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any, TypeVar

from zhenlong.errors import UserError
from zhenlong.evaluate.adapters.request import Answer, Generate, Prompt, Score, ScoreText
from zhenlong.evaluate.outcome import Cost, Output
from zhenlong.evaluate.runner.backend import Batch
from zhenlong.records import Message
from zhenlong.sampling.endpoint import EndpointSampler, parse_endpoint
from zhenlong.sampling.endpoint_replies import Failure, Reply

Given = TypeVar("Given")


class EndpointBackend:
    """`openai:name@url`. Texts are put as a user's turn, or with `chat=False` to `/completions` as they are.

    What cannot be answered after all retries is a failed answer. Choices are scored where the server echoes prompts.
    """

    def __init__(self, model: str, *, chat: bool = True, sampler: EndpointSampler | None = None) -> None:
        endpoint = parse_endpoint(model)
        self.name, self.as_chat, self.context = model, False, None
        self._chat = chat
        self._sampler = sampler or EndpointSampler(endpoint.name, endpoint.url, **endpoint.options)
        left_out = ",".join(self._sampler.leave_out)
        self.fingerprint = f"openai:{endpoint.name}@{endpoint.url}{'' if chat else ' completions'} {left_out}"

    @property
    def facts(self) -> Mapping[str, Any]:
        """How texts are put, and what was spent."""
        return {"texts_as": "user's turn" if self._chat else "completion", "ledger": self._sampler.ledger()}

    def length(self, prompt: Prompt) -> int:
        """A guess, for the tokenizer is the server's: a token for four characters."""
        text = prompt if isinstance(prompt, str) else "".join(message.content for message in prompt)
        return len(text) // 4 + 1

    def generate(self, requests: Sequence[Generate]) -> Iterator[Batch]:
        """Answers, each as soon as it is there."""
        yield from self._side_by_side(requests, self._generated)

    def score(self, requests: Sequence[Score | ScoreText]) -> Iterator[Batch]:
        """Log-probabilities, of servers that give those of a prompt."""
        for request in requests:
            if isinstance(request, ScoreText) or not isinstance(request.context, str):
                what = "of whole texts" if isinstance(request, ScoreText) else "within a conversation"
                raise UserError(f"model {self.name}: an endpoint gives no log-probabilities {what}; use a local model")
        if requests and not self._sampler.can_score():
            raise UserError(
                f"model {self.name}: the endpoint gives no log-probabilities of a prompt (echo), so choices cannot be "
                "scored; use a scenario whose answers are generated (multiple_choice_joint), or a local model"
            )
        yield from self._side_by_side(requests, self._scored)

    def _side_by_side(self, given: Sequence[Given], ask: Callable[[Given], Answer]) -> Iterator[Batch]:
        pool = ThreadPoolExecutor(self._sampler.concurrency)
        try:
            waiting = {pool.submit(ask, one): place for place, one in enumerate(given)}
            for done in as_completed(waiting):
                yield [(waiting[done], done.result())]
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _generated(self, request: Generate) -> Answer:
        decoding: dict[str, Any] = {
            name: getattr(request, name)
            for name in ("max_tokens", "temperature", "top_p", "stop", "n", "seed", "top_log_probs")
        }
        begun = time.perf_counter()
        found: list[Reply] | Failure
        if isinstance(request.prompt, str) and not self._chat:
            (found,) = self._sampler.complete([request.prompt], **decoding)
        else:
            text = request.prompt
            messages = (Message("user", text),) if isinstance(text, str) else text
            (found,) = self._sampler.chat([messages], **decoding)
        if isinstance(found, Failure):
            return Answer(failed=found.reason)
        outputs = tuple(Output(one.text, one.log_prob, one.tokens, one.truncated, one.top_log_probs) for one in found)
        written = sum(one.tokens or 0 for one in found)
        return Answer(outputs=outputs, cost=Cost(time.perf_counter() - begun, 0, written))

    def _scored(self, request: Score | ScoreText) -> Answer:
        assert isinstance(request, Score)
        assert isinstance(request.context, str)
        begun = time.perf_counter()
        opening = request.context.rstrip()
        space = request.context[len(opening) :]
        found = self._sampler.score([(opening, space + one) for one in request.continuations])
        for one in found:
            if isinstance(one, Failure):
                return Answer(failed=one.reason)
        scores = [one for one in found if not isinstance(one, Failure)]
        return Answer(
            log_probs=tuple(one.log_prob for one in scores),
            tokens=tuple(one.tokens for one in scores),
            cost=Cost(time.perf_counter() - begun),
        )
