"""A model behind an OpenAI-compatible HTTP endpoint: OpenAI itself, vLLM, SGLang, llama.cpp, Ollama, TGI and others.

Left out: streaming, images, tools. Requests are single, so that one that fails takes no other with it.
"""

from __future__ import annotations

import os
import random
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import httpx

from zhenlong.data.message_parsing import message_text
from zhenlong.errors import UserError
from zhenlong.inference.endpoint_address import EndpointAddress, parse_endpoint
from zhenlong.inference.http_client import ApiUsage, Clock, HttpClient, RateLimiter
from zhenlong.inference.openai_responses import (
    ContinuationScore,
    ModelResponse,
    RequestFailure,
    parse_chat_completions,
    parse_completions,
    parse_continuation_score,
)
from zhenlong.records import Message, Messages

Item = TypeVar("Item")
Result = TypeVar("Result")
OnResult = Callable[[int, Any], None]

API_KEY_VARIABLE: Final = "OPENAI_API_KEY"

__all__ = ["EndpointAddress", "OpenAIEndpoint", "parse_endpoint"]


class OpenAIEndpoint:
    """Asks a model by HTTP, `concurrency` requests at a time and at most `requests_per_minute`.

    `api_key_env`: the environment variable that holds the key; "" takes OPENAI_API_KEY_<HOST> (in capitals, with `_`
    for other characters), else OPENAI_API_KEY, which goes to https addresses and this machine only. It is read at each
    request and kept nowhere. `max_retries` are further tries after one that failed in passing, `timeout` is in seconds,
    `prices` is money for a million prompt tokens and a million generated ones. `drop_params` names parameters that this
    server does not take (such as seed): they are not sent, and the caller answers for the difference.
    """

    def __init__(
        self,
        name: str,
        url: str,
        *,
        api_key_env: str = "",
        requests_per_minute: float | None = None,
        max_retries: int = 6,
        timeout: float = 120.0,
        prices: tuple[float, float] | None = None,
        concurrency: int = 8,
        drop_params: Sequence[str] = (),
        clock: Clock | None = None,
        transport: httpx.BaseTransport | None = None,
        jitter: random.Random | None = None,
    ) -> None:
        if concurrency < 1 or max_retries < 0 or timeout <= 0 or (requests_per_minute or 1) <= 0:
            raise UserError(
                "endpoint: expected concurrency >= 1, max_retries >= 0, timeout > 0, requests_per_minute > 0"
            )
        self.name, self.url, self.concurrency, self.drop_params = name, url.rstrip("/"), concurrency, tuple(drop_params)
        if api_key_env and api_key_env not in os.environ:
            raise UserError(
                f"endpoint {self.url}: the environment variable {api_key_env} is not set; expected the key in it"
            )
        clock = clock or Clock()
        limits = httpx.Limits(max_connections=concurrency)
        client = httpx.Client(timeout=httpx.Timeout(timeout, connect=min(timeout, 20)), limits=limits,
                              transport=transport)  # fmt: skip
        self._usage = ApiUsage(prices)
        self._http = HttpClient(
            self.url,
            client,
            lambda: _auth_headers(self.url, api_key_env),
            self._usage,
            RateLimiter(requests_per_minute, clock),
            clock,
            max_retries,
            jitter or random.Random(),
        )
        self._max_tokens_name = (
            "max_tokens"  # newer models of OpenAI want max_completion_tokens: found out at the first refusal
        )
        self._supports_scoring: bool | None = None

    def chat(
        self,
        conversations: Sequence[Messages],
        *,
        max_tokens: int,
        temperature: float,
        top_p: float = 1.0,
        stop: Sequence[str] = (),
        n: int = 1,
        seed: int = 0,
        top_log_probs: int = 0,
        log_probs: bool = False,
        on_result: OnResult | None = None,
    ) -> list[list[ModelResponse] | RequestFailure]:
        """`n` answers to each conversation, in order, or why there are none.

        `log_probs` asks for the answers' log-probability, `top_log_probs` for that many of the likeliest tokens at each
        place. `on_result(index, responses)` is called in this thread as soon as one is there, whatever the order.
        """
        body = self._request_body(max_tokens, temperature, top_p, stop, seed)
        if log_probs or top_log_probs:
            body |= {"logprobs": True, "top_logprobs": top_log_probs}

        def request(messages: Messages) -> list[ModelResponse] | RequestFailure:
            return self._collect_n(
                "/chat/completions",
                body | {"messages": [_message_json(one) for one in messages]},
                n,
                parse_chat_completions,
            )

        return self._map_concurrently(conversations, request, on_result)

    def complete(
        self,
        prompts: Sequence[str],
        *,
        max_tokens: int,
        temperature: float,
        top_p: float = 1.0,
        stop: Sequence[str] = (),
        n: int = 1,
        seed: int = 0,
        top_log_probs: int = 0,
        log_probs: bool = False,
        on_result: OnResult | None = None,
    ) -> list[list[ModelResponse] | RequestFailure]:
        """`n` continuations of each text, as `chat`; for servers that have `/completions`."""
        body = self._request_body(max_tokens, temperature, top_p, stop, seed)
        if log_probs or top_log_probs:
            body["logprobs"] = max(1, top_log_probs)

        def request(prompt: str) -> list[ModelResponse] | RequestFailure:
            return self._collect_n("/completions", body | {"prompt": prompt}, n, parse_completions)

        return self._map_concurrently(prompts, request, on_result)

    def score(
        self, pairs: Sequence[tuple[str, str]], *, on_result: OnResult | None = None
    ) -> list[ContinuationScore | RequestFailure]:
        """The log-probability of each continuation after its context, at servers that echo the prompt (vLLM).

        Raises `UserError` where the server does not: see `supports_scoring`.
        """
        if pairs and not self.supports_scoring():
            raise UserError(
                f"endpoint {self.url}: it gives no log-probabilities of a prompt (echo), so choices cannot be scored; "
                "let the model generate its answers instead"
            )

        def request(pair: tuple[str, str]) -> ContinuationScore | RequestFailure:
            return self._score_one(*pair)

        return self._map_concurrently(pairs, request, on_result)

    def supports_scoring(self) -> bool:
        """Whether the server gives log-probabilities of the prompt's own tokens; asked once, with a short text."""
        if self._supports_scoring is None:
            try:
                self._supports_scoring = isinstance(self._score_one("One two", " three four"), ContinuationScore)
            except UserError as error:
                if "HTTP 404" not in str(error) and "HTTP 405" not in str(error):
                    raise
                self._supports_scoring = False  # a server of chats only
        return self._supports_scoring

    def usage(self) -> dict[str, Any]:
        """Requests, retries, failures, tokens, and money where prices are known, since this sampler was made."""
        return self._usage.as_dict()

    def _score_one(self, context: str, continuation: str) -> ContinuationScore | RequestFailure:
        prompt = context + continuation
        body = self._request_body(1, 0.0, 1.0, (), 0) | {"prompt": prompt, "echo": True, "logprobs": 1}

        def parse(payload: Any) -> ContinuationScore | RequestFailure:
            try:
                return parse_continuation_score(payload, prompt, continuation)
            except ValueError as error:  # the server's nature, not its mood: no retry
                return RequestFailure(str(error))

        return self._post("/completions", body, parse)

    def _request_body(
        self, max_tokens: int, temperature: float, top_p: float, stop: Sequence[str], seed: int
    ) -> dict[str, Any]:
        body: dict[str, Any] = {"model": self.name, "max_tokens": max_tokens, "temperature": temperature}
        body |= {"seed": seed} | ({"top_p": top_p} if top_p != 1 else {})
        return body | ({"stop": list(stop)} if stop else {})

    def _collect_n(
        self, path: str, body: Mapping[str, Any], n: int, parse: Callable[[Any], list[ModelResponse]]
    ) -> list[ModelResponse] | RequestFailure:
        """`n` answers; servers that give one whatever is asked for are asked again, each time with another seed."""
        responses: list[ModelResponse] = []
        num_received = 0
        while len(responses) < n:
            n_field = {"n": n - len(responses)} if n - len(responses) > 1 else {}
            new_responses = self._post(path, {**body, **n_field, "seed": body["seed"] + num_received}, parse)
            if isinstance(new_responses, RequestFailure):
                return new_responses
            responses += new_responses
            num_received += len(new_responses)
        return responses[:n]

    def _post(self, path: str, body: Mapping[str, Any], parse: Callable[[Any], Result]) -> Result | RequestFailure:
        sent = self._supported_body(body)
        response = self._http.post(path, sent, parse)
        if not isinstance(response, RequestFailure) or not response.unsupported_parameter:
            return response
        if response.unsupported_parameter == "max_tokens" and "max_tokens" in sent:
            self._max_tokens_name = "max_completion_tokens"
            return self._post(path, body, parse)
        if response.unsupported_parameter in body:
            raise UserError(
                f"endpoint {self.url}: {self.name} does not take {response.unsupported_parameter} ({response.reason}); "
                f"drop_params={response.unsupported_parameter} asks without it, with the server's own value"
            )
        return response

    def _supported_body(self, body: Mapping[str, Any]) -> dict[str, Any]:
        supported = {name: value for name, value in body.items() if name not in self.drop_params}
        if "max_tokens" in supported:
            supported[self._max_tokens_name] = supported.pop("max_tokens")
        return supported

    def _map_concurrently(
        self, items: Sequence[Item], request: Callable[[Item], Result], on_result: OnResult | None
    ) -> list[Result]:
        results: dict[int, Result] = {}
        pool = ThreadPoolExecutor(self.concurrency)
        try:
            futures = {pool.submit(request, one): index for index, one in enumerate(items)}
            for done in as_completed(futures):
                index = futures[done]
                results[index] = done.result()
                if on_result is not None:
                    on_result(index, results[index])
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
        return [results[index] for index in range(len(items))]


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
