"""Rows of `inference` under the names of the two other schemas that Databricks has published for them. Pure.

The columns that the newer schema's documentation names are renamed; the others keep their names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from modelyard.errors import NotFound, StorageError
from modelyard.ports.tables import Tables


def legacy(rows: pa.Table, endpoint: str) -> pa.Table:
    """As `auto_capture_config` of Model Serving writes them. `rows` are of the table `inference`."""
    keys = ["endpoint_name", "model_name", "model_version"]
    versions = rows.column("served_entity_id").to_pylist()
    metadata = pa.array(
        [list(zip(keys, (endpoint, endpoint, version), strict=True)) for version in versions],
        pa.map_(pa.string(), pa.string()),
    )
    at = pc.divide(rows.column("request_time").cast(pa.int64()), 1000)
    return pa.table(
        {
            "databricks_request_id": rows.column("databricks_request_id"),
            "client_request_id": rows.column("client_request_id"),
            "date": rows.column("request_date"),
            "timestamp_ms": at,
            "status_code": rows.column("status_code"),
            "sampling_fraction": rows.column("sampling_fraction"),
            "execution_time_ms": rows.column("execution_duration_ms"),
            "request": rows.column("request"),
            "response": rows.column("response"),
            "request_metadata": metadata,
        }
    )


def model_services(rows: pa.Table) -> pa.Table:
    """As Unity AI Gateway writes those of its model services. `rows` are of the table `inference`."""
    names = {
        "databricks_request_id": "invocation_id",
        "request_time": "event_time",
        "execution_duration_ms": "latency_ms",
    }
    return rows.rename_columns([names.get(name, name) for name in rows.column_names])


SCHEMAS: Mapping[str, Callable[[pa.Table, str], pa.Table]] = {
    "ai-gateway": lambda rows, endpoint: rows,
    "legacy": legacy,
    "model-services": lambda rows, endpoint: model_services(rows),
}


def export(tables: Tables, schema: str, endpoint: str, path: Path) -> int:
    """Write the rows of `inference`, as one of SCHEMAS has them, to a Parquet file; how many. Raises NotFound where
    nothing was recorded yet, StorageError."""
    if "inference" not in tables.names():
        raise NotFound("nothing was recorded yet: `modelyard serve` records what it answers")
    rows = SCHEMAS[schema](tables.read("inference"), endpoint)
    new = path.with_name(f".{path.name}.new")
    try:
        pq.write_table(rows, new)
        new.replace(path)
    except OSError as error:
        new.unlink(missing_ok=True)
        raise StorageError(f"{path} cannot be written: {error.strerror or error}") from None
    return int(rows.num_rows)
