"""I/O with a running program: feed its input, collect its output, and stop at the first limit."""

from __future__ import annotations

import os
import selectors
import time
from collections.abc import Callable
from typing import Final

CHUNK_BYTES: Final = 1 << 16
POLL_SECONDS: Final = 0.02  # polling interval in seconds, if the kernel cannot notify us


class PipeIO:
    """The pipes of a program: data received from read ends, data pending for write ends."""

    def __init__(self, output_limit: int) -> None:
        self.output_limit = output_limit
        self.received: dict[int, bytearray] = {}
        self._pending: dict[int, memoryview] = {}
        self._selector = selectors.DefaultSelector()

    def add_reader(self, fd: int) -> None:
        """Collect data from a pipe."""
        os.set_blocking(fd, False)
        self.received[fd] = bytearray()
        self._selector.register(fd, selectors.EVENT_READ)

    def add_writer(self, fd: int, data: bytes, close: bool = False) -> None:
        """Feed data to a pipe as it accepts them, then optionally close it."""
        os.set_blocking(fd, False)
        self._pending[fd] = memoryview(data)
        self._selector.register(fd, selectors.EVENT_WRITE, close)

    def run_until(self, done: Callable[[], bool], deadline: float) -> str:
        """Transfer data until `done()` (returns "") or a limit is reached ("time limit", "output limit")."""
        while not done():
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                return "time limit"
            self._poll(min(remaining, POLL_SECONDS))
            if sum(map(len, self.received.values())) > self.output_limit:
                return "output limit"
        self._poll(0)  # data written before the end
        return "output limit" if sum(map(len, self.received.values())) > self.output_limit else ""

    def pop_line(self, fd: int) -> bytes | None:
        """Remove and return the next complete line received from a pipe; None if there is none yet."""
        found = self.received[fd].find(b"\n")
        if found < 0:
            return None
        taken = bytes(self.received[fd][: found + 1])
        del self.received[fd][: found + 1]
        return taken

    def is_closed(self, fd: int) -> bool:
        """Whether a pipe has reached end of file."""
        return fd not in self._selector.get_map()

    def stop_reading(self, fd: int) -> None:
        """Close a read end, if the other side has not."""
        if not self.is_closed(fd):
            self._unregister(fd, True)

    def close(self) -> None:
        """Close all pipes."""
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
            except OSError:  # the other end is closed
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
