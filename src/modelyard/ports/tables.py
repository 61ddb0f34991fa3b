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
    """A table: its schema, whether every change is kept in a feed, constraints {name: SQL}, and whether rows are only
    ever added: then `replace` and `delete` raise RefusedByPolicy."""

    name: str
    schema: pa.Schema
    feed: bool = False
    constraints: Mapping[str, str] = field(default_factory=dict)
    append_only: bool = False


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

    def append(self, name: str, rows: pa.Table, once: Mapping[str, int] | None = None) -> None:
        """Add rows. Columns that may be null can be left out.

        `once` are marks {source: how far it was read}, written in the same commit; where the table has one of them
        already, or a higher one of that source, nothing is written; nor is it without rows. With marks the rows are on
        the disk when this returns. Raises NotFound, StorageError, Busy, and ValueError for rows that do not fit the
        schema or break a constraint.
        """
        ...

    def marks(self, name: str, sources: Iterable[str]) -> Mapping[str, int]:
        """The highest mark of each of these sources that the table has; none of one it never heard of. Raises
        NotFound."""
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
