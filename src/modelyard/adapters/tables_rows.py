"""What all tables adapters agree on: which types a table keeps, how rows are fitted to it, which rows a match means."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from modelyard.errors import RefusedByPolicy
from modelyard.ports.tables import Match, TableSpec

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_KEPT = {
    pa.string(),
    pa.binary(),
    pa.bool_(),
    pa.int8(),
    pa.int16(),
    pa.int32(),
    pa.int64(),
    pa.float32(),
    pa.float64(),
    pa.date32(),
    pa.timestamp("us"),
    pa.timestamp("us", tz="UTC"),
}


def check_spec(spec: TableSpec) -> None:
    """Raises ValueError for a name that is none, and for column types that would come back as others (Delta keeps
    signed integers, float32 and float64, string, binary, bool, date32, decimal128, microsecond timestamps with or
    without UTC, and lists, structs and maps of these)."""
    check_name(spec.name)
    if len(set(spec.schema.names)) != len(spec.schema.names) or not spec.schema.names:
        raise ValueError(f"table {spec.name}: a schema needs columns, each of its own name")
    for column in spec.schema:
        if not _is_kept(column.type):
            raise ValueError(f"table {spec.name}: column {column.name!r} is of type {column.type}, which is not kept")


def check_name(name: str) -> None:
    """Raises ValueError for what cannot name a table: letters, digits and underscores, no digit first."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} cannot name a table: letters, digits and underscores only")


def _is_kept(kind: pa.DataType) -> bool:
    if pa.types.is_list(kind):
        return _is_kept(kind.value_type)
    if pa.types.is_struct(kind):
        return all(_is_kept(kind.field(i).type) for i in range(kind.num_fields))
    if pa.types.is_map(kind):
        return _is_kept(kind.key_type) and _is_kept(kind.item_type)
    return kind in _KEPT or pa.types.is_decimal128(kind)


def fit(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """`rows` with exactly the columns of `schema`: put in order, cast where nothing is lost, nulls for nullable columns
    that are missing. Raises ValueError for columns the table has not, or a null where none may be."""
    strange = [name for name in rows.column_names if name not in schema.names]
    if strange:
        raise ValueError(f"the table has no column {', '.join(map(repr, strange))}")
    columns = []
    for column in schema:
        if column.name in rows.column_names:
            columns.append(rows.column(column.name))
        elif column.nullable:
            columns.append(pa.nulls(rows.num_rows, column.type))
        else:
            raise ValueError(f"the rows lack column {column.name!r}, which may not be null")
    return pa.Table.from_arrays(columns, names=schema.names).cast(schema)


def settle(match: Match, schema: pa.Schema) -> dict[str, list[str]] | None:
    """The match with each value once, in order; None where nothing can match. Raises ValueError for a column that is
    not there or holds no strings."""
    for name in match:
        if name not in schema.names or schema.field(name).type != pa.string():
            raise ValueError(f"rows are matched by string columns; {name!r} is none of this table")
    settled = {name: sorted(set(values)) for name, values in match.items()}
    return settled if all(settled.values()) else None


def matching(rows: pa.Table | pa.RecordBatch, match: Mapping[str, Sequence[str]]) -> pa.Array | pa.ChunkedArray:
    """For every row whether it matches, without nulls: a null never does."""
    mask = pa.repeat(True, rows.num_rows)
    for name, values in match.items():
        column = rows.column(name)
        mask = pc.and_(mask, pc.is_in(column.cast(pa.string()), value_set=pa.array(values, pa.string())))
    return mask


def check_all_match(rows: pa.Table, match: Mapping[str, Sequence[str]] | None) -> None:
    """Raises ValueError where a row of a replacement would not be replaced the next time."""
    if rows.num_rows and (match is None or not pc.all(matching(rows, match)).as_py()):
        raise ValueError("rows that replace others must themselves match")


def check_may_drop(name: str, append_only: bool) -> None:
    """Raises RefusedByPolicy where rows are only ever added."""
    if append_only:
        raise RefusedByPolicy(f"table {name}: rows are only added to it, never replaced or deleted")


def check_columns(columns: Sequence[str] | None, schema: pa.Schema) -> list[str]:
    """The columns to read. Raises ValueError for one that is not there."""
    if columns is None:
        return list(schema.names)
    strange = [name for name in columns if name not in schema.names]
    if strange or not columns:
        raise ValueError(f"the table has no column {', '.join(map(repr, strange)) or 'of no name'}")
    return list(dict.fromkeys(columns))


def additions(name: str, have: pa.Schema, want: pa.Schema) -> tuple[list[pa.Field], str | None]:
    """Columns that `want` has and the table has not, and in one sentence why the table cannot become that, if so."""
    new = []
    for column in want:
        if column.name not in have.names:
            if not column.nullable:
                return [], f"table {name}: the new column {column.name!r} may not be null, and rows exist without it"
            new.append(column)
            continue
        old = have.field(column.name)
        if old.type != column.type:
            return [], f"table {name}: column {column.name!r} is {old.type} and cannot become {column.type}"
        if old.nullable != column.nullable:
            may = {True: "may be null", False: "may not be null"}
            return (
                [],
                f"table {name}: column {column.name!r} {may[old.nullable]} and cannot become: {may[column.nullable]}",
            )
    return new, None
