"""SIGTERM and Ctrl-C: finish the step, save, stop."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any


class Interrupted(SystemExit):
    """The run was interrupted and can be resumed. If unhandled, the process exits with 128 + the signal number."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.name = signal.Signals(number).name


class StopSignals:
    """Handlers for SIGTERM and SIGINT: inside a step (`in_step`) the first one is stored in `received`, else raised.

    A second signal raises at once. Python delivers signals to the main thread only; elsewhere nothing is installed.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self.in_step = False
        self._previous: dict[int, Any] = {}

    def install(self) -> None:
        """Install the handlers."""
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._handle) for number in (signal.SIGTERM, signal.SIGINT)}

    def restore(self) -> None:
        """Restore the previous handlers."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if not self.in_step or self.received is not None:
            raise Interrupted(number)
        self.received = number
