"""What was seen and done, so that unchanged work is skipped. A cache: deleting it costs time, never data."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping
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


class Journal:
    """Files seen (with stat and digest) and steps done (with the key of their inputs). One process writes at a time:
    the run lock sees to that."""

    def __init__(self, path: Path) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path, timeout=30, isolation_level=None)
            if not self._db.execute("SELECT 1 FROM sqlite_master WHERE name='done'").fetchone():
                self._db.execute("PRAGMA journal_mode=WAL")
                self._db.executescript(_SCHEMA)
        except sqlite3.DatabaseError as e:
            raise StorageError(f"{path} cannot be used ({e}): it is a cache and may be deleted") from None
        except OSError as e:
            raise StorageError(f"{path.parent} cannot be written: {e.strerror}") from None

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self._db.close()

    def seen(self) -> dict[str, tuple[Stat, str]]:
        """{path: (stat, sha256)}"""
        rows = self._db.execute("SELECT path, size, modified, inode, sha256 FROM seen")
        return {path: ((size, modified, inode), sha256) for path, size, modified, inode, sha256 in rows}

    def see(self, sources: Iterable[tuple[Source, int]], removed: Iterable[str]) -> None:
        """Remember sources (with their inodes) as ingested, and forget the removed. One transaction."""
        self._db.execute("BEGIN IMMEDIATE")
        with self._db:
            self._db.executemany("DELETE FROM seen WHERE path = ?", [(path,) for path in removed])
            self._db.executemany(
                "INSERT OR REPLACE INTO seen VALUES (?, ?, ?, ?, ?)",
                [(s.path, s.size, s.modified_ns, inode, s.sha256) for s, inode in sources],
            )

    def doubt(self, paths: Iterable[str]) -> None:
        """Forget what was known of these before they are ingested: should that be interrupted, and the files be put
        back as they were, the next run looks at them all the same. One transaction."""
        self._db.execute("BEGIN IMMEDIATE")
        with self._db:
            self._db.executemany("INSERT OR REPLACE INTO seen VALUES (?, 0, 0, -1, '')", [(path,) for path in paths])

    def done(self, step: str, key: str) -> Mapping[str, Any] | None:
        """The result of `step`, when it was last done with inputs of this `key`."""
        row = self._db.execute("SELECT result FROM done WHERE step = ? AND key = ?", (step, key)).fetchone()
        return json.loads(row[0]) if row else None

    def last(self, step: str) -> Mapping[str, Any] | None:
        """The result of `step` when it was last done, whatever the inputs."""
        row = self._db.execute("SELECT result FROM done WHERE step = ?", (step,)).fetchone()
        return json.loads(row[0]) if row else None

    def finish(self, step: str, key: str, result: Mapping[str, Any]) -> None:
        """Remember that `step` was done."""
        self._db.execute("INSERT OR REPLACE INTO done VALUES (?, ?, ?)", (step, key, json.dumps(result)))

    def forget(self, step: str) -> None:
        """The next run does `step` again."""
        self._db.execute("DELETE FROM done WHERE step = ?", (step,))
