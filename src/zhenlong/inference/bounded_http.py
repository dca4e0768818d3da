"""HTTP requests with a limit of time and size for the whole response, whatever the server does.

httpx limits the time between two reads, so that a server which sends a byte a second is never late.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import httpcore
import httpx

MAX_RESPONSE_BYTES: Final = 64 << 20  # log-probabilities of 8,000 tokens, 20 for each, take about 13 MB


class ResponseTooLarge(Exception):
    """The response exceeds `MAX_RESPONSE_BYTES`."""


@dataclass(frozen=True)
class HttpResponse:
    """A response, read to its end."""

    status_code: int
    reason_phrase: str
    headers: Mapping[str, str]
    content: bytes

    @property
    def text(self) -> str:
        """The body as text."""
        return self.content.decode("utf-8", "replace")

    def json(self) -> Any:
        """The body's value. Raises `ValueError` if it is not JSON, and `RecursionError` if it is nested deeply."""
        return json.loads(self.content)


def post_json(client: httpx.Client, url: str, body: Mapping[str, Any], headers: Mapping[str, str]) -> HttpResponse:
    """Post JSON and read the whole response, within the client's read timeout in all.

    Raises httpx's errors and `ResponseTooLarge`. Connections are limited too if the client has been through
    `limit_connections`.
    """
    seconds = client.timeout.read
    deadline = None if seconds is None else time.monotonic() + seconds
    _deadline.at = deadline
    try:
        with client.stream("POST", url, json=dict(body), headers=dict(headers)) as response:
            content = bytearray()
            for part in response.iter_bytes(1 << 16):
                content += part
                if len(content) > MAX_RESPONSE_BYTES:
                    raise ResponseTooLarge(f"the response exceeds {MAX_RESPONSE_BYTES >> 20} MiB")
                if deadline is not None and time.monotonic() > deadline:
                    raise httpx.ReadTimeout("the response takes too long")
            return HttpResponse(response.status_code, response.reason_phrase, response.headers, bytes(content))
    finally:
        _deadline.at = None


def limit_connections(client: httpx.Client) -> httpx.Client:
    """The client, whose connections now keep the deadline of the request under way in their thread."""
    # httpx offers no way to give a pool its network backend
    for transport in (client._transport, *client._mounts.values()):
        pool = getattr(transport, "_pool", None)
        if pool is not None:
            pool._network_backend = _DeadlineBackend(pool._network_backend)
    return client


class _Deadline(threading.local):
    """When the request of this thread has to be answered; None: no limit."""

    at: float | None = None

    def remaining(self, timeout: float | None, late: Callable[[], Exception]) -> float | None:
        """The shorter of a timeout and the time that is left. Raises `late()` where none is."""
        if self.at is None:
            return timeout
        left = self.at - time.monotonic()
        if left <= 0:
            raise late()
        return left if timeout is None else min(timeout, left)


_deadline = _Deadline()


class _DeadlineStream(httpcore.NetworkStream):
    """A connection that reads and writes until the deadline of its thread's request."""

    def __init__(self, stream: httpcore.NetworkStream) -> None:
        self._stream = stream

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, _deadline.remaining(timeout, httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, _deadline.remaining(timeout, httpcore.WriteTimeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: Any, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        limit = _deadline.remaining(timeout, httpcore.ConnectTimeout)
        return _DeadlineStream(self._stream.start_tls(ssl_context, server_hostname, limit))

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


class _DeadlineBackend(httpcore.NetworkBackend):
    """Opens such connections."""

    def __init__(self, backend: httpcore.NetworkBackend) -> None:
        self._backend = backend

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        limit = _deadline.remaining(timeout, httpcore.ConnectTimeout)
        return _DeadlineStream(self._backend.connect_tcp(host, port, limit, local_address, socket_options))

    def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[Any] | None = None
    ) -> httpcore.NetworkStream:
        return _DeadlineStream(self._backend.connect_unix_socket(path, timeout, socket_options))

    def sleep(self, seconds: float) -> None:
        self._backend.sleep(seconds)
