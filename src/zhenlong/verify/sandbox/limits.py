"""What a program may use, and what is known of it when it has ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from zhenlong.errors import UserError

MEBIBYTE: Final = 1 << 20


@dataclass(frozen=True)
class Limits:
    """Limits of a run. Sizes are bytes, times seconds.

    `memory` is address space of one process, `disk` the working folder in memory, `output` both streams together.
    `processes` counts threads too; without `fork` a program may start threads only.
    """

    seconds: float = 5.0  # from start to end, by the clock
    cpu_seconds: int = 0  # of the processor; 0: as many as the clock's, rounded up, and one more
    memory: int = 2048 * MEBIBYTE
    processes: int = 64
    fork: bool = False
    file_size: int = 16 * MEBIBYTE
    disk: int = 64 * MEBIBYTE
    open_files: int = 64
    output: int = 4 * MEBIBYTE

    def __post_init__(self) -> None:
        for name in ("seconds", "memory", "processes", "file_size", "disk", "open_files", "output"):
            if getattr(self, name) <= 0:
                raise UserError(f"sandbox: {name}: expected more than 0, got {getattr(self, name)}")
        if not self.cpu_seconds:
            object.__setattr__(self, "cpu_seconds", int(self.seconds) + 2)


@dataclass(frozen=True)
class ProgramResult:
    """What a program did. `reason` says which limit ended it: time limit, cpu limit, output limit; else empty."""

    stdout: str
    stderr: str
    exit_code: int | None  # None: ended by a signal
    signal: str = ""
    reason: str = ""
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    memory: int = 0  # bytes, at its peak

    @property
    def timed_out(self) -> bool:
        """Whether it was stopped for the time that it took."""
        return self.reason in ("time limit", "cpu limit")

    @property
    def succeeded(self) -> bool:
        """Whether it came to its own end without an error."""
        return not self.reason and self.exit_code == 0
