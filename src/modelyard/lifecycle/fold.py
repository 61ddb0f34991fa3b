"""Closed segments of a record into tables, each row once, however often it is interrupted; then the segments go.

A row of `inference` needs both ends of a request, which may lie in different segments. So a segment stays until it is
in every table *and* all that began in it has ended, and no segment goes before an older one. Which segments a table has
it says itself: the mark of a commit is the number of the last segment, of each epoch of the log.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from modelyard.errors import Damaged
from modelyard.lifecycle.inference import SPECS, Gathered, table_rows
from modelyard.ports.tables import Tables
from modelyard.serving.disk import free, hold
from modelyard.serving.rows import ACCEPTED, FINISHED, kind_and_key
from modelyard.serving.segment import CLOSED, DAMAGED, OPEN, Head, listed, read

BATCH_BYTES = 32 << 20
"""Bytes of segments that go into tables by one commit."""


@dataclass(frozen=True)
class Folded:
    """What a fold did. `waiting` segments have requests that are not finished; `strays` are ends without a beginning,
    which are in the tables already or never were accepted; `lost` bytes and `unreadable` segments are damage, and the
    files are kept aside."""

    rows: Mapping[str, int] = field(default_factory=dict)
    segments: int = 0
    waiting: int = 0
    strays: int = 0
    lost: int = 0
    unreadable: int = 0


@dataclass
class _Piece:
    """A segment while it is folded."""

    path: Path
    head: Head
    size: int
    gathered: Gathered = field(default_factory=Gathered)
    counts: dict[str, int] = field(default_factory=dict)
    """Rows that it has for each table; kept when what was gathered is let go."""
    unfinished: int = 0
    damaged: bool = False


def fold(
    folder: Path,
    tables: Tables,
    said: Callable[[str], None] = lambda step: None,
    committed: Callable[[str, pa.Table], None] = lambda table, rows: None,
) -> Folded:
    """Put the closed segments of the record in `folder` into `tables`, and delete those that are done with.

    `said` is told each step that changed something outside, for tests that interrupt there; `committed` the rows that a
    table just got, each at most once. Raises Busy when another process folds the same record, StorageError, and Damaged
    for rows of a newer version: what was folded before stays.
    """
    lock = hold(folder, "fold.lock")
    try:
        return _Fold(folder, tables, said, committed).run()
    finally:
        os.close(lock)


def _closed(folder: Path) -> list[Path]:
    """The closed segments before the first that is not: marks are of the last number, and must leave none out."""
    first = min((int(path.stem) for path in listed(folder, OPEN)), default=sys.maxsize)
    return [path for path in listed(folder, CLOSED) if int(path.stem) < first]


class _Fold:
    def __init__(
        self,
        folder: Path,
        tables: Tables,
        said: Callable[[str], None],
        committed: Callable[[str, pa.Table], None],
    ) -> None:
        self._folder, self._tables, self._said, self._committed = folder, tables, said, committed
        self._pieces: list[_Piece] = []
        self._began: dict[bytes, tuple[memoryview, _Piece]] = {}
        self._rows = {spec.name: 0 for spec in SPECS}
        self._gone = self._strays = self._lost = self._unreadable = 0

    def run(self) -> Folded:
        paths = _closed(self._folder)
        if not paths:
            return Folded()
        for spec in SPECS:
            self._tables.ensure(spec)
        batch: list[_Piece] = []
        for path in paths:
            try:
                piece = self._read(path)
            except Damaged:
                self._commit(batch)  # what came before it is whole
                raise
            if piece is None:
                continue
            batch.append(piece)
            # What is folded is deleted before the next is: on a full disk the tables need the room.
            if sum(piece.size for piece in batch) >= min(BATCH_BYTES, free(self._folder) // 4):
                self._commit(batch)
                self._clear()
                batch = []
        self._commit(batch)
        self._clear()
        return Folded(self._rows, self._gone, len(self._pieces), self._strays, self._lost, self._unreadable)

    def _read(self, path: Path) -> _Piece | None:
        segment = read(path)
        if segment is None:
            path.rename(path.with_suffix(DAMAGED))
            self._unreadable += 1
            return None
        piece = _Piece(path, segment.head, path.stat().st_size)
        for raw in segment.rows:
            try:
                kind, key = kind_and_key(raw)
            except ValueError as error:
                raise Damaged(f"{path}: {error}") from None
            if kind == ACCEPTED:
                self._began[key] = raw, piece
                piece.unfinished += 1
            elif kind == FINISHED:
                began = self._began.pop(key, None)
                if began is None:
                    self._strays += 1
                    continue
                began[1].unfinished -= 1
                piece.gathered.request(key, began[0], raw)
            else:
                piece.gathered.outcome(key, raw)
        piece.counts = {spec.name: piece.gathered.count(spec.name) for spec in SPECS}
        piece.damaged = segment.lost > 0
        self._lost += segment.lost
        self._pieces.append(piece)
        return piece

    def _commit(self, batch: Sequence[_Piece]) -> None:
        for spec in SPECS:
            new = self._missing(spec.name, batch)
            count = sum(piece.counts[spec.name] for piece in new)
            if count:
                marks: dict[str, int] = {}
                for piece in new:
                    marks[piece.head.epoch] = max(piece.head.number, marks.get(piece.head.epoch, 0))
                rows = table_rows(spec.name, [piece.gathered for piece in new])
                self._tables.append(spec.name, rows, marks)
                self._rows[spec.name] += count
                self._said(f"committed {spec.name}")
                self._committed(spec.name, rows)
        for piece in batch:
            piece.gathered = Gathered()

    def _missing(self, table: str, pieces: Sequence[_Piece]) -> list[_Piece]:
        """The segments that have rows for the table which it has not."""
        there = self._tables.marks(table, {piece.head.epoch for piece in pieces})
        return [p for p in pieces if p.counts[table] and p.head.number > there.get(p.head.epoch, 0)]

    def _clear(self) -> None:
        """Delete what is done with, oldest first."""
        # The tables are asked once more: what they have not got can only be made again with all segments there.
        if any(self._missing(spec.name, self._pieces) for spec in SPECS):
            return
        while self._pieces and not self._pieces[0].unfinished:
            piece = self._pieces.pop(0)
            if piece.damaged:
                piece.path.rename(piece.path.with_suffix(DAMAGED))  # somebody may want to look
            else:
                piece.path.unlink()
            self._said(f"deleted {piece.path.name}")
            self._gone += 1
