"""Answers that are there already: SQLite in write-ahead mode, by the hash of model and request.

Each finished batch is one transaction, so that a killed process loses the batch it was in and nothing else. A local
model's hash is of its weights, configuration, tokenizer and template.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

import torch
from transformers import PreTrainedModel

from zhenlong.errors import UserError
from zhenlong.inference.requests import RequestResult, result_from_json, result_to_json
from zhenlong.models.resolve import resolve_model_path

T = TypeVar("T")
IN_MEMORY: Final = ":memory:"  # the path of a cache that lives as long as the process
MAX_SQL_VARIABLES: Final = 500  # keys asked for at a time
TABLES: Final = (
    "CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, answer TEXT NOT NULL, answered REAL) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS files (path TEXT, size INTEGER, changed INTEGER, hash TEXT NOT NULL, "
    "PRIMARY KEY (path, size, changed)) WITHOUT ROWID",
)
# the files of a model folder that change its answers
FINGERPRINT_SUFFIXES: Final = (".safetensors", ".json", ".jinja", ".model", ".txt")


class RequestCache:
    """The answers in the file `path`; use it as a context. A damaged file is put aside, and a new one begun."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.oldest_read: float | None = None  # when the oldest answer that was read was given, in seconds since 1970
        self._connection = self._open()

    def __enter__(self) -> RequestCache:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def read(self, keys: Sequence[str]) -> dict[str, RequestResult]:
        """The answers that are there, by key. An entry that cannot be read counts as not there."""
        found: dict[str, RequestResult] = {}
        for start in range(0, len(keys), MAX_SQL_VARIABLES):
            part = keys[start : start + MAX_SQL_VARIABLES]
            query = f"SELECT key, answer, answered FROM answers WHERE key IN ({','.join('?' * len(part))})"
            for key, text, answered in self._with_recovery(partial(self._fetch_all, query, part)) or ():
                with suppress(ValueError, KeyError, TypeError):
                    found[key] = result_from_json(text)
                    if answered is not None:
                        self.oldest_read = min(answered, self.oldest_read or answered)
        return found

    def write(self, results: Iterable[tuple[str, RequestResult]]) -> None:
        """Keep the answers of one batch: all or none. Those that failed are not kept, so that they are asked again."""
        now = time.time()
        rows = [(key, result_to_json(answer), now) for key, answer in results if not answer.failed]

        def insert() -> None:
            with self._connection:
                self._connection.executemany("INSERT OR REPLACE INTO answers VALUES (?, ?, ?)", rows)

        self._with_recovery(insert, retry=True)

    def file_hash(self, path: Path) -> str:
        """SHA-256 of a file, computed once for each size and time of change."""
        status = path.stat()
        known = (str(path.resolve()), status.st_size, status.st_mtime_ns)
        query = "SELECT hash FROM files WHERE path = ? AND size = ? AND changed = ?"
        row = self._with_recovery(lambda: self._connection.execute(query, known).fetchone())
        if row:
            return str(row[0])
        with path.open("rb") as file:
            digest = _digest(file)

        def insert() -> None:
            with self._connection:
                self._connection.execute("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?)", (*known, digest))

        self._with_recovery(insert, retry=True)
        return digest

    def _fetch_all(self, query: str, values: Sequence[str]) -> list[tuple[str, str, float | None]]:
        return self._connection.execute(query, values).fetchall()

    def _open(self) -> sqlite3.Connection:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            return self._connect()
        except sqlite3.OperationalError as error:
            raise UserError(f"{self.path}: the cache cannot be opened ({error}); choose another with --cache") from None
        except OSError as error:
            raise UserError(f"{self.path}: cannot be written ({error.strerror}); choose another --cache") from None
        except sqlite3.DatabaseError as error:
            return self._rebuild(error)

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=60)
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")
            for table in TABLES:
                connection.execute(table)
            with suppress(sqlite3.OperationalError):  # it is there, but in a cache of an earlier version
                connection.execute("ALTER TABLE answers ADD COLUMN answered REAL")
            connection.execute("SELECT key, answer FROM answers LIMIT 1").fetchall()
        except sqlite3.DatabaseError:
            connection.close()
            raise
        return connection

    def _rebuild(self, error: Exception) -> sqlite3.Connection:
        """Put the damaged files aside and begin anew."""
        count = len(list(self.path.parent.glob(f"{self.path.name}.damaged-*[0-9]")))
        backup = self.path.with_name(f"{self.path.name}.damaged-{count + 1}")
        for suffix in ("", "-wal", "-shm"):
            with suppress(FileNotFoundError):
                Path(f"{self.path}{suffix}").rename(f"{backup}{suffix}")
        print(f"{self.path}: the cache is damaged ({error}); kept as {backup.name}, a new one begins", file=sys.stderr)
        return self._connect()

    def _with_recovery(self, action: Callable[[], T], retry: bool = False) -> T | None:
        """Do it; where the file turns out to be damaged, begin a new one (and do it there if `again`)."""
        try:
            return action()
        except sqlite3.OperationalError as error:
            if "malformed" not in str(error) and "disk I/O" not in str(error):
                raise UserError(f"{self.path}: the cache cannot be used ({error}); choose another --cache") from None
            damage: Exception = error
        except sqlite3.DatabaseError as error:
            damage = error
        self._connection.close()
        self._connection = self._rebuild(damage)
        return action() if retry else None


def _digest(file: Any) -> str:
    digest = hashlib.sha256()
    while part := file.read(1 << 20):
        digest.update(part)
    return digest.hexdigest()


def folder_hash(model: str, file_hash: Callable[[Path], str]) -> str:
    """The hash of the files of a model's folder that change its answers."""
    folder = Path(resolve_model_path(model))
    files = sorted(one for one in folder.iterdir() if one.suffix in FINGERPRINT_SUFFIXES and one.is_file())
    return hash_values(*((one.name, file_hash(one)) for one in files))


def weights_hash(network: PreTrainedModel, tokenizer: Any) -> str:
    """The hash of a loaded model: its configuration, its tokenizer and every weight."""
    digest = hashlib.sha256(network.config.to_json_string().encode())
    digest.update(json.dumps([sorted(tokenizer.get_vocab().items()), str(tokenizer.chat_template)]).encode())
    for name, value in sorted(network.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def hash_values(*values: Any) -> str:
    """The hash of values that JSON can hold."""
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()
