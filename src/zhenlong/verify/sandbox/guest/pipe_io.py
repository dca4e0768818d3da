"""Watch a running program: feed it, read it, and stop at the first limit that it meets."""

from __future__ import annotations

import os
import selectors
import time
from collections.abc import Callable
from typing import Final

CHUNK_BYTES: Final = 1 << 16
POLL_SECONDS: Final = 0.02  # seconds between looks at a process where the kernel cannot wake us


class PipeIO:
    """The pipes of a program. `read` ends hold what came so far; `write` ends are fed what is pending."""

    def __init__(self, output_limit: int) -> None:
        self.output_limit = output_limit
        self.received: dict[int, bytearray] = {}
        self._pending: dict[int, memoryview] = {}
        self._selector = selectors.DefaultSelector()

    def add_reader(self, fd: int) -> None:
        """Collect what comes from a pipe."""
        os.set_blocking(fd, False)
        self.received[fd] = bytearray()
        self._selector.register(fd, selectors.EVENT_READ)

    def add_writer(self, fd: int, data: bytes, close: bool = False) -> None:
        """Feed data to a pipe as it takes them, then close it if asked."""
        os.set_blocking(fd, False)
        self._pending[fd] = memoryview(data)
        self._selector.register(fd, selectors.EVENT_WRITE, close)

    def run_until(self, done: Callable[[], bool], deadline: float) -> str:
        """Move data until something is done ("") or a limit is met ("time limit", "output limit")."""
        while not done():
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                return "time limit"
            self._poll(min(remaining, POLL_SECONDS))
            if sum(map(len, self.received.values())) > self.output_limit:
                return "output limit"
        self._poll(0)  # what was written before the end
        return "output limit" if sum(map(len, self.received.values())) > self.output_limit else ""

    def pop_line(self, fd: int) -> bytes | None:
        """The next whole line from a pipe, taken from what was received; None: not yet."""
        found = self.received[fd].find(b"\n")
        if found < 0:
            return None
        taken = bytes(self.received[fd][: found + 1])
        del self.received[fd][: found + 1]
        return taken

    def is_closed(self, fd: int) -> bool:
        """Whether nothing more can come from a pipe."""
        return fd not in self._selector.get_map()

    def close(self) -> None:
        """Let go of all pipes."""
        for key in list(self._selector.get_map().values()):
            os.close(key.fd)
        self._selector.close()

    def _poll(self, seconds: float) -> None:
        for key, _ in self._selector.select(seconds):
            fd = key.fd
            try:
                if fd in self.received:
                    self._read(fd)
                else:
                    self._write(fd, bool(key.data))
            except BlockingIOError:
                continue
            except OSError:  # the other side is gone
                self._unregister(fd, True)

    def _read(self, fd: int) -> None:
        while data := os.read(fd, CHUNK_BYTES):
            self.received[fd] += data
            if len(self.received[fd]) > self.output_limit:
                return
        self._unregister(fd, True)

    def _write(self, fd: int, close: bool) -> None:
        self._pending[fd] = self._pending[fd][os.write(fd, self._pending[fd][:CHUNK_BYTES]) :]
        if not self._pending[fd]:
            self._unregister(fd, close)

    def _unregister(self, fd: int, close: bool) -> None:
        self._selector.unregister(fd)
        if close:
            os.close(fd)
