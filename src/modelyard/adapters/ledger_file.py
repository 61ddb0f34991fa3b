"""The SQLite file (WAL) that the ledger and what belongs to it stand in: opened, brought forward, read and written.

Safe between processes and between threads. Standard library only: moving a pointer must not wait for an import.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from modelyard.adapters.ledger_schema import STEPS, statements
from modelyard.clock import Clock, SystemClock
from modelyard.errors import AdapterError, Busy, Damaged, StorageError, UserError


class LedgerFile:
    """A connection to the file `path`, which is made where it is not there.

    Raises UserError for a file that a newer modelyard wrote, StorageError where the file cannot be written, Damaged
    where it is no ledger, Busy where another process keeps it locked for longer than `patience` seconds.
    """

    def __init__(self, path: Path, clock: Clock | None = None, patience: float = 10.0) -> None:
        self._path, self._clock = path, clock or SystemClock()
        self._lock = threading.Lock()
        with self._translated():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._base = sqlite3.connect(path, timeout=patience, isolation_level=None, check_same_thread=False)
            try:
                self._enter_wal(patience)
                self._prepare()
            except BaseException:
                self._base.close()
                raise

    def _enter_wal(self, patience: float) -> None:
        # SQLite does not wait for a lock here, as everywhere else: processes that make the file together collide.
        end = time.monotonic() + patience
        while True:
            try:
                if self._base.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
                    self._base.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() >= end:
                    raise
                time.sleep(0.01)

    def _prepare(self) -> None:
        # FULL: a move that was answered survives a power cut; fullfsync is what that takes on macOS.
        for pragma in ("synchronous = FULL", "fullfsync = ON", "foreign_keys = ON"):
            self._base.execute(f"PRAGMA {pragma}")
        if self._schema() < len(STEPS):
            with _transaction(self._base):
                for step in STEPS[self._schema() :]:  # another process may have been faster
                    for statement in statements(step):
                        self._base.execute(statement)
                self._base.execute(f"PRAGMA user_version = {max(self._schema(), len(STEPS))}")
        if (found := self._schema()) > len(STEPS):
            raise UserError(
                f"{self._path} was written by a newer modelyard (ledger version {found}, this one knows "
                f"{len(STEPS)}): install a newer modelyard"
            )

    def _schema(self) -> int:
        return int(self._base.execute("PRAGMA user_version").fetchone()[0])

    def close(self) -> None:
        with self._lock:
            self._base.close()

    def _rows(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        with self._read() as db:
            return db.execute(sql, values).fetchall()

    @contextmanager
    def _read(self) -> Iterator[sqlite3.Connection]:
        with self._lock, self._translated():
            yield self._base

    @contextmanager
    def _write(self) -> Iterator[sqlite3.Connection]:
        with self._lock, self._translated(), _transaction(self._base):
            yield self._base

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise _translate(error, self._path) from error
        except OSError as error:
            raise StorageError(f"cannot write the ledger {self._path}: {error.strerror or error}") from error
        except UnicodeEncodeError as error:
            raise UserError(f"{error.object!r} is not text: it holds bytes that are not UTF-8") from error


@contextmanager
def _transaction(db: sqlite3.Connection) -> Iterator[None]:
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:  # a full disk may have rolled back already
            db.execute("ROLLBACK")
        raise


def _translate(error: sqlite3.Error, path: Path) -> Exception:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return Busy(f"another process keeps the ledger {path} locked: try again")
    if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
        return StorageError(f"cannot write the ledger {path}: {error} (is the disk full?)")
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
        return StorageError(f"cannot write the ledger {path}: {error}")
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return Damaged(f"{path} is not a ledger, or is damaged: {error}")
    return AdapterError(f"the ledger {path} failed: {error}")
