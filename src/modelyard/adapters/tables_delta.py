"""Tables as Delta Lake folders on a local disk, through delta-rs.

Rows are read with its SQL engine, never with a filter of pyarrow's: files that a rewrite has touched carry string_view
columns, which pyarrow cannot compare. Everything that comes out is cast to the table's own schema.
"""

from __future__ import annotations

import json
import os
import random
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import (
    CommitProperties,
    DeltaTable,
    QueryBuilder,
    Schema,
    Transaction,
    WriterProperties,
    write_deltalake,
)
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError

from modelyard.adapters.tables_rows import (
    additions,
    check_all_match,
    check_columns,
    check_may_drop,
    check_name,
    check_spec,
    fit,
    matching,
    settle,
)
from modelyard.clock import Clock, SystemClock
from modelyard.errors import AdapterError, Busy, Damaged, NotFound, RefusedByPolicy, StorageError
from modelyard.ports.tables import Match, TableSpec

ATTEMPTS = 12
"""How often a commit that lost a race is made again."""
IN_SQL = 1_000
"""Values of one column that go into a statement. The SQL engine recurses over them: some 25,000 overflow its stack."""
FILE_BYTES = 64 << 20
"""Size that files are written in and compacted to: replacing one row rewrites its file."""
GROUP_BYTES = 16 << 20
"""Arrow bytes of one row group, the least that is read at once."""
SMALL_FILES = 64
"""Files under half of FILE_BYTES that a table may have before they are put together."""
LOOK_EVERY = 8
"""Commits between two looks at the number of files."""
KEPT_HOURS = 24
"""Files that were replaced are deleted when they are older: no reader and no consumer of the feed may lag further."""

KEPT_MARKS = "interval 30 days"
"""Marks of sources that nobody wrote from for that long are forgotten."""

_FEED = "delta.enableChangeDataFeed"
_ADDED = {"delta.appendOnly": "true", "delta.setTransactionRetentionDuration": KEPT_MARKS}
_CONSTRAINT = "delta.constraints."
# EACCES, EFBIG, ENOSPC, EROFS, EDQUOT on Linux and on macOS.
_DISK = re.compile(r"\(os error (13|27|28|30|69|122)\)|[Pp]ermission denied|No space left")
_T = TypeVar("_T")


def compaction_due(sizes: Sequence[int]) -> bool:
    """Whether files of these sizes (bytes) are worth putting together."""
    return sum(1 for size in sizes if size < FILE_BYTES // 2) >= SMALL_FILES


def group_rows(count: int, size: int) -> int:
    """Rows of one row group for `count` rows that take `size` bytes in memory: so that a group holds GROUP_BYTES."""
    return max(16, min(1 << 20, GROUP_BYTES * count // size)) if size else 1 << 20


class DeltaTables:
    """Tables in folders under `root`. Safe between processes and threads: a commit that loses a race is made again.

    Many small files are put together in passing, and files that were replaced more than a day ago are deleted.
    """

    capabilities: frozenset[str] = frozenset({"feed", "constraints", "durable"})

    def __init__(self, root: Path, clock: Clock | None = None) -> None:
        self._root, self._clock = root, clock or SystemClock()

    def ensure(self, spec: TableSpec) -> None:
        check_spec(spec)
        self._commit(spec.name, lambda: self._ensure(spec))

    def names(self) -> Sequence[str]:
        logs = self._root.glob("*/_delta_log")
        return sorted(log.parent.name for log in logs if DeltaTable.is_deltatable(str(log.parent)))

    def read(self, name: str, columns: Sequence[str] | None = None, match: Match | None = None) -> pa.Table:
        table, schema = self._open(name)
        wanted = check_columns(columns, schema)
        batches = self._batches(name, table, wanted, match)
        return pa.Table.from_batches(batches, schema=_only(schema, wanted))

    def scan(
        self, name: str, columns: Sequence[str] | None = None, match: Match | None = None
    ) -> Iterator[pa.RecordBatch]:
        table, schema = self._open(name)
        return self._batches(name, table, check_columns(columns, schema), match)

    def append(self, name: str, rows: pa.Table, once: Mapping[str, int] | None = None) -> None:
        self._change(name, rows, None, once or {})

    def marks(self, name: str, sources: Iterable[str]) -> Mapping[str, int]:
        return self._marks(self._open(name)[0], sources)

    def replace(self, name: str, rows: pa.Table, match: Match) -> None:
        self._change(name, rows, match)

    def delete(self, name: str, match: Match) -> None:
        self._change(name, None, match)

    def version(self, name: str) -> int:
        return int(self._open(name)[0].version())

    def changes(self, name: str, since: int) -> pa.Table:
        table, schema = self._open(name)
        if table.metadata().configuration.get(_FEED) != "true":
            raise NotFound(f"table {name} keeps no feed of its changes")
        marks = [pa.field("_change_type", pa.string()), pa.field("_commit_version", pa.int64())]
        wanted = pa.schema([*schema, *marks])
        if since >= table.version():
            return wanted.empty_table()
        with self._translated(name):
            feed = pa.table(table.load_cdf(starting_version=max(since, 0) + 1))
        return feed.select(wanted.names).cast(wanted)

    def _open(self, name: str) -> tuple[DeltaTable, pa.Schema]:
        check_name(name)
        with self._translated(name):
            table = DeltaTable(self._root / name)
            return table, _schema(table)

    def _ensure(self, spec: TableSpec) -> None:
        folder = self._root / spec.name
        with self._translated(spec.name):
            if not DeltaTable.is_deltatable(str(folder)):
                properties = ({_FEED: "true"} if spec.feed else {}) | (_ADDED if spec.append_only else {})
                folder.mkdir(parents=True, exist_ok=True)
                DeltaTable.create(folder, schema=spec.schema, mode="ignore", configuration=properties)
            table = DeltaTable(folder)
            new, refusal = additions(spec.name, _schema(table), spec.schema)
            if refusal:
                raise RefusedByPolicy(refusal)
            if new:
                table.alter.add_columns(Schema.from_arrow(pa.schema(new)).fields)
            configuration = table.metadata().configuration
            if spec.feed and configuration.get(_FEED) != "true":
                table.alter.set_table_properties({_FEED: "true"})
            missing = {k: sql for k, sql in spec.constraints.items() if _CONSTRAINT + k not in configuration}
            for label, sql in missing.items():
                table.alter.add_constraint({label: sql})
            if missing and any(_CONSTRAINT + k not in DeltaTable(folder).metadata().configuration for k in missing):
                raise AdapterError(f"table {spec.name}: delta-rs did not keep the constraints {', '.join(missing)}")

    def _batches(
        self, name: str, table: DeltaTable, columns: Sequence[str], match: Match | None
    ) -> Iterator[pa.RecordBatch]:
        schema = _schema(table)
        settled = settle(match or {}, schema)
        if settled is None:
            return
        # Long lists of values are narrowed to their range in SQL and looked up here.
        long = {column: values for column, values in settled.items() if len(values) > IN_SQL}
        fetched = [*columns, *(column for column in long if column not in columns)]
        sql = f"SELECT {', '.join(map(_quoted, fetched))} FROM rows{_where(settled)}"
        wanted = _only(schema, columns)
        with self._translated(name):
            for batch in QueryBuilder().register("rows", table).execute(sql):
                rows = pa.record_batch(batch).cast(_only(schema, fetched))
                if long:
                    rows = rows.filter(matching(rows, long))
                if rows.num_rows:
                    yield rows.select(wanted.names)

    def _change(
        self, name: str, rows: pa.Table | None, match: Match | None, once: Mapping[str, int] | None = None
    ) -> None:
        def attempt() -> None:
            table, schema = self._open(name)
            settled = None if match is None else settle(match, schema)
            new = schema.empty_table() if rows is None else fit(rows, schema)
            if match is not None:
                check_may_drop(name, table.metadata().configuration.get("delta.appendOnly") == "true")
                check_all_match(new, settled)
            if once:
                self._write_once(name, table, new, once)
            else:
                self._write(name, table, new, settled)
            self._tidy(name, table)

        self._commit(name, attempt)

    def _marks(self, table: DeltaTable, sources: Iterable[str]) -> dict[str, int]:
        found = {source: table.transaction_version(source) for source in sources}
        return {source: int(mark) for source, mark in found.items() if mark is not None}

    def _write_once(self, name: str, table: DeltaTable, rows: pa.Table, once: Mapping[str, int]) -> None:
        """Rows and marks in one commit that is on the disk: whoever gave them may forget them then."""
        there = self._marks(table, once)
        if not rows.num_rows or any(mark <= there.get(source, -1) for source, mark in once.items()):
            return
        before = table.version()
        with self._translated(name):
            write_deltalake(
                table,
                rows,
                mode="append",
                target_file_size=FILE_BYTES,
                writer_properties=_properties(rows.num_rows, rows.nbytes),
                commit_properties=CommitProperties(app_transactions=[Transaction(*mark) for mark in once.items()]),
            )
            for version in range(before + 1, table.version() + 1):
                _put_on_disk(self._root / name, version)

    def _write(self, name: str, table: DeltaTable, rows: pa.Table, drop: Mapping[str, list[str]] | None) -> None:
        """One commit, or none where nothing changes. `drop` is None where nothing can match it."""
        if not rows.num_rows and (drop is None or not self._any(name, table, drop)):
            return
        if drop is not None and max(map(len, drop.values()), default=0) > IN_SQL:
            self._merge(name, table, rows, drop)
            return
        properties = _properties(rows.num_rows, rows.nbytes) if rows.num_rows else _table_properties(table)
        with self._translated(name):
            if drop is None:
                write_deltalake(table, rows, mode="append", target_file_size=FILE_BYTES, writer_properties=properties)
                return
            # Overwriting by nothing is how rows are deleted: DeltaTable.delete takes twice the memory, and makes one
            # file of all it touched.
            write_deltalake(
                table,
                rows,
                mode="overwrite",
                predicate=_condition(drop),
                target_file_size=FILE_BYTES,
                writer_properties=properties,
            )

    def _any(self, name: str, table: DeltaTable, match: Mapping[str, list[str]]) -> bool:
        return next(self._batches(name, table, _schema(table).names[:1], match), None) is not None

    def _merge(self, name: str, table: DeltaTable, rows: pa.Table, drop: Mapping[str, list[str]]) -> None:
        """Replace by more values than a statement takes: the combinations that are there become rows of a merge.

        Only those that are there, because delta-rs checks NOT NULL on unmatched rows that the merge does not insert.
        """
        there = pa.Table.from_batches(
            self._batches(name, table, list(drop), drop), schema=_only(_schema(table), list(drop))
        )
        there = there.group_by(list(drop)).aggregate([])
        keys = there.rename_columns([f"__drop_{column}" for column in drop])
        source = pa.concat_tables([_nullable(keys), _nullable(rows)], promote_options="default")
        same = " AND ".join(f"t.{_quoted(column)} = s.{_quoted('__drop_' + column)}" for column in drop)
        is_row = f"s.{_quoted('__drop_' + next(iter(drop)))} IS NULL"
        with self._translated(name):
            merge = table.merge(
                source, same, source_alias="s", target_alias="t", writer_properties=_table_properties(table)
            )
            copied = {column: f"s.{_quoted(column)}" for column in rows.column_names}
            merge.when_matched_delete().when_not_matched_insert(copied, predicate=is_row).execute()

    def _tidy(self, name: str, table: DeltaTable) -> None:
        if table.version() % LOOK_EVERY:
            return
        try:
            with self._translated(name):
                if compaction_due(pa.table(table.get_add_actions(flatten=True)).column("size_bytes").to_pylist()):
                    table.optimize.compact(
                        target_size=FILE_BYTES, max_concurrent_tasks=1, writer_properties=_table_properties(table)
                    )
                    table.create_checkpoint()
                    table.vacuum(retention_hours=KEPT_HOURS, enforce_retention_duration=False, dry_run=False)
        except CommitFailedError:
            pass  # somebody else is writing: there will be another occasion

    def _commit(self, name: str, attempt: Callable[[], _T]) -> _T:
        for number in range(ATTEMPTS):
            if number:
                self._clock.sleep(random.uniform(0.2, 1.0) * min(0.01 * 2**number, 1.0))
            try:
                return attempt()
            except CommitFailedError:
                continue
        raise Busy(f"table {name} is being changed by others all the time: try again")

    @contextmanager
    def _translated(self, name: str) -> Iterator[None]:
        try:
            yield
        except CommitFailedError:
            raise
        except TableNotFoundError as error:
            raise NotFound(f"no table {name!r}") from error
        except Exception as error:
            # delta-rs also raises plain Exception, from streams.
            if isinstance(error, DeltaError | pa.ArrowInvalid | OSError) or type(error) is Exception:
                raise _translate(error, name, self._root) from error
            raise


def _put_on_disk(folder: Path, version: int) -> None:
    """delta-rs leaves what it wrote to the system, which a lost machine takes along."""
    commit = folder / "_delta_log" / f"{version:020d}.json"
    added = [json.loads(line).get("add") for line in commit.read_text(encoding="utf-8").splitlines()]
    files = [folder / unquote(add["path"]) for add in added if add]
    for path in (*files, commit, commit.parent, folder):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _translate(error: Exception, name: str, root: Path) -> Exception:
    text = str(error)
    line = text.strip().splitlines()[0] if text.strip() else type(error).__name__
    if _DISK.search(text) or isinstance(error, OSError):
        return StorageError(f"cannot read or write table {name} in {root}: {line}")
    if "failed validation check" in text or "constraint" in text.lower():
        return ValueError(f"table {name}: rows break a constraint of it: {line}")
    if "Object at location" in text or "Json error" in text:
        return Damaged(f"table {name} in {root} is damaged: {line}")
    return AdapterError(f"table {name}: {line}")


def _schema(table: DeltaTable) -> pa.Schema:
    """The table's schema as Arrow names it: Delta calls the items of a list "element"."""
    return pa.schema([column.with_type(_plain(column.type)) for column in pa.schema(table.schema().to_arrow())])


def _plain(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_list(kind):
        item = kind.value_field
        return pa.list_(item.with_name("item").with_type(_plain(item.type)))
    if pa.types.is_struct(kind):
        return pa.struct([column.with_type(_plain(column.type)) for column in kind])
    return kind


def _nullable(rows: pa.Table) -> pa.Table:
    return rows.cast(pa.schema([column.with_nullable(True) for column in rows.schema]))


def _only(schema: pa.Schema, columns: Sequence[str]) -> pa.Schema:
    return pa.schema([schema.field(column) for column in columns])


def _properties(count: int, size: int) -> WriterProperties:
    return WriterProperties(compression="ZSTD", max_row_group_size=group_rows(count, size))


def _table_properties(table: DeltaTable) -> WriterProperties:
    """For rewriting what is there, by the mean size of its rows: taken as three times what they have on disk."""
    files = pa.table(table.get_add_actions(flatten=True))
    rows, size = (pc.sum(files.column(column)).as_py() or 0 for column in ("num_records", "size_bytes"))
    return _properties(rows, 3 * size)


def _quoted(column: str) -> str:
    return '"' + column.replace('"', '""') + '"'


def _literal(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _condition(match: Mapping[str, list[str]]) -> str:
    """The match as SQL; a column with more than IN_SQL values is only narrowed to their range."""
    parts = []
    for column, values in match.items():
        if len(values) > IN_SQL:
            parts.append(f"{_quoted(column)} >= {_literal(values[0])} AND {_quoted(column)} <= {_literal(values[-1])}")
        else:
            parts.append(f"{_quoted(column)} IN ({', '.join(map(_literal, values))})")
    return " AND ".join(parts) or "true"


def _where(match: Mapping[str, list[str]]) -> str:
    return f" WHERE {_condition(match)}" if match else ""
