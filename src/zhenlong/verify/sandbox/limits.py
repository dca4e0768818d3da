"""Resource limits of a program, its surroundings, and its result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from zhenlong.errors import UserError

MEBIBYTE: Final = 1 << 20


@dataclass(frozen=True)
class Limits:
    """Limits of a run. Sizes are in bytes, times in seconds.

    `memory` is the address space of one process, `disk` the size of the in-memory working folder, `output` stdout and
    stderr together. `processes` counts threads too; without `fork` a program may start only threads.
    """

    seconds: float = 5.0  # wall-clock time
    cpu_seconds: int = 0  # CPU time; 0: `seconds` rounded up, plus one
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
class ProgramSettings:
    """What a program finds: `files` in its working folder, and importable `packages`.

    `swallow_exit`: sys.exit with any code counts as a normal end.
    """

    files: Mapping[str, str] = field(default_factory=dict)
    packages: tuple[str, ...] = ()
    swallow_exit: bool = False


@dataclass(frozen=True)
class ProgramResult:
    """The result of a run. `reason` is the limit that ended it: time limit, cpu limit, output limit; else empty."""

    stdout: str
    stderr: str
    exit_code: int | None  # None: ended by a signal
    signal: str = ""
    reason: str = ""
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    memory: int = 0  # peak, in bytes

    @property
    def timed_out(self) -> bool:
        """Whether it exceeded a time limit."""
        return self.reason in ("time limit", "cpu limit")

    @property
    def succeeded(self) -> bool:
        """Whether it exited by itself with code 0."""
        return not self.reason and self.exit_code == 0
