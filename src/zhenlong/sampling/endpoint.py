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

from zhenlong.data.chats import spoken
from zhenlong.errors import UserError
from zhenlong.records import Message, Messages
from zhenlong.sampling.endpoint_address import Endpoint, parse_endpoint
from zhenlong.sampling.endpoint_calls import Caller, Clock, Ledger, Pace
from zhenlong.sampling.endpoint_replies import Failure, Reply, Score, chat_replies, score_of_end, text_replies

Given = TypeVar("Given")
Found = TypeVar("Found")
Each = Callable[[int, Any], None]

KEY_VARIABLE: Final = "OPENAI_API_KEY"

__all__ = ["Endpoint", "EndpointSampler", "parse_endpoint"]


class EndpointSampler:
    """Asks a model by HTTP, `concurrency` requests at a time and at most `requests_per_minute`.

    `key`: the environment variable that holds the key; "" takes OPENAI_API_KEY_<HOST> (in capitals, with `_` for other
    characters), else OPENAI_API_KEY, which goes to https addresses and this machine only. It is read at each request
    and kept nowhere. `retries` are further tries after one that failed in passing, `timeout` is in seconds, `prices`
    is money for a million prompt tokens and a million generated ones. `leave_out` names parameters that this server
    does not take (such as seed): they are not sent, and the caller answers for the difference.
    """

    def __init__(
        self,
        name: str,
        url: str,
        *,
        key: str = "",
        requests_per_minute: float | None = None,
        retries: int = 6,
        timeout: float = 120.0,
        prices: tuple[float, float] | None = None,
        concurrency: int = 8,
        leave_out: Sequence[str] = (),
        clock: Clock | None = None,
        transport: httpx.BaseTransport | None = None,
        jitter: random.Random | None = None,
    ) -> None:
        if concurrency < 1 or retries < 0 or timeout <= 0 or (requests_per_minute or 1) <= 0:
            raise UserError("endpoint: expected concurrency >= 1, retries >= 0, timeout > 0, requests_per_minute > 0")
        self.name, self.url, self.concurrency, self.leave_out = name, url.rstrip("/"), concurrency, tuple(leave_out)
        if key and key not in os.environ:
            raise UserError(f"endpoint {self.url}: the environment variable {key} is not set; expected the key in it")
        clock = clock or Clock()
        limits = httpx.Limits(max_connections=concurrency)
        client = httpx.Client(timeout=httpx.Timeout(timeout, connect=min(timeout, 20)), limits=limits,
                              transport=transport)  # fmt: skip
        self._ledger = Ledger(prices)
        self._caller = Caller(
            self.url,
            client,
            lambda: _headers(self.url, key),
            self._ledger,
            Pace(requests_per_minute, clock),
            clock,
            retries,
            jitter or random.Random(),
        )
        self._limit = "max_tokens"  # newer models of OpenAI want max_completion_tokens: found out at the first refusal
        self._scores: bool | None = None

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
        each: Each | None = None,
    ) -> list[list[Reply] | Failure]:
        """`n` answers to each conversation, in order, or why there are none.

        `log_probs` asks for the answers' log-probability, `top_log_probs` for that many of the likeliest tokens at each
        place. `each(index, answers)` is called in this thread as soon as one is there, whatever the order.
        """
        body = self._body(max_tokens, temperature, top_p, stop, seed)
        if log_probs or top_log_probs:
            body |= {"logprobs": True, "top_logprobs": top_log_probs}

        def ask(messages: Messages) -> list[Reply] | Failure:
            return self._several(
                "/chat/completions", body | {"messages": [_message(one) for one in messages]}, n, chat_replies
            )

        return self._all(conversations, ask, each)

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
        each: Each | None = None,
    ) -> list[list[Reply] | Failure]:
        """`n` continuations of each text, as `chat`; for servers that have `/completions`."""
        body = self._body(max_tokens, temperature, top_p, stop, seed)
        if log_probs or top_log_probs:
            body["logprobs"] = max(1, top_log_probs)

        def ask(prompt: str) -> list[Reply] | Failure:
            return self._several("/completions", body | {"prompt": prompt}, n, text_replies)

        return self._all(prompts, ask, each)

    def score(self, pairs: Sequence[tuple[str, str]], *, each: Each | None = None) -> list[Score | Failure]:
        """The log-probability of each continuation after its context, at servers that echo the prompt (vLLM).

        Raises `UserError` where the server does not: see `can_score`.
        """
        if pairs and not self.can_score():
            raise UserError(
                f"endpoint {self.url}: it gives no log-probabilities of a prompt (echo), so choices cannot be scored; "
                "let the model generate its answers instead"
            )

        def ask(pair: tuple[str, str]) -> Score | Failure:
            return self._score(*pair)

        return self._all(pairs, ask, each)

    def can_score(self) -> bool:
        """Whether the server gives log-probabilities of the prompt's own tokens; asked once, with a short text."""
        if self._scores is None:
            try:
                self._scores = isinstance(self._score("One two", " three four"), Score)
            except UserError as error:
                if "HTTP 404" not in str(error) and "HTTP 405" not in str(error):
                    raise
                self._scores = False  # a server of chats only
        return self._scores

    def ledger(self) -> dict[str, Any]:
        """Requests, retries, failures, tokens, and money where prices are known, since this sampler was made."""
        return self._ledger.as_dict()

    def _score(self, context: str, continuation: str) -> Score | Failure:
        prompt = context + continuation
        body = self._body(1, 0.0, 1.0, (), 0) | {"prompt": prompt, "echo": True, "logprobs": 1}

        def read(payload: Any) -> Score | Failure:
            try:
                return score_of_end(payload, prompt, continuation)
            except ValueError as error:  # the server's nature, not its mood: no retry
                return Failure(str(error))

        return self._post("/completions", body, read)

    def _body(
        self, max_tokens: int, temperature: float, top_p: float, stop: Sequence[str], seed: int
    ) -> dict[str, Any]:
        body: dict[str, Any] = {"model": self.name, "max_tokens": max_tokens, "temperature": temperature}
        body |= {"seed": seed} | ({"top_p": top_p} if top_p != 1 else {})
        return body | ({"stop": list(stop)} if stop else {})

    def _several(
        self, path: str, body: Mapping[str, Any], n: int, parse: Callable[[Any], list[Reply]]
    ) -> list[Reply] | Failure:
        """`n` answers; servers that give one whatever is asked for are asked again, each time with another seed."""
        found: list[Reply] = []
        asked = 0
        while len(found) < n:
            wanted = {"n": n - len(found)} if n - len(found) > 1 else {}
            answers = self._post(path, {**body, **wanted, "seed": body["seed"] + asked}, parse)
            if isinstance(answers, Failure):
                return answers
            found += answers
            asked += len(answers)
        return found[:n]

    def _post(self, path: str, body: Mapping[str, Any], parse: Callable[[Any], Found]) -> Found | Failure:
        sent = self._sent(body)
        answer = self._caller.post(path, sent, parse)
        if not isinstance(answer, Failure) or not answer.parameter:
            return answer
        if answer.parameter == "max_tokens" and "max_tokens" in sent:
            self._limit = "max_completion_tokens"
            return self._post(path, body, parse)
        if answer.parameter in body:
            raise UserError(
                f"endpoint {self.url}: {self.name} does not take {answer.parameter} ({answer.reason}); "
                f"leave_out={answer.parameter} asks without it, with the server's own value"
            )
        return answer

    def _sent(self, body: Mapping[str, Any]) -> dict[str, Any]:
        kept = {name: value for name, value in body.items() if name not in self.leave_out}
        if "max_tokens" in kept:
            kept[self._limit] = kept.pop("max_tokens")
        return kept

    def _all(self, given: Sequence[Given], ask: Callable[[Given], Found], each: Each | None) -> list[Found]:
        found: dict[int, Found] = {}
        pool = ThreadPoolExecutor(self.concurrency)
        try:
            waiting = {pool.submit(ask, one): index for index, one in enumerate(given)}
            for done in as_completed(waiting):
                index = waiting[done]
                found[index] = done.result()
                if each is not None:
                    each(index, found[index])
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
        return [found[index] for index in range(len(given))]


def _headers(url: str, key: str) -> dict[str, str]:
    parts = urlsplit(url)
    host = parts.hostname or ""
    own = f"{KEY_VARIABLE}_{re.sub(r'[^A-Z0-9]', '_', host.upper())}"
    secret = os.environ.get(key or own, "")
    private = parts.scheme == "https" or host in ("localhost", "127.0.0.1", "::1")
    if not secret and not key and private:
        secret = os.environ.get(KEY_VARIABLE, "")
    return {"Authorization": f"Bearer {secret.strip()}"} if secret.strip() else {}


def _message(message: Message) -> dict[str, Any]:
    content = spoken(message) if message.tools else message.content
    fields: dict[str, Any] = {"role": message.role, "content": content}
    return fields | ({"tool_calls": list(message.tool_calls)} if message.tool_calls else {})
