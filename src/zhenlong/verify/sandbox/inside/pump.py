"""Watch a running program: feed it, read it, and stop at the first limit that it meets."""

from __future__ import annotations

import os
import selectors
import time
from collections.abc import Callable
from typing import Final

CHUNK: Final = 1 << 16
STEP: Final = 0.02  # seconds between looks at a process where the kernel cannot wake us


class Pump:
    """The pipes of a program. `read` ends hold what came so far; `write` ends are fed what is pending."""

    def __init__(self, output_limit: int) -> None:
        self.output_limit = output_limit
        self.received: dict[int, bytearray] = {}
        self._pending: dict[int, memoryview] = {}
        self._selector = selectors.DefaultSelector()

    def reads(self, end: int) -> None:
        """Collect what comes from a pipe."""
        os.set_blocking(end, False)
        self.received[end] = bytearray()
        self._selector.register(end, selectors.EVENT_READ)

    def writes(self, end: int, data: bytes, close: bool = False) -> None:
        """Feed data to a pipe as it takes them, then close it if asked."""
        os.set_blocking(end, False)
        self._pending[end] = memoryview(data)
        self._selector.register(end, selectors.EVENT_WRITE, close)

    def until(self, done: Callable[[], bool], deadline: float) -> str:
        """Move data until something is done ("") or a limit is met ("time limit", "output limit")."""
        while not done():
            left = deadline - time.monotonic()
            if left <= 0:
                return "time limit"
            self._move(min(left, STEP))
            if sum(map(len, self.received.values())) > self.output_limit:
                return "output limit"
        self._move(0)  # what was written before the end
        return "output limit" if sum(map(len, self.received.values())) > self.output_limit else ""

    def line(self, end: int) -> bytes | None:
        """The next whole line from a pipe, taken from what was received; None: not yet."""
        found = self.received[end].find(b"\n")
        if found < 0:
            return None
        taken = bytes(self.received[end][: found + 1])
        del self.received[end][: found + 1]
        return taken

    def ended(self, end: int) -> bool:
        """Whether nothing more can come from a pipe."""
        return end not in self._selector.get_map()

    def close(self) -> None:
        """Let go of all pipes."""
        for key in list(self._selector.get_map().values()):
            os.close(key.fd)
        self._selector.close()

    def _move(self, seconds: float) -> None:
        for key, _ in self._selector.select(seconds):
            end = key.fd
            try:
                if end in self.received:
                    self._receive(end)
                else:
                    self._feed(end, bool(key.data))
            except BlockingIOError:
                continue
            except OSError:  # the other side is gone
                self._drop(end, True)

    def _receive(self, end: int) -> None:
        while data := os.read(end, CHUNK):
            self.received[end] += data
            if len(self.received[end]) > self.output_limit:
                return
        self._drop(end, True)

    def _feed(self, end: int, close: bool) -> None:
        self._pending[end] = self._pending[end][os.write(end, self._pending[end][:CHUNK]) :]
        if not self._pending[end]:
            self._drop(end, close)

    def _drop(self, end: int, close: bool) -> None:
        self._selector.unregister(end)
        if close:
            os.close(end)
