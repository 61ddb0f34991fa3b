"""Tables that live as long as the process: for tests, and for a look at data that nobody keeps."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from modelyard.adapters.tables_rows import (
    additions,
    check_all_match,
    check_columns,
    check_may_drop,
    check_spec,
    fit,
    matching,
    settle,
)
from modelyard.errors import NotFound, RefusedByPolicy
from modelyard.ports.tables import Match, TableSpec


@dataclass
class _Held:
    rows: pa.Table
    feed: bool
    version: int = 0
    log: list[tuple[int, str, pa.Table]] = field(default_factory=list)
    append_only: bool = False
    marks: dict[str, int] = field(default_factory=dict)


class MemoryTables:
    """Tables in memory, safe between threads. Constraints are not checked, as they are SQL."""

    capabilities: frozenset[str] = frozenset({"feed"})

    def __init__(self) -> None:
        self._tables: dict[str, _Held] = {}
        self._lock = threading.RLock()

    def ensure(self, spec: TableSpec) -> None:
        check_spec(spec)
        with self._lock:
            held = self._tables.get(spec.name)
            if held is None:
                self._tables[spec.name] = _Held(spec.schema.empty_table(), spec.feed, append_only=spec.append_only)
                return
            new, refusal = additions(spec.name, held.rows.schema, spec.schema)
            if refusal:
                raise RefusedByPolicy(refusal)
            held.feed = held.feed or spec.feed
            for column in new:
                held.rows = held.rows.append_column(column, pa.nulls(held.rows.num_rows, column.type))
            held.version += bool(new)

    def names(self) -> Sequence[str]:
        with self._lock:
            return sorted(self._tables)

    def read(self, name: str, columns: Sequence[str] | None = None, match: Match | None = None) -> pa.Table:
        rows = self._held(name).rows
        wanted = check_columns(columns, rows.schema)
        if match is not None:
            settled = settle(match, rows.schema)
            rows = rows.slice(0, 0) if settled is None else rows.filter(matching(rows, settled))
        return rows.select(wanted)

    def scan(
        self, name: str, columns: Sequence[str] | None = None, match: Match | None = None
    ) -> Iterator[pa.RecordBatch]:
        return iter(self.read(name, columns, match).to_batches())

    def append(self, name: str, rows: pa.Table, once: Mapping[str, int] | None = None) -> None:
        with self._lock:
            marks = self._held(name).marks
            if any(mark <= marks.get(source, -1) for source, mark in (once or {}).items()):
                return
            self._commit(name, None, rows)
            if rows.num_rows:
                marks |= once or {}

    def marks(self, name: str, sources: Iterable[str]) -> Mapping[str, int]:
        marks = self._held(name).marks
        return {source: marks[source] for source in sources if source in marks}

    def replace(self, name: str, rows: pa.Table, match: Match) -> None:
        with self._lock:
            check_may_drop(name, self._held(name).append_only)
            settled = settle(match, self._held(name).rows.schema)
            check_all_match(rows, settled)
            self._commit(name, settled, rows)

    def delete(self, name: str, match: Match) -> None:
        with self._lock:
            held = self._held(name)
            check_may_drop(name, held.append_only)
            self._commit(name, settle(match, held.rows.schema), held.rows.slice(0, 0))

    def version(self, name: str) -> int:
        return self._held(name).version

    def changes(self, name: str, since: int) -> pa.Table:
        with self._lock:
            held = self._held(name)
            if not held.feed:
                raise NotFound(f"table {name} keeps no feed of its changes")
            parts = [
                _marked(fit(rows, held.rows.schema), kind, version)
                for version, kind, rows in held.log
                if version > since
            ]
            return pa.concat_tables([_marked(held.rows.slice(0, 0), "insert", 0), *parts])

    def _held(self, name: str) -> _Held:
        with self._lock:
            if name not in self._tables:
                raise NotFound(f"no table {name!r}")
            return self._tables[name]

    def _commit(self, name: str, drop: dict[str, list[str]] | None, rows: pa.Table) -> None:
        held = self._held(name)
        rows = fit(rows, held.rows.schema)
        gone = matching(held.rows, drop) if drop is not None else pa.repeat(False, held.rows.num_rows)
        dropped = held.rows.filter(gone)
        if not rows.num_rows and not dropped.num_rows:
            return
        held.rows = pa.concat_tables([held.rows.filter(pc.invert(gone)), rows])
        held.version += 1
        if held.feed:
            held.log += [(held.version, kind, part) for kind, part in (("delete", dropped), ("insert", rows)) if part]


def _marked(rows: pa.Table, kind: str, version: int) -> pa.Table:
    count = rows.num_rows
    marks = {
        "_change_type": pa.repeat(kind, count),
        "_commit_version": pa.repeat(pa.scalar(version, pa.int64()), count),
    }
    for label, values in marks.items():
        rows = rows.append_column(pa.field(label, values.type), values)
    return rows
