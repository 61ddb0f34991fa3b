"""The tables of what was asked and answered: their columns, and rows of the record as rows of them. Pure.

`inference` has exactly the columns of a Databricks AI-Gateway inference table, `inference_detail` what those have no
place for, `outcomes` what later turned out. All three are only added to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from modelyard.ports.tables import TableSpec
from modelyard.serving.rows import decode

_AT = pa.timestamp("us", tz="UTC")

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
    at = _time(began[3])
    columns = [
        pa.array([key.hex() for key in part.keys]),
        at.cast(pa.date32()),
        _texts(began[4]),
        at,
        pa.array(ended[0], pa.int32()),
        pa.array(began[10], pa.float64()),
        pc.cast(pc.round(pa.array(ended[1], pa.float64())), pa.int64()),
        _payloads(part.accepted),
        _payloads(part.finished),
        pa.array(
            [(a[1] + f[1]) or None for a, f in zip(part.accepted, part.finished, strict=True)], pa.list_(pa.string())
        ),
        _release(began, ended),
        _texts(began[8]),
    ]
    return pa.Table.from_arrays(columns, schema=INFERENCE.schema)


def _detail(part: Gathered) -> pa.Table:
    began, ended = _fields(part.accepted, 11), _fields(part.finished, 11)
    at = _time(began[3])
    columns = [
        pa.array([key.hex() for key in part.keys]),
        at.cast(pa.date32()),
        at,
        _texts(began[0]),
        _release(began, ended),
        _texts(began[5]),
        pa.array(began[6], pa.float64()),
        _texts(began[7]),
        _texts(began[2]),
        pa.array(began[9], pa.list_(pa.string())),
        pa.array(ended[0], pa.int32()),
        _texts(ended[2]),
        pa.array(ended[8], pa.bool_()),
        pa.array(ended[9], pa.bool_()),
        pa.array(ended[6], pa.int32()),
        pa.array(ended[1], pa.float64()),
        pa.array(ended[7], pa.float64()),
        _numbers(ended[3], pa.int64()),
        pa.array(ended[4], pa.float64()),
        _numbers(ended[5], pa.float64()),
    ]
    return pa.Table.from_arrays(columns, schema=DETAIL.schema)


def _outcomes(part: Gathered) -> pa.Table:
    said = _fields(part.outcomes, 4)
    columns = [
        pa.array([key.hex() for key in part.about], pa.string()),
        _texts(said[0]),
        _texts(said[1]),
        _time(said[2]),
        _texts(said[3]),
    ]
    return pa.Table.from_arrays(columns, schema=OUTCOMES.schema)


def _release(began: list[list[Any]], ended: list[list[Any]]) -> pa.Array:
    return _texts([answered or chosen for chosen, answered in zip(began[1], ended[10], strict=True)])


def _fields(rows: Sequence[Opened], count: int) -> list[list[Any]]:
    return [list(column) for column in zip(*(row[0] for row in rows), strict=True)] or [[] for _ in range(count)]


def _time(nanoseconds: list[int]) -> pa.Array:
    return pa.array([ns // 1000 for ns in nanoseconds], pa.int64()).cast(_AT)


def _numbers(values: list[dict[str, Any]], kind: pa.DataType) -> pa.Array:
    kept = [list(value.items()) for value in values]
    return pa.array(kept, pa.map_(pa.string(), kind))


def _texts(values: list[str | None]) -> pa.Array:
    try:
        return pa.array(values, pa.string())
    except UnicodeEncodeError:  # half of a surrogate pair, which JSON can hold and a table cannot
        whole = [None if v is None else v.encode("utf-8", "backslashreplace").decode() for v in values]
        return pa.array(whole, pa.string())


def _payloads(rows: Sequence[Opened]) -> pa.Array:
    values = [row[2] for row in rows]
    try:
        return pa.array(values, pa.binary()).cast(pa.string())
    except pa.ArrowInvalid:  # not UTF-8: what is no text is shown by its bytes
        return pa.array([None if v is None else v.decode("utf-8", "backslashreplace") for v in values], pa.string())
