"""Files that appear whole or not at all, and lines that are only ever added."""

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
from typing import Any

from safetensors import SafetensorError

from zhenlong.errors import UserError

TEMPORARY_PREFIX = ".partial-"


@contextmanager
def reporting_write_errors(path: Path) -> Iterator[None]:
    """Turn what the operating system says about a full disk or a read-only folder into a `UserError` naming `path`."""
    try:
        yield
    except (OSError, SafetensorError) as error:  # safetensors reports a full disk as an error of its own
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(
            f"{path}: cannot be written ({reason}); free or allow the space, or choose another output"
        ) from error


def write_text(path: Path, text: str) -> None:
    """Write the file, or leave the old one as it was: a temporary file in the same folder, synced, then renamed."""
    with reporting_write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f"{TEMPORARY_PREFIX}{os.getpid()}-{path.name}")
        try:
            with open(temporary, "w", encoding="utf-8") as file:
                file.write(text)
                _fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        _fsync_folder(path.parent)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically; numbers that are not finite become null."""
    write_text(path, json.dumps(to_jsonable(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """A temporary folder to fill, which becomes `path` when the block ends and vanishes when it raises."""
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
    """Make the folder and keep other processes from writing a run to it until the returned descriptor is closed.

    The system gives the lock back when the process dies, however it dies. Raises `UserError` when another has it.
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
        print(f"{path}: cannot be locked ({error.strerror}); see that no other process writes here", file=sys.stderr)
    return descriptor


class JsonLines:
    """A file of one JSON object a line, each with a `step`, to which lines are only added."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, row: Mapping[str, Any]) -> None:
        """Add one line. It has left this process when the call returns, so a killed process loses no line."""
        line = json.dumps(to_jsonable(row), ensure_ascii=False, allow_nan=False) + "\n"
        with reporting_write_errors(self.path), open(self.path, "a", encoding="utf-8") as file:
            file.write(line)

    def sync(self) -> None:
        """Wait until the lines are on the disk."""
        if self.path.exists():
            with reporting_write_errors(self.path), open(self.path, "rb") as file:
                _fsync(file.fileno())

    def truncate_after(self, step: int) -> None:
        """Drop the lines after `step`, and a last line that was torn while it was written."""
        if not self.path.exists():
            return
        lines = []
        for line in self.path.read_bytes().split(b"\n")[:-1]:  # what follows the last newline is a torn line
            try:
                if json.loads(line)["step"] > step:
                    break
            except (ValueError, KeyError, TypeError):
                break  # a damaged line: what follows it cannot be older
            lines.append(line.decode("utf-8") + "\n")
        write_text(self.path, "".join(lines))


def to_jsonable(value: Any) -> Any:
    """The value in JSON's own types: paths and numbers of other libraries converted, non-finite numbers to None."""
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
    return value


def _fsync(descriptor: int) -> None:
    os.fsync(descriptor)


def _fsync_folder(folder: Path) -> None:
    """Make a rename in the folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        _fsync(descriptor)
    finally:
        os.close(descriptor)
