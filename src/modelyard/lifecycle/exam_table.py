"""An exam that is a table: CSV with a head, or Parquet. A row is a case; what its columns are the workload says."""

from __future__ import annotations

import csv
import datetime
import io
import math
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from modelyard.errors import UserError

TABLES = (".csv", ".parquet")


def read_table(path: Path) -> tuple[list[Mapping[str, Any]], list[int]]:
    """(rows, the line or row each stands in). Values of a CSV file are texts, an empty one is None; those of Parquet
    are JSON values, NaN is None. Raises UserError with the line."""
    return _csv(path) if path.suffix.lower() == ".csv" else _parquet(path)


def _csv(path: Path) -> tuple[list[Mapping[str, Any]], list[int]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as e:
        raise UserError(f"{path} is not UTF-8 text (byte {e.start})") from None
    lines = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows: list[Mapping[str, Any]] = []
    numbers: list[int] = []
    try:
        head = next(lines, [])
        if len(set(head)) != len(head):
            raise UserError(f"{path}:1: two columns have the same name")
        for row in lines:
            if not row:
                continue
            if len(row) != len(head):
                raise UserError(f"{path}:{lines.line_num}: {len(row)} values under {len(head)} columns")
            rows.append({name: value or None for name, value in zip(head, row, strict=True) if name})
            numbers.append(lines.line_num)
    except csv.Error as e:
        raise UserError(f"{path}:{lines.line_num}: {e}") from None
    return rows, numbers


def _parquet(path: Path) -> tuple[list[Mapping[str, Any]], list[int]]:
    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as e:
        raise UserError(f"{path} cannot be read: {str(e).splitlines()[0]}") from None
    rows: list[Mapping[str, Any]] = [{name: _plain(v) for name, v in row.items()} for row in table.to_pylist()]
    return rows, list(range(1, len(rows) + 1))


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, datetime.datetime | datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return value
