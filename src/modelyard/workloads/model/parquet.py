"""Bodies that are a Parquet file. Apart, as Arrow is imported only for a caller who sends one."""

from __future__ import annotations

import json
import math
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from modelyard.errors import RequestError
from modelyard.workloads.model.bodies import Rows

_MOST_VALUES = 5_000_000
"""Values of a file: a small one may unpack to any number of them."""


def read_parquet(body: bytes) -> Rows:
    """The table in a Parquet file; an index that pandas wrote is left out, NaN is missing. Raises RequestError."""
    try:
        file = pq.ParquetFile(pa.BufferReader(body))
        about = file.metadata
        if about.num_rows * about.num_columns > _MOST_VALUES:
            raise RequestError(f"the Parquet file holds more than {_MOST_VALUES:,} values")
        table = file.read()
    except (pa.ArrowException, OSError):
        raise RequestError("the body is no Parquet file that can be read") from None
    index = _index(table.schema)
    names = [name for name in table.column_names if name not in index]
    if len(set(names)) != len(names):
        raise RequestError("the Parquet file has two columns of the same name")
    columns = [[_value(one) for one in table.column(name).to_pylist()] for name in names]
    return Rows(names, [list(row) for row in zip(*columns, strict=True)])


def _index(schema: pa.Schema) -> frozenset[str]:
    """Columns that pandas says are the index."""
    try:
        said = json.loads((schema.metadata or {}).get(b"pandas", b"{}")).get("index_columns", [])
        return frozenset(name for name in said if isinstance(name, str))
    except (ValueError, AttributeError, TypeError):
        return frozenset()


def _value(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value
