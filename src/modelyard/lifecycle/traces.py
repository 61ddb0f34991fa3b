"""From rows of the inference tables to traces of a sample of the answers. Pure, but for handing them on."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa

from modelyard.errors import ModelyardError
from modelyard.lifecycle.inference import DETAIL, INFERENCE
from modelyard.ports.traces import Trace, Traces

MOST = 500
"""Traces of one batch of rows: of more answers than these a smaller share is traced."""
_SPAN = 1 << 32
_PLAIN = ("release", "arm", "dialect", "attempts", "first_ms", "cost")


def sampled(request: str, fraction: float) -> bool:
    """Whether a request is in the sample. By its id, which is random: whoever asks gets the same answer, and a larger
    fraction holds all of a smaller one.

    >>> sampled("00000000" + "f" * 24, 0.01), sampled("ffffffff" + "0" * 24, 0.99)
    (True, False)
    """
    return int(request[:8], 16) < fraction * _SPAN


class Tracing:
    """Told of each table's new rows as they are committed, it hands a sample on to `traces`. What cannot be handed on
    is given up, and `trouble` says why: tables do not wait for traces."""

    def __init__(self, traces: Traces, fraction: float) -> None:
        self._traces, self._fraction = traces, fraction
        self._bodies: dict[str, Mapping[str, Any]] = {}
        self.written = 0
        self.trouble: str | None = None

    def __call__(self, table: str, rows: pa.Table) -> None:
        """The rows that `table` just got."""
        if table == INFERENCE.name:
            kept = [sampled(request, self._fraction) for request in rows.column("databricks_request_id").to_pylist()]
            chosen = rows.filter(pa.array(kept)).to_pylist()
            chosen.sort(key=lambda row: str(row["databricks_request_id"]))
            self._bodies = {row["databricks_request_id"]: row for row in chosen[:MOST]}
        elif table == DETAIL.name and self._bodies:
            found, self._bodies = list(made(self._bodies, rows)), {}
            try:
                self.written += self._traces.write(found)
            except ModelyardError as error:
                self.trouble = str(error)


def made(bodies: Mapping[str, Mapping[str, Any]], detail: pa.Table) -> Iterator[Trace]:
    """Traces of the requests in `bodies` (rows of `inference` by id) that `detail` has a row for."""
    chosen = detail.filter(pa.array([request in bodies for request in detail.column("request_id").to_pylist()]))
    for row in chosen.to_pylist():
        body = bodies[row["request_id"]]
        signals = {f"signals.{name}": value for name, value in row["signals"] or ()}
        plain = {name: row[name] for name in _PLAIN if row[name] is not None}
        if row["aborted"] or row["truncated"]:
            plain["ended"] = "aborted" if row["aborted"] else "truncated"
        yield Trace(
            row["request_id"],
            row["endpoint"],
            int(row["request_time"].timestamp() * 1_000_000) * 1_000,
            row["duration_ms"] or 0.0,
            row["status_code"],
            row["error"],
            _value(body["request"]),
            _value(body["response"]),
            row["unit"] or "",
            body["requester"],
            dict(row["usage"] or ()),
            {**plain, **signals},
        )


def _value(text: str | None) -> Any:
    if text is None:
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
