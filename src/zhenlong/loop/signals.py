"""SIGTERM and Ctrl-C: finish the step, save, stop."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any


class Interrupted(SystemExit):
    """The run was told to stop, and what it did can be resumed. Unhandled, the process exits with 128 + the signal."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.name = signal.Signals(number).name


class StopSignals:
    """While installed, a first SIGTERM or SIGINT is kept in `received` if `in_step`, and stops the run otherwise.

    A second one raises at once. Signals reach only the main thread; elsewhere nothing is installed.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self.in_step = False
        self._previous: dict[int, Any] = {}

    def install(self) -> None:
        """Take the signals over."""
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._handle) for number in (signal.SIGTERM, signal.SIGINT)}

    def restore(self) -> None:
        """Give them back to whoever had them."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if not self.in_step or self.received is not None:
            raise Interrupted(number)
        self.received = number
