"""One HTTP call that survives what servers do: paced, retried, counted, and never telling a secret."""

from __future__ import annotations

import json
import random
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import Any, Final, TypeVar

import httpx

from zhenlong.errors import UserError
from zhenlong.guarded_call import describe_error, well_formed
from zhenlong.inference.bounded_http import HttpResponse, ResponseTooLarge, post_json
from zhenlong.inference.openai_responses import RequestFailure, token_usage

Parsed = TypeVar("Parsed")

RETRYABLE_STATUSES: Final = (408, 409, 425, 429)  # and every 5xx: the same request may succeed later
MIN_KEY_LENGTH: Final = 8  # characters from which a key cannot be a word of an answer
MAX_MESSAGE: Final = 10_000  # characters of a server's message that are looked at
MAX_BACKOFF: Final = 60.0  # seconds between two tries, unless the server asks for more
CANNOT_CONNECT: Final = "cannot connect"
MAX_RETRY_AFTER: Final = 600.0  # seconds that a server's Retry-After is obeyed for at most


@dataclass(frozen=True)
class Clock:
    """Seconds that pass, and waiting: replaced in tests, so that they do not wait."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


@dataclass
class ApiUsage:
    """What was asked and what it cost. `prices`: money for a million prompt tokens and a million generated ones."""

    prices: tuple[float, float] | None = None
    requests: int = 0
    retries: int = 0
    failed: int = 0
    prompt_tokens: int = 0
    generated_tokens: int = 0
    missing_usage: int = 0  # answers whose tokens the server did not count
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def add(self, **counts: int) -> None:
        """Add to the named counts."""
        with self._lock:
            for name, count in counts.items():
                setattr(self, name, getattr(self, name) + count)

    def add_response(self, payload: Any) -> None:
        """Count the tokens of a response."""
        token_counts = token_usage(payload)
        if token_counts is None:
            self.add(missing_usage=1)
        else:
            self.add(prompt_tokens=token_counts[0], generated_tokens=token_counts[1])

    def as_dict(self) -> dict[str, Any]:
        """All counts, and `cost` where prices are known."""
        names = ("requests", "retries", "failed", "prompt_tokens", "generated_tokens", "missing_usage")
        cost = None
        if self.prices is not None:
            cost = (self.prompt_tokens * self.prices[0] + self.generated_tokens * self.prices[1]) / 1e6
        return {name: getattr(self, name) for name in names} | {"cost": cost}


@dataclass
class RateLimiter:
    """At most `requests_per_minute` requests a minute, evenly spaced, over all threads (None: no limit)."""

    requests_per_minute: float | None
    clock: Clock
    _next_slot: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def wait(self) -> None:
        """Wait for this request's turn."""
        with self._lock:
            now = self.clock.now()
            start = max(now, self._next_slot)
            self._next_slot = start + (60 / self.requests_per_minute if self.requests_per_minute else 0.0)
        if start > now:
            self.clock.sleep(start - now)

    def pause(self, seconds: float) -> None:
        """Let nobody ask for so long: the server said that it has had enough."""
        with self._lock:
            self._next_slot = max(self._next_slot, self.clock.now() + seconds)


class RetryableError(Exception):
    """This try came to nothing; another may not. `retry_after`: the seconds that the server asks to wait."""

    def __init__(self, reason: str, retry_after: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


@dataclass
class HttpClient:
    """Posts JSON to one server. `headers` gives the request's headers anew each time: no secret is kept here."""

    url: str
    client: httpx.Client
    headers: Callable[[], Mapping[str, str]]
    usage: ApiUsage
    rate_limiter: RateLimiter
    clock: Clock
    max_retries: int = 6
    jitter: random.Random = field(default_factory=random.Random, repr=False)
    has_connected: bool = False  # whether the server has ever answered anything

    def post(self, path: str, body: Mapping[str, Any], parse: Callable[[Any], Parsed]) -> Parsed | RequestFailure:
        """What `parse` makes of the response; a `RequestFailure` for a request refused, or failed in every try.

        Time-outs (of the whole response), dropped connections, 408, 409, 425, 429, 5xx and responses that are not the
        expected JSON are tried again after 1, 2, 4 ... seconds (half to all of it, at random), or what Retry-After
        asks. A response that is too long or nested too deeply is a failure at once. Raises `UserError` for what no
        retry can mend: a wrong key, an unknown model or path, an account without credit, a server that nothing was
        ever heard of.
        """
        reason = ""
        self.usage.add(requests=1)
        for attempt in range(self.max_retries + 1):
            self.rate_limiter.wait()
            try:
                return self._post_once(path, body, parse)
            except RetryableError as again:
                reason = str(again)
                if attempt < self.max_retries:
                    self.usage.add(retries=1)
                    self._back_off(attempt, again.retry_after)
            except RequestRejected as refused:
                self.usage.add(failed=1)
                return RequestFailure(str(refused), refused.unsupported_parameter)
        self.usage.add(failed=1)
        if not self.has_connected and reason.startswith(CANNOT_CONNECT):
            raise UserError(f"endpoint {self.url}: {reason}; check the URL, and that the server runs")
        return RequestFailure(f"{reason} ({self.max_retries + 1} tries)")

    def _back_off(self, attempt: int, retry_after: float | None) -> None:
        if retry_after is not None:
            retry_after = min(retry_after, MAX_RETRY_AFTER)
            self.rate_limiter.pause(retry_after)
            self.clock.sleep(retry_after)
        else:
            self.clock.sleep(min(MAX_BACKOFF, 2.0**attempt) * self.jitter.uniform(0.5, 1.0))

    def _post_once(self, path: str, body: Mapping[str, Any], parse: Callable[[Any], Parsed]) -> Parsed:
        headers = dict(self.headers())
        try:
            response = post_json(self.client, f"{self.url}{path}", body, headers)
        except httpx.TimeoutException:
            raise RetryableError("no answer in time") from None
        except httpx.ConnectError as error:
            raise RetryableError(f"{CANNOT_CONNECT}: {redact(str(error), headers)}") from None
        except (httpx.TransportError, httpx.DecodingError) as error:
            raise RetryableError(f"connection lost: {redact(str(error) or type(error).__name__, headers)}") from None
        except ResponseTooLarge as error:
            raise RequestRejected(str(error)) from None
        self.has_connected = True
        self._raise_for_status(response, headers)
        try:
            payload = without_key(response, headers)
        except ValueError:
            raise RetryableError("the response is not JSON") from None
        except RecursionError:
            raise RequestRejected("the response is JSON that is nested too deeply") from None
        if isinstance(payload, dict) and payload.get("error") and not payload.get("choices"):
            raise RetryableError(f"the server reports: {redact(_error_message(response), headers)}")
        self.usage.add_response(payload)
        try:
            return parse(payload)
        except Exception as error:  # whatever a server may send
            reason = redact(describe_error(error), headers)
            raise RetryableError(f"the response is not what was expected: {reason}") from None

    def _raise_for_status(self, response: HttpResponse, headers: Mapping[str, str]) -> None:
        status = response.status_code
        if 200 <= status < 300:
            return
        message = redact(_error_message(response), headers)
        if status in (401, 403):
            hint = "set the key" if "Authorization" not in headers else "check the key"
            raise UserError(f"endpoint {self.url}: access denied (HTTP {status}); {hint}, see the page on endpoints")
        if status == 402 or (status == 429 and "insufficient_quota" in response.text):
            raise UserError(f"endpoint {self.url}: the account has no credit left (HTTP {status}); top it up")
        if status in (404, 405):
            raise UserError(
                f"endpoint {self.url}: not found (HTTP {status}: {message}); check the URL and the model name"
            )
        if 300 <= status < 400:
            raise UserError(f"endpoint {self.url}: moved (HTTP {status}); give the address it moved to")
        if status in RETRYABLE_STATUSES or status >= 500:
            raise RetryableError(f"HTTP {status}: {message}", _parse_retry_after(response.headers.get("retry-after")))
        raise RequestRejected(f"HTTP {status}: {message}", _unsupported_parameter(response))


class RequestRejected(Exception):
    """The server will not answer this request, however often it is asked. `unsupported_parameter`: what it does not
    support.
    """

    def __init__(self, reason: str, unsupported_parameter: str = "") -> None:
        super().__init__(reason)
        self.unsupported_parameter = unsupported_parameter


def redact(text: str, headers: Mapping[str, str]) -> str:
    """The text on one line of at most 300 characters, without the key that was sent or anything that looks like one."""
    if key := _key_of(headers):
        text = text.replace(key, "[key]")
    text = re.sub(r"\bBearer\s+\S+", "Bearer [key]", text)
    text = re.sub(r"\b(?:sk|key|api|hf)[-_][\w*.\-]{6,}", "[key]", text)
    return well_formed(" ".join(text.split())[:300])


def without_key(response: HttpResponse, headers: Mapping[str, str]) -> Any:
    """The value of a response, in which every echo of the key that was sent is `[key]`.

    Raises as `HttpResponse.json`. Keys below eight characters, such as `EMPTY`, are none: words of answers stay.
    """
    payload, key = response.json(), _key_of(headers)
    if len(key) < MIN_KEY_LENGTH or not (key.encode() in response.content or b"\\u00" in response.content):
        return payload  # nothing to search: an echo is there literally, or written with escapes
    return _replaced(payload, key)


def _replaced(value: Any, key: str) -> Any:
    if isinstance(value, str):
        return value.replace(key, "[key]")
    if isinstance(value, list):
        return [_replaced(item, key) for item in value]
    if isinstance(value, dict):
        return {_replaced(name, key): _replaced(item, key) for name, item in value.items()}
    return value


def _key_of(headers: Mapping[str, str]) -> str:
    return headers.get("Authorization", "").removeprefix("Bearer ")


def _error_message(response: HttpResponse) -> str:
    """What the server says is wrong: the `message` of its JSON, else the beginning of its text."""
    try:
        payload = response.json()
    except (ValueError, RecursionError):
        return response.text[:300] or response.reason_phrase
    error = payload.get("error", payload) if isinstance(payload, dict) else payload
    if isinstance(error, dict):
        error = error.get("message") or error.get("detail") or error
    return str(error) if isinstance(error, str) else json.dumps(error)[:MAX_MESSAGE]


def _unsupported_parameter(response: HttpResponse) -> str:
    """The parameter that the server does not take, where it names one in OpenAI's manner."""
    try:
        error = response.json().get("error")
    except (ValueError, AttributeError, RecursionError):
        return ""
    if isinstance(error, dict) and str(error.get("code", "")).startswith("unsupported"):
        return str(error.get("param") or "")
    return ""


def _parse_retry_after(header: str | None) -> float | None:
    """Seconds of a Retry-After header, which holds seconds or a date."""
    if not header:
        return None
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(header) - datetime.now(timezone.utc)).total_seconds())
    except (ValueError, TypeError):
        return None
