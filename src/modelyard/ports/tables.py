"""The tables port: named tables of Arrow rows with atomic writes. Delta here, Unity Catalog elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import pyarrow as pa

Match = Mapping[str, Sequence[str]]
"""Rows whose (string) column holds one of the values; several columns must all hold."""


@dataclass(frozen=True)
class TableSpec:
    """A table: its schema, whether every change is kept in a feed, and constraints {name: SQL}."""

    name: str
    schema: pa.Schema
    feed: bool = False
    constraints: Mapping[str, str] = field(default_factory=dict)


class Tables(Protocol):
    """Tables of one target. Every write is one atomic commit; a reader never sees half of one."""

    capabilities: frozenset[str]

    def ensure(self, spec: TableSpec) -> None:
        """Create the table where it is not there; add columns that the schema gained (nullable ones) and constraints of
        a new name. Raises RefusedByPolicy where an existing column has another type or may, or may not, be null, and
        ValueError for types that would come back as others."""
        ...

    def names(self) -> Sequence[str]:
        """Tables that exist."""
        ...

    def read(self, name: str, columns: Sequence[str] | None = None, match: Match | None = None) -> pa.Table:
        """Rows as they are now, in no promised order. Raises NotFound."""
        ...

    def scan(
        self, name: str, columns: Sequence[str] | None = None, match: Match | None = None
    ) -> Iterable[pa.RecordBatch]:
        """The same in batches, so that memory stays flat."""
        ...

    def append(self, name: str, rows: pa.Table) -> None:
        """Add rows. Columns that may be null can be left out. Raises NotFound, StorageError, Busy, and ValueError for
        rows that do not fit the schema or break a constraint."""
        ...

    def replace(self, name: str, rows: pa.Table, match: Match) -> None:
        """In one commit: drop the rows that match, add `rows` (which must all match). So doing it again changes
        nothing. Raises as `append` does."""
        ...

    def delete(self, name: str, match: Match) -> None:
        """Drop the rows that match; none matching is no error, and no commit."""
        ...

    def version(self, name: str) -> int:
        """Grows with every commit."""
        ...

    def changes(self, name: str, since: int) -> pa.Table:
        """Rows changed after version `since`, with `_change_type` (insert, delete, update_preimage,
        update_postimage) and `_commit_version`. Raises NotFound for a table without `feed`, NotImplementedError
        without the capability "feed"."""
        ...
