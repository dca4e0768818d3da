"""Calls that may raise anything or never end: one odd value costs its own result, and never the run.

`ANYTHING` is what such a call may raise, `describe_error` says it in one line, and `time_limit` ends a call.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

MAX_REASON: Final = 300  # characters of a reason


class TimeLimitExceeded(BaseException):
    """A call took too long. Not an `Exception`, so that the call itself does not catch it."""


ANYTHING: Final = (Exception, TimeLimitExceeded, SystemExit)  # Ctrl-C still ends the run


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise `TimeLimitExceeded` in the block after so many seconds of this thread's own processor time.

    Waiting for other processes does not count, nor do other threads. A limit around this one stays in force. Outside
    the main thread, where Python handles no signals, nothing is limited.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    deadline = time.thread_time() + seconds

    def check(number: int, frame: FrameType | None) -> None:
        remaining = deadline - time.thread_time()
        if remaining > 0:  # other threads used the processor
            signal.setitimer(signal.ITIMER_PROF, remaining)
        else:
            raise TimeLimitExceeded(f"more than {seconds:g} s")

    handler_before = signal.signal(signal.SIGPROF, check)
    timer_before, _ = signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, timer_before)
        signal.signal(signal.SIGPROF, handler_before)


def describe_error(error: BaseException) -> str:
    """The class and message of an error, on one line of at most 300 characters that every file can hold."""
    try:
        message = str(error)
    except ANYTHING:
        message = ""
    text = f"{type(error).__name__}: {message[:MAX_REASON]}" if message else type(error).__name__
    return well_formed(" ".join(text.split()))[:MAX_REASON]


def well_formed(text: str) -> str:
    """The text with each half of a surrogate pair replaced by U+FFFD, as files, databases and tokenizers need it."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text
