"""What was seen and done, so that unchanged work is skipped. A cache: deleting it costs time, never data."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from modelyard.errors import StorageError
from modelyard.ports.records import Source

_SCHEMA = """
CREATE TABLE IF NOT EXISTS seen (path TEXT PRIMARY KEY, size INTEGER, modified INTEGER, inode INTEGER, sha256 TEXT)
  WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS done (step TEXT PRIMARY KEY, key TEXT NOT NULL, result TEXT NOT NULL) WITHOUT ROWID;
"""

Stat = tuple[int, int, int]
"""Size in bytes, modification time in ns, inode."""
IN_DOUBT = -2
"""Stands for the inode of a file whose ingestion was begun and not finished: what tables hold of it is not known."""
UNKNOWN = "?"
"""Stands for the digest of a file that was not ingested before."""


class Journal:
    """Files seen (with stat and digest) and steps done (with the key of their inputs). One process writes at a time:
    the run lock sees to that."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with _translated(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path, timeout=30, isolation_level=None)
            if not self._db.execute("SELECT 1 FROM sqlite_master WHERE name='done'").fetchone():
                self._db.execute("PRAGMA journal_mode=WAL")
                self._db.executescript(_SCHEMA)

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self._db.close()

    def seen(self) -> dict[str, tuple[Stat, str]]:
        """{path: (stat, sha256)}"""
        rows = self._read("SELECT path, size, modified, inode, sha256 FROM seen")
        return {path: ((size, modified, inode), sha256) for path, size, modified, inode, sha256 in rows}

    def see(self, sources: Iterable[tuple[Source, int]], removed: Iterable[str]) -> None:
        """Remember sources (with their inodes) as ingested, and forget the removed. One transaction."""
        with self._write() as db:
            db.executemany("DELETE FROM seen WHERE path = ?", [(path,) for path in removed])
            db.executemany(
                "INSERT OR REPLACE INTO seen VALUES (?, ?, ?, ?, ?)",
                [(s.path, s.size, s.modified_ns, inode, s.sha256) for s, inode in sources],
            )

    def doubt(self, paths: Iterable[str]) -> None:
        """Mark these before they are ingested: should that be interrupted, and the files be put back as they were, or
        go, the next run looks at them all the same. One transaction."""
        mark = "INSERT INTO seen VALUES (?, 0, 0, ?, ?) ON CONFLICT (path) DO UPDATE SET inode = excluded.inode"
        with self._write() as db:
            db.executemany(mark, [(path, IN_DOUBT, UNKNOWN) for path in paths])

    def done(self, step: str, key: str) -> Mapping[str, Any] | None:
        """The result of `step`, when it was last done with inputs of this `key`."""
        rows = self._read("SELECT result FROM done WHERE step = ? AND key = ?", step, key)
        return json.loads(rows[0][0]) if rows else None

    def last(self, step: str) -> Mapping[str, Any] | None:
        """The result of `step` when it was last done, whatever the inputs."""
        rows = self._read("SELECT result FROM done WHERE step = ?", step)
        return json.loads(rows[0][0]) if rows else None

    def finish(self, step: str, key: str, result: Mapping[str, Any]) -> None:
        """Remember that `step` was done."""
        with self._write() as db:
            db.execute("INSERT OR REPLACE INTO done VALUES (?, ?, ?)", (step, key, json.dumps(result)))

    def _read(self, sql: str, *values: str) -> list[Any]:
        with _translated(self._path):
            return self._db.execute(sql, values).fetchall()

    @contextmanager
    def _write(self) -> Iterator[sqlite3.Connection]:
        with _translated(self._path):
            self._db.execute("BEGIN IMMEDIATE")
            with self._db:
                yield self._db


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as e:
        if "full" in str(e):
            raise StorageError(f"the disk is full ({path}): free some space and run again, nothing is lost") from None
        raise StorageError(f"{path} cannot be used now: {e}") from None
    except sqlite3.DatabaseError as e:
        raise StorageError(f"{path} is damaged ({e}): it is a cache, delete it and run again") from None
    except OSError as e:
        raise StorageError(f"{path.parent} cannot be written: {e.strerror}") from None
