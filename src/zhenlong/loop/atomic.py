"""Atomic files and folders (complete or absent), a lock for the run folder, and append-only JSON lines."""

from __future__ import annotations

import fcntl
import json
import math
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from safetensors import SafetensorError

from zhenlong.errors import UserError
from zhenlong.guarded_call import well_formed

TEMPORARY_PREFIX = ".partial-"
MAX_INTEGER_BITS: Final = 14_000  # below the 4,300 digits that Python reads and writes


@contextmanager
def reporting_write_errors(path: Path) -> Iterator[None]:
    """Turn an error of the operating system (full disk, read-only folder) into a `UserError` that names `path`."""
    try:
        yield
    except (OSError, SafetensorError) as error:  # safetensors has its own error type for a full disk
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(
            f"{path}: cannot be written ({reason}); free or allow the space, or choose another output"
        ) from error


def write_text(path: Path, text: str) -> None:
    """Write the file atomically: to a temporary file in the same folder, synced, then renamed over the old one.

    Halves of surrogate pairs, which no file in UTF-8 can hold, become U+FFFD.
    """
    with reporting_write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f"{TEMPORARY_PREFIX}{os.getpid()}-{path.name}")
        try:
            with open(temporary, "w", encoding="utf-8") as file:
                file.write(well_formed(text))
                _fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        _fsync_folder(path.parent)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically; non-finite numbers become null."""
    write_text(path, json.dumps(to_jsonable(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder to fill. It becomes `path` when the block ends, and is deleted when the block raises."""
    with reporting_write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f"{TEMPORARY_PREFIX}{os.getpid()}-{path.name}")
        shutil.rmtree(temporary, ignore_errors=True)
        try:
            temporary.mkdir()
            yield temporary
            for file in temporary.iterdir():
                with open(file, "rb") as handle:
                    _fsync(handle.fileno())
            _fsync_folder(temporary)
            if path.exists():
                shutil.rmtree(path)
            os.replace(temporary, path)
            _fsync_folder(path.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def lock_folder(path: Path) -> int:
    """Create the folder and lock it against other processes until the returned descriptor is closed.

    The operating system releases the lock when the process dies. Raises `UserError` when another process holds it.
    """
    with reporting_write_errors(path):
        path.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise UserError(
            f"{path}: another process is writing a run here; wait for it, or choose another output"
        ) from None
    except OSError as error:  # some network file systems have no locks
        print(f"{path}: cannot be locked ({error.strerror}); check that no other process writes here", file=sys.stderr)
    return descriptor


class JsonLines:
    """An append-only file with one JSON object per line, each with a `step`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, row: Mapping[str, Any]) -> None:
        """Append one line. It is flushed when the call returns, so killing the process loses no line."""
        line = json.dumps(to_jsonable(row), ensure_ascii=False, allow_nan=False) + "\n"
        with reporting_write_errors(self.path), open(self.path, "a", encoding="utf-8") as file:
            file.write(well_formed(line))

    def sync(self) -> None:
        """Flush the lines to disk (fsync)."""
        if self.path.exists():
            with reporting_write_errors(self.path), open(self.path, "rb") as file:
                _fsync(file.fileno())

    def truncate_after(self, step: int) -> None:
        """Remove the lines after `step`, and an incomplete last line."""
        if not self.path.exists():
            return
        lines = []
        for line in self.path.read_bytes().split(b"\n")[:-1]:  # text after the last newline is an incomplete line
            try:
                if json.loads(line)["step"] > step:
                    break
            except (ValueError, KeyError, TypeError):
                break  # a damaged line: drop it and all later ones
            lines.append(line.decode("utf-8") + "\n")
        write_text(self.path, "".join(lines))


def to_jsonable(value: Any) -> Any:
    """Convert to JSON types: paths become text, numpy and torch scalars numbers, non-finite numbers None.

    Integers of more digits than Python's own readers take become None too.
    """
    if isinstance(value, Mapping):
        return {str(key): to_jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [to_jsonable(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "item") and not isinstance(value, (int, float, str)):
        value = value.item()  # numpy and torch scalars
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, int) and value.bit_length() > MAX_INTEGER_BITS:
        return None
    return value


def _fsync(descriptor: int) -> None:
    os.fsync(descriptor)


def _fsync_folder(folder: Path) -> None:
    """Make a rename in the folder survive a power failure."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        _fsync(descriptor)
    finally:
        os.close(descriptor)
