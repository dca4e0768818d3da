"""Answers that are there already: SQLite in write-ahead mode, by the hash of model and request.

Each finished batch is one transaction, so that a killed process loses the batch it was in and nothing else.
"""

from __future__ import annotations

import hashlib
import sqlite3
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

from zhenlong.errors import UserError
from zhenlong.evaluate.adapters.request import Answer, answer_from_json, answer_json

Found = TypeVar("Found")
VARIABLES: Final = 500  # keys asked for at a time
TABLES: Final = (
    "CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, answer TEXT NOT NULL) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS files (path TEXT, size INTEGER, changed INTEGER, hash TEXT NOT NULL, "
    "PRIMARY KEY (path, size, changed)) WITHOUT ROWID",
)


class Cache:
    """The answers in the file `path`; use it as a context. A damaged file is put aside, and a new one begun."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._base = self._opened()

    def __enter__(self) -> Cache:
        return self

    def __exit__(self, *_: object) -> None:
        self._base.close()

    def read(self, keys: Sequence[str]) -> dict[str, Answer]:
        """The answers that are there, by key. An entry that cannot be read counts as not there."""
        found: dict[str, Answer] = {}
        for start in range(0, len(keys), VARIABLES):
            part = keys[start : start + VARIABLES]
            question = f"SELECT key, answer FROM answers WHERE key IN ({','.join('?' * len(part))})"
            for key, text in self._tried(partial(self._all, question, part)) or ():
                with suppress(ValueError, KeyError, TypeError):
                    found[key] = answer_from_json(text)
        return found

    def write(self, answers: Iterable[tuple[str, Answer]]) -> None:
        """Keep the answers of one batch: all or none. Those that failed are not kept, so that they are asked again."""
        rows = [(key, answer_json(answer)) for key, answer in answers if not answer.failed]

        def insert() -> None:
            with self._base:
                self._base.executemany("INSERT OR REPLACE INTO answers VALUES (?, ?)", rows)

        self._tried(insert, again=True)

    def file_hash(self, path: Path) -> str:
        """SHA-256 of a file, computed once for each size and time of change."""
        status = path.stat()
        known = (str(path.resolve()), status.st_size, status.st_mtime_ns)
        question = "SELECT hash FROM files WHERE path = ? AND size = ? AND changed = ?"
        row = self._tried(lambda: self._base.execute(question, known).fetchone())
        if row:
            return str(row[0])
        with path.open("rb") as file:
            digest = _digest(file)

        def insert() -> None:
            with self._base:
                self._base.execute("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?)", (*known, digest))

        self._tried(insert, again=True)
        return digest

    def _all(self, question: str, values: Sequence[str]) -> list[tuple[str, str]]:
        return self._base.execute(question, values).fetchall()

    def _opened(self) -> sqlite3.Connection:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            return self._connected()
        except sqlite3.OperationalError as error:
            raise UserError(f"{self.path}: the cache cannot be opened ({error}); choose another with --cache") from None
        except OSError as error:
            raise UserError(f"{self.path}: cannot be written ({error.strerror}); choose another --cache") from None
        except sqlite3.DatabaseError as error:
            return self._rebuilt(error)

    def _connected(self) -> sqlite3.Connection:
        base = sqlite3.connect(self.path, timeout=60)
        try:
            base.execute("PRAGMA journal_mode=WAL")
            base.execute("PRAGMA synchronous=NORMAL")
            for table in TABLES:
                base.execute(table)
            base.execute("SELECT key, answer FROM answers LIMIT 1").fetchall()
        except sqlite3.DatabaseError:
            base.close()
            raise
        return base

    def _rebuilt(self, error: Exception) -> sqlite3.Connection:
        """Put the damaged files aside and begin anew."""
        count = len(list(self.path.parent.glob(f"{self.path.name}.damaged-*[0-9]")))
        aside = self.path.with_name(f"{self.path.name}.damaged-{count + 1}")
        for suffix in ("", "-wal", "-shm"):
            with suppress(FileNotFoundError):
                Path(f"{self.path}{suffix}").rename(f"{aside}{suffix}")
        print(f"{self.path}: the cache is damaged ({error}); kept as {aside.name}, a new one begins", file=sys.stderr)
        return self._connected()

    def _tried(self, action: Callable[[], Found], again: bool = False) -> Found | None:
        """Do it; where the file turns out to be damaged, begin a new one (and do it there if `again`)."""
        try:
            return action()
        except sqlite3.OperationalError as error:
            if "malformed" not in str(error) and "disk I/O" not in str(error):
                raise UserError(f"{self.path}: the cache cannot be used ({error}); choose another --cache") from None
            damage: Exception = error
        except sqlite3.DatabaseError as error:
            damage = error
        self._base.close()
        self._base = self._rebuilt(damage)
        return action() if again else None


def _digest(file: Any) -> str:
    digest = hashlib.sha256()
    while part := file.read(1 << 20):
        digest.update(part)
    return digest.hexdigest()
