"""One HTTP call that survives what servers do: paced, retried, counted, and never telling a secret."""

from __future__ import annotations

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
from zhenlong.sampling.endpoint_replies import Failure, usage

Parsed = TypeVar("Parsed")

PASSING: Final = (408, 409, 425, 429)  # and every 5xx: the same request may succeed later
LONGEST: Final = 60.0  # seconds between two tries, unless the server asks for more
UNREACHED: Final = "cannot connect"
PATIENCE: Final = 600.0  # seconds that a server's Retry-After is obeyed for at most


@dataclass(frozen=True)
class Clock:
    """Seconds that pass, and waiting: replaced in tests, so that they do not wait."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


@dataclass
class Ledger:
    """What was asked and what it cost. `prices`: money for a million prompt tokens and a million generated ones."""

    prices: tuple[float, float] | None = None
    requests: int = 0
    retries: int = 0
    failed: int = 0
    prompt_tokens: int = 0
    generated_tokens: int = 0
    unmetered: int = 0  # answers whose tokens the server did not count
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def add(self, **counts: int) -> None:
        """Add to the named counts."""
        with self._lock:
            for name, count in counts.items():
                setattr(self, name, getattr(self, name) + count)

    def spend(self, payload: Any) -> None:
        """Count the tokens of a response."""
        counted = usage(payload)
        if counted is None:
            self.add(unmetered=1)
        else:
            self.add(prompt_tokens=counted[0], generated_tokens=counted[1])

    def as_dict(self) -> dict[str, Any]:
        """All counts, and `cost` where prices are known."""
        names = ("requests", "retries", "failed", "prompt_tokens", "generated_tokens", "unmetered")
        cost = None
        if self.prices is not None:
            cost = (self.prompt_tokens * self.prices[0] + self.generated_tokens * self.prices[1]) / 1e6
        return {name: getattr(self, name) for name in names} | {"cost": cost}


@dataclass
class Pace:
    """At most `per_minute` requests a minute, evenly spaced, over all threads (None: no limit)."""

    per_minute: float | None
    clock: Clock
    _free: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def wait(self) -> None:
        """Wait for this request's turn."""
        with self._lock:
            now = self.clock.now()
            start = max(now, self._free)
            self._free = start + (60 / self.per_minute if self.per_minute else 0.0)
        if start > now:
            self.clock.sleep(start - now)

    def hold(self, seconds: float) -> None:
        """Let nobody ask for so long: the server said that it has had enough."""
        with self._lock:
            self._free = max(self._free, self.clock.now() + seconds)


class Again(Exception):
    """This try came to nothing; another may not. `after`: the seconds that the server asks to wait."""

    def __init__(self, reason: str, after: float | None = None) -> None:
        super().__init__(reason)
        self.after = after


@dataclass
class Caller:
    """Posts JSON to one server. `headers` gives the request's headers anew each time: no secret is kept here."""

    url: str
    client: httpx.Client
    headers: Callable[[], Mapping[str, str]]
    ledger: Ledger
    pace: Pace
    clock: Clock
    retries: int = 6
    jitter: random.Random = field(default_factory=random.Random, repr=False)
    reached: bool = False  # whether the server has ever answered anything

    def post(self, path: str, body: Mapping[str, Any], parse: Callable[[Any], Parsed]) -> Parsed | Failure:
        """What `parse` makes of the response; a `Failure` for a request refused, or failed in every try.

        Time-outs, dropped connections, 408, 409, 425, 429, 5xx and responses that are not the expected JSON are tried
        again after 1, 2, 4 ... seconds (half to all of it, at random), or what Retry-After asks. Raises `UserError` for
        what no retry can mend: a wrong key, an unknown model or path, an account without credit, a server that nothing
        was ever heard of.
        """
        reason = ""
        self.ledger.add(requests=1)
        for attempt in range(self.retries + 1):
            self.pace.wait()
            try:
                return self._once(path, body, parse)
            except Again as again:
                reason = str(again)
                if attempt < self.retries:
                    self.ledger.add(retries=1)
                    self._wait(attempt, again.after)
            except Refused as refused:
                self.ledger.add(failed=1)
                return Failure(str(refused), refused.parameter)
        self.ledger.add(failed=1)
        if not self.reached and reason.startswith(UNREACHED):
            raise UserError(f"endpoint {self.url}: {reason}; check the URL, and that the server runs")
        return Failure(f"{reason} ({self.retries + 1} tries)")

    def _wait(self, attempt: int, after: float | None) -> None:
        if after is not None:
            after = min(after, PATIENCE)
            self.pace.hold(after)
            self.clock.sleep(after)
        else:
            self.clock.sleep(min(LONGEST, 2.0**attempt) * self.jitter.uniform(0.5, 1.0))

    def _once(self, path: str, body: Mapping[str, Any], parse: Callable[[Any], Parsed]) -> Parsed:
        headers = dict(self.headers())
        try:
            response = self.client.post(f"{self.url}{path}", json=dict(body), headers=headers)
        except httpx.TimeoutException:
            raise Again("no answer in time") from None
        except httpx.ConnectError as error:
            raise Again(f"{UNREACHED}: {redacted(str(error), headers)}") from None
        except httpx.TransportError as error:
            raise Again(f"connection lost: {redacted(str(error) or type(error).__name__, headers)}") from None
        self.reached = True
        self._check(response, headers)
        try:
            payload = response.json()
        except ValueError:
            raise Again("the response is not JSON") from None
        if isinstance(payload, dict) and payload.get("error") and not payload.get("choices"):
            raise Again(f"the server reports: {redacted(_message(response), headers)}")
        self.ledger.spend(payload)
        try:
            return parse(payload)
        except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
            raise Again(f"the response is not what was expected: {redacted(str(error), headers)}") from None

    def _check(self, response: httpx.Response, headers: Mapping[str, str]) -> None:
        status = response.status_code
        if 200 <= status < 300:
            return
        said = redacted(_message(response), headers)
        if status in (401, 403):
            hint = "set the key" if "Authorization" not in headers else "check the key"
            raise UserError(f"endpoint {self.url}: access denied (HTTP {status}); {hint}, see the page on endpoints")
        if status == 402 or (status == 429 and "insufficient_quota" in response.text):
            raise UserError(f"endpoint {self.url}: the account has no credit left (HTTP {status}); top it up")
        if status in (404, 405):
            raise UserError(f"endpoint {self.url}: not found (HTTP {status}: {said}); check the URL and the model name")
        if 300 <= status < 400:
            raise UserError(f"endpoint {self.url}: moved (HTTP {status}); give the address it moved to")
        if status in PASSING or status >= 500:
            raise Again(f"HTTP {status}: {said}", _retry_after(response.headers.get("retry-after")))
        raise Refused(f"HTTP {status}: {said}", _unsupported(response))


class Refused(Exception):
    """The server will not answer this request, however often it is asked. `parameter`: what it does not support."""

    def __init__(self, reason: str, parameter: str = "") -> None:
        super().__init__(reason)
        self.parameter = parameter


def redacted(text: str, headers: Mapping[str, str]) -> str:
    """The text on one line of at most 300 characters, without the key that was sent or anything that looks like one."""
    for name, value in headers.items():
        if name == "Authorization":
            text = text.replace(value.removeprefix("Bearer "), "[key]")
    text = re.sub(r"\bBearer\s+\S+", "Bearer [key]", text)
    text = re.sub(r"\b(?:sk|key|api|hf)[-_][\w*.\-]{6,}", "[key]", text)
    return " ".join(text.split())[:300]


def _message(response: httpx.Response) -> str:
    """What the server says is wrong: the `message` of its JSON, else the beginning of its text."""
    try:
        payload = response.json()
    except ValueError:
        return response.text[:300] or response.reason_phrase
    error = payload.get("error", payload) if isinstance(payload, dict) else payload
    if isinstance(error, dict):
        error = error.get("message") or error.get("detail") or error
    return str(error)


def _unsupported(response: httpx.Response) -> str:
    """The parameter that the server does not take, where it names one in OpenAI's manner."""
    try:
        error = response.json().get("error")
    except (ValueError, AttributeError):
        return ""
    if isinstance(error, dict) and str(error.get("code", "")).startswith("unsupported"):
        return str(error.get("param") or "")
    return ""


def _retry_after(header: str | None) -> float | None:
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
