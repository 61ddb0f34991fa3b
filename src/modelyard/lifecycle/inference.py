"""The tables of what was asked and answered: their columns, and rows of the record as rows of them. Pure.

`inference` has exactly the columns of a Databricks AI-Gateway inference table, `inference_detail` what those have no
place for, `outcomes` what later turned out. All three are only added to.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from modelyard.ports.tables import TableSpec
from modelyard.serving.rows import decode

_AT = pa.timestamp("us", tz="UTC")
_ODD = (pa.ArrowException, OverflowError, TypeError, ValueError)

INFERENCE = TableSpec(
    "inference",
    pa.schema(
        [
            pa.field("databricks_request_id", pa.string()),
            pa.field("request_date", pa.date32()),
            pa.field("client_request_id", pa.string()),
            pa.field("request_time", _AT),
            pa.field("status_code", pa.int32()),
            pa.field("sampling_fraction", pa.float64()),
            pa.field("execution_duration_ms", pa.int64()),
            pa.field("request", pa.string()),
            pa.field("response", pa.string()),
            pa.field("logging_error_codes", pa.list_(pa.string())),
            pa.field("served_entity_id", pa.string()),
            pa.field("requester", pa.string()),
        ]
    ),
    feed=True,
    append_only=True,
)
DETAIL = TableSpec(
    "inference_detail",
    pa.schema(
        [
            pa.field("request_id", pa.string()),
            pa.field("request_date", pa.date32()),
            pa.field("request_time", _AT),
            pa.field("endpoint", pa.string()),
            pa.field("release", pa.string()),
            pa.field("arm", pa.string()),
            pa.field("probability", pa.float64()),
            pa.field("unit", pa.string()),
            pa.field("dialect", pa.string()),
            pa.field("groups", pa.list_(pa.string())),
            pa.field("status_code", pa.int32()),
            pa.field("error", pa.string()),
            pa.field("aborted", pa.bool_()),
            pa.field("truncated", pa.bool_()),
            pa.field("attempts", pa.int32()),
            pa.field("duration_ms", pa.float64()),
            pa.field("first_ms", pa.float64()),
            pa.field("usage", pa.map_(pa.string(), pa.int64())),
            pa.field("cost", pa.float64()),
            pa.field("signals", pa.map_(pa.string(), pa.float64())),
        ]
    ),
    feed=True,
    append_only=True,
)
OUTCOMES = TableSpec(
    "outcomes",
    pa.schema(
        [
            pa.field("request_id", pa.string()),
            pa.field("kind", pa.string()),
            pa.field("value", pa.string()),
            pa.field("given_at", _AT),
            pa.field("given_by", pa.string()),
        ]
    ),
    feed=True,
    append_only=True,
)
SPECS = (INFERENCE, DETAIL, OUTCOMES)

Opened = tuple[list[Any], list[str], bytes | None]


@dataclass
class Gathered:
    """Rows of the record that belong together: requests with their ends, and outcomes. Keys are of 16 bytes."""

    keys: list[bytes] = field(default_factory=list)
    accepted: list[Opened] = field(default_factory=list)
    finished: list[Opened] = field(default_factory=list)
    about: list[bytes] = field(default_factory=list)
    outcomes: list[Opened] = field(default_factory=list)

    def request(self, key: bytes, accepted: memoryview, finished: memoryview) -> None:
        """Add a request, as it began and as it ended."""
        self.keys.append(key)
        self.accepted.append(decode(accepted))
        self.finished.append(decode(finished))

    def outcome(self, key: bytes, row: memoryview) -> None:
        """Add an outcome."""
        self.about.append(key)
        self.outcomes.append(decode(row))

    def count(self, table: str) -> int:
        """How many rows it has for a table of that name."""
        return len(self.outcomes) if table == OUTCOMES.name else len(self.keys)


def table_rows(table: str, parts: Sequence[Gathered]) -> pa.Table:
    """What was gathered as rows of the table of that name, in order."""
    make = {INFERENCE.name: _inference, DETAIL.name: _detail, OUTCOMES.name: _outcomes}[table]
    return pa.concat_tables([make(part) for part in parts])


def _inference(part: Gathered) -> pa.Table:
    began, ended = _fields(part.accepted, 11), _fields(part.finished, 11)
    codes = [(a[1] + f[1]) or None for a, f in zip(part.accepted, part.finished, strict=True)]
    columns = [
        [key.hex() for key in part.keys],
        None,
        began[4],
        _microseconds(began[3]),
        ended[0],
        began[10],
        [None if ms is None or not math.isfinite(ms) else round(ms) for ms in ended[1]],
        [row[2] for row in part.accepted],
        [row[2] for row in part.finished],
        codes,
        _release(began, ended),
        began[8],
    ]
    return _table(INFERENCE.schema, columns)


def _detail(part: Gathered) -> pa.Table:
    began, ended = _fields(part.accepted, 11), _fields(part.finished, 11)
    columns = [
        [key.hex() for key in part.keys],
        None,
        _microseconds(began[3]),
        began[0],
        _release(began, ended),
        began[5],
        began[6],
        began[7],
        began[2],
        began[9],
        ended[0],
        ended[2],
        ended[8],
        ended[9],
        ended[6],
        ended[1],
        ended[7],
        [list(counts.items()) for counts in ended[3]],
        ended[4],
        [list(signals.items()) for signals in ended[5]],
    ]
    return _table(DETAIL.schema, columns)


def _outcomes(part: Gathered) -> pa.Table:
    said = _fields(part.outcomes, 4)
    return _table(
        OUTCOMES.schema, [[key.hex() for key in part.about], said[0], said[1], _microseconds(said[2]), said[3]]
    )


def _fields(rows: Sequence[Opened], count: int) -> list[list[Any]]:
    return [list(column) for column in zip(*(row[0] for row in rows), strict=True)] or [[] for _ in range(count)]


def _microseconds(nanoseconds: list[int]) -> list[int]:
    return [ns // 1000 for ns in nanoseconds]


def _release(began: list[list[Any]], ended: list[list[Any]]) -> list[Any]:
    return [answered or chosen for chosen, answered in zip(began[1], ended[10], strict=True)]


def _table(schema: pa.Schema, columns: Sequence[list[Any] | None]) -> pa.Table:
    """The columns in the types of the schema; None is the day of the request."""
    made = {f.name: _column(values, f.type) for f, values in zip(schema, columns, strict=True) if values is not None}
    if "request_date" in schema.names:
        made["request_date"] = made["request_time"].cast(pa.date32())
    return pa.Table.from_arrays([made[name] for name in schema.names], schema=schema)


def _column(values: list[Any], kind: pa.DataType) -> pa.Array:
    """The values as an array. What a column of that type has no form for is null, and text that is no UTF-8 is shown by
    its bytes: no row can keep the others out of the tables."""
    try:
        if kind == pa.string() and any(isinstance(value, bytes) for value in values):
            return pa.array(values, pa.binary()).cast(kind)
        return pa.array(values, kind)
    except _ODD:
        return pa.array([_fitting(value, kind) for value in values], kind)


def _fitting(value: Any, kind: pa.DataType) -> Any:
    """The value, or as much of it as has a form."""
    if kind == pa.string() and isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if kind == pa.string() and isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if pa.types.is_map(kind) and isinstance(value, list):
        pairs = ((_fitting(key, pa.string()), _fitting(item, kind.item_type)) for key, item in value)
        return [(key, item) for key, item in pairs if item is not None]
    if pa.types.is_list(kind) and isinstance(value, list):
        return [_fitting(item, kind.value_type) for item in value]
    try:
        pa.scalar(value, kind)
    except _ODD:
        return None
    return value
