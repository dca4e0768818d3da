"""A model behind an OpenAI-compatible HTTP endpoint: OpenAI itself, vLLM, SGLang, llama.cpp, Ollama, TGI and others.

Left out: streaming, images, tools. Requests are single, so that one that fails takes no other with it.
"""

from __future__ import annotations

import json
import os
import random
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import httpx

from zhenlong.data.message_parsing import message_text
from zhenlong.errors import UserError
from zhenlong.guarded_call import describe_error
from zhenlong.inference.bounded_http import limit_connections
from zhenlong.inference.endpoint_address import EndpointSettings, parse_endpoint
from zhenlong.inference.http_client import ApiUsage, Clock, HttpClient, RateLimiter
from zhenlong.inference.openai_responses import (
    ContinuationScore,
    RequestFailure,
    parse_chat_completions,
    parse_completions,
    parse_continuation_score,
)
from zhenlong.inference.requests import (
    GeneratedOutput,
    GenerateRequest,
    IndexedResults,
    RequestCost,
    RequestPrompt,
    RequestResult,
    ScoreRequest,
    ScoreTextRequest,
)
from zhenlong.records import Message

Item = TypeVar("Item")
Result = TypeVar("Result")

API_KEY_VARIABLE: Final = "OPENAI_API_KEY"


class OpenAIEndpoint:
    """The backend of `openai:name@url?option=value` (see `parse_endpoint`; options given here come first).

    Texts are put as a user's turn, or with `chat=False` to `/completions` as they are. What cannot be answered after
    all retries is a failed result. Choices are scored where the server echoes prompts.

    `concurrency` requests are under way at a time, at most `requests_per_minute`. `api_key_env`: the environment
    variable that holds the key; "" takes OPENAI_API_KEY_<HOST> (in capitals, with `_` for other characters), else
    OPENAI_API_KEY, which goes to https addresses and this machine only. It is read at each request and kept nowhere.
    `max_retries` are further tries after one that failed in passing, `timeout` is in seconds for a whole response,
    `prices` is money for a million prompt tokens and a million generated ones. `drop_params` names parameters that this
    server does not take (such as seed): they are not sent, and the caller answers for the difference.
    `chat_template_kwargs` are sent for the server's chat template (vLLM and SGLang take them).
    """

    def __init__(
        self,
        model: str,
        *,
        chat: bool = True,
        clock: Clock | None = None,
        transport: httpx.BaseTransport | None = None,
        jitter: random.Random | None = None,
        **options: Any,
    ) -> None:
        address = parse_endpoint(model)
        settings = EndpointSettings(**{**address.options, **options})
        self.name, self.as_chat, self.context_length = model, False, None
        self.model, self.url, self.settings = address.name, address.url.rstrip("/"), settings
        if settings.api_key_env and settings.api_key_env not in os.environ:
            raise UserError(
                f"endpoint {self.url}: the environment variable {settings.api_key_env} is not set; expected the key in "
                "it"
            )
        self._chat, self._chat_template_kwargs = chat, dict(settings.chat_template_kwargs)
        left_out = ",".join(settings.drop_params)
        kwargs = f" {json.dumps(self._chat_template_kwargs, sort_keys=True)}" if self._chat_template_kwargs else ""
        self.fingerprint = f"openai:{self.model}@{self.url}{'' if chat else ' completions'} {left_out}{kwargs}"
        self._usage = ApiUsage(settings.prices)
        clock = clock or Clock()
        self._http = HttpClient(
            self.url,
            limit_connections(
                httpx.Client(
                    timeout=httpx.Timeout(settings.timeout, connect=min(settings.timeout, 20)),
                    limits=httpx.Limits(max_connections=settings.concurrency),
                    transport=transport,
                )
            ),
            headers=lambda: _auth_headers(self.url, settings.api_key_env),
            usage=self._usage,
            rate_limiter=RateLimiter(settings.requests_per_minute, clock),
            clock=clock,
            max_retries=settings.max_retries,
            jitter=jitter or random.Random(),
        )
        self._max_tokens_name = "max_tokens"  # newer models want max_completion_tokens: learned from the first refusal
        self._supports_scoring: bool | None = None

    @property
    def metadata(self) -> Mapping[str, Any]:
        """How texts are put, and what was spent."""
        return {"texts_as": "user's turn" if self._chat else "completion", "ledger": self.usage()}

    def usage(self) -> dict[str, Any]:
        """Requests, retries, failures, tokens, and money where prices are known, since this endpoint was opened."""
        return self._usage.as_dict()

    def count_tokens(self, prompt: RequestPrompt) -> int:
        """A guess, for the tokenizer is the server's: a token for four characters."""
        text = prompt if isinstance(prompt, str) else "".join(message.content for message in prompt)
        return len(text) // 4 + 1

    def generate(self, requests: Sequence[GenerateRequest]) -> Iterator[IndexedResults]:
        """Answers, each as soon as it is there."""
        for place, result in self._run_concurrently(requests, self._generate_one):
            yield [(place, result)]

    def score(self, requests: Sequence[ScoreRequest | ScoreTextRequest]) -> Iterator[IndexedResults]:
        """Log-probabilities of continuations, of servers that give those of a prompt (vLLM)."""
        pairs: list[tuple[str, str]] = []
        pairs_of: list[range] = []
        for request in requests:
            if isinstance(request, ScoreTextRequest) or not isinstance(request.context, str):
                what = "of whole texts" if isinstance(request, ScoreTextRequest) else "within a conversation"
                raise UserError(f"model {self.name}: an endpoint gives no log-probabilities {what}; use a local model")
            context = request.context.rstrip()
            space = request.context[len(context) :]
            pairs_of.append(range(len(pairs), len(pairs) + len(request.continuations)))
            pairs += [(context, space + one) for one in request.continuations]
        if requests and not self.supports_scoring():
            raise UserError(
                f"model {self.name}: the endpoint gives no log-probabilities of a prompt (echo), so choices cannot be "
                "scored; use a scenario whose answers are generated (multiple_choice_joint), or a local model"
            )
        request_of = [number for number, own in enumerate(pairs_of) for _ in own]
        missing = [len(own) for own in pairs_of]
        found: dict[int, tuple[ContinuationScore | RequestFailure, float]] = {}
        for place, timed_score in self._run_concurrently(pairs, self._score_timed):
            found[place] = timed_score
            number = request_of[place]
            missing[number] -= 1
            if not missing[number]:
                yield [(number, _score_result([found[one] for one in pairs_of[number]]))]

    def supports_scoring(self) -> bool:
        """Whether the server gives log-probabilities of the prompt's own tokens; asked once, with a short text."""
        if self._supports_scoring is None:
            try:
                self._supports_scoring = isinstance(self._score_pair("One two", " three four"), ContinuationScore)
            except UserError as error:
                if "HTTP 404" not in str(error) and "HTTP 405" not in str(error):
                    raise
                self._supports_scoring = False  # a server of chats only
        return self._supports_scoring

    def _generate_one(self, request: GenerateRequest) -> RequestResult:
        begun = time.perf_counter()
        ask = self._complete if isinstance(request.prompt, str) and not self._chat else self._chat_reply
        outputs = _guarded(ask, request)
        if isinstance(outputs, RequestFailure):
            return RequestResult(failed=outputs.reason)
        written = sum(one.num_tokens or 0 for one in outputs)
        return RequestResult(outputs=tuple(outputs), cost=RequestCost(time.perf_counter() - begun, 0, written))

    def _chat_reply(self, request: GenerateRequest) -> list[GeneratedOutput] | RequestFailure:
        prompt = request.prompt
        messages = (Message("user", prompt),) if isinstance(prompt, str) else prompt
        body = _request_body(self.model, request) | {"messages": [_message_json(one) for one in messages]}
        if self._chat_template_kwargs:
            body |= {"chat_template_kwargs": self._chat_template_kwargs}
        if request.top_log_probs:
            body |= {"logprobs": True, "top_logprobs": request.top_log_probs}
        return self._collect_n("/chat/completions", body, request.n, parse=parse_chat_completions)

    def _complete(self, request: GenerateRequest) -> list[GeneratedOutput] | RequestFailure:
        body = _request_body(self.model, request) | {"prompt": request.prompt}
        if request.top_log_probs:
            body |= {"logprobs": request.top_log_probs}
        return self._collect_n("/completions", body, request.n, parse=parse_completions)

    def _collect_n(
        self,
        path: str,
        body: Mapping[str, Any],
        n: int,
        *,
        parse: Callable[[Any], list[GeneratedOutput] | RequestFailure],
    ) -> list[GeneratedOutput] | RequestFailure:
        """`n` answers; servers that give one whatever is asked for are asked again, each time with another seed."""
        outputs: list[GeneratedOutput] = []
        while len(outputs) < n:
            n_field = {"n": n - len(outputs)} if n - len(outputs) > 1 else {}
            more = self._post(path, {**body, **n_field, "seed": body["seed"] + len(outputs)}, parse)
            if isinstance(more, RequestFailure):
                return more
            outputs += more
        return outputs[:n]

    def _score_timed(self, pair: tuple[str, str]) -> tuple[ContinuationScore | RequestFailure, float]:
        begun = time.perf_counter()
        return _guarded(self._score_pair, *pair), time.perf_counter() - begun

    def _score_pair(self, context: str, continuation: str) -> ContinuationScore | RequestFailure:
        prompt = context + continuation
        body = _request_body(self.model, GenerateRequest(prompt, max_tokens=1))
        body |= {"prompt": prompt, "echo": True, "logprobs": 1}

        def parse(payload: Any) -> ContinuationScore | RequestFailure:
            try:
                return parse_continuation_score(payload, prompt, continuation)
            except ValueError as error:  # the server will answer alike next time: no retry
                return RequestFailure(str(error))

        return self._post("/completions", body, parse)

    def _post(self, path: str, body: Mapping[str, Any], parse: Callable[[Any], Result]) -> Result | RequestFailure:
        sent = {name: value for name, value in body.items() if name not in self.settings.drop_params}
        if "max_tokens" in sent:
            sent[self._max_tokens_name] = sent.pop("max_tokens")
        response = self._http.post(path, sent, parse)
        if not isinstance(response, RequestFailure) or not response.unsupported_parameter:
            return response
        if response.unsupported_parameter == "max_tokens" and "max_tokens" in sent:
            self._max_tokens_name = "max_completion_tokens"
            return self._post(path, body, parse)
        if response.unsupported_parameter in body:
            raise UserError(
                f"endpoint {self.url}: {self.model} does not take {response.unsupported_parameter} "
                f"({response.reason}); drop_params={response.unsupported_parameter} asks without it, with the server's "
                "own value"
            )
        return response

    def _run_concurrently(
        self, items: Sequence[Item], run_one: Callable[[Item], Result]
    ) -> Iterator[tuple[int, Result]]:
        """`run_one` of each item with the item's place, each as soon as it is there."""
        pool = ThreadPoolExecutor(self.settings.concurrency)
        try:
            waiting = {pool.submit(run_one, one): place for place, one in enumerate(items)}
            for done in as_completed(waiting):
                yield waiting[done], done.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _guarded(ask: Callable[..., Result | RequestFailure], *arguments: Any) -> Result | RequestFailure:
    """What asking gives; a failure of this request for whatever it raises, but a `UserError`."""
    try:
        return ask(*arguments)
    except UserError:
        raise
    except Exception as error:
        return RequestFailure(describe_error(error))


def _request_body(model: str, request: GenerateRequest) -> dict[str, Any]:
    body: dict[str, Any] = {"model": model, "max_tokens": request.max_tokens, "temperature": request.temperature}
    body |= {"seed": request.seed} | ({"top_p": request.top_p} if request.top_p != 1 else {})
    return body | ({"stop": list(request.stop)} if request.stop else {})


def _score_result(timed_scores: Sequence[tuple[ContinuationScore | RequestFailure, float]]) -> RequestResult:
    scores = []
    for one, _ in timed_scores:
        if isinstance(one, RequestFailure):
            return RequestResult(failed=one.reason)
        scores.append(one)
    return RequestResult(
        log_probs=tuple(one.log_prob for one in scores),
        num_tokens=tuple(one.num_tokens for one in scores),
        cost=RequestCost(sum(seconds for _, seconds in timed_scores)),
    )


def _auth_headers(url: str, api_key_env: str) -> dict[str, str]:
    parts = urlsplit(url)
    host = parts.hostname or ""
    host_variable = f"{API_KEY_VARIABLE}_{re.sub(r'[^A-Z0-9]', '_', host.upper())}"
    api_key = os.environ.get(api_key_env or host_variable, "")
    safe_to_send = parts.scheme == "https" or host in ("localhost", "127.0.0.1", "::1")
    if not api_key and not api_key_env and safe_to_send:
        api_key = os.environ.get(API_KEY_VARIABLE, "")
    return {"Authorization": f"Bearer {api_key.strip()}"} if api_key.strip() else {}


def _message_json(message: Message) -> dict[str, Any]:
    content = message_text(message) if message.tools else message.content
    fields: dict[str, Any] = {"role": message.role, "content": content}
    return fields | ({"tool_calls": list(message.tool_calls)} if message.tool_calls else {})
