"""Traces in MLflow, in the project's experiment; over OTLP too, where OTEL_EXPORTER_OTLP_TRACES_ENDPOINT is set.

Not covered: a trace is written at most once, and none is written again.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

# To both: MLflow 3.17 alone cannot end a span that goes to OTLP only.
os.environ.setdefault("MLFLOW_TRACE_ENABLE_OTLP_DUAL_EXPORT", "true")

# First: it sets MLflow's switches before that is imported.
from modelyard.adapters.registry_mlflow import MlflowRegistry  # isort: skip

import mlflow
from mlflow.entities import SpanType
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from modelyard.errors import AdapterError, Unavailable
from modelyard.ports.traces import Trace

_MILLION = 1_000_000


class MlflowTraces:
    """Traces in the experiment `name` of the tracking store that MlflowRegistry opens by the same arguments. For a
    process of its own: MLflow traces to one tracking URI, which is set."""

    def __init__(self, db: Path, artifacts: Path, name: str, uri: str | None = None) -> None:
        self._registry, self._name = MlflowRegistry(db, artifacts, name, uri), name

    def write(self, traces: Iterable[Trace]) -> int:
        """How many were written. Raises Unavailable where MLflow cannot be reached, AdapterError."""
        count = 0
        self._registry.check()
        try:
            mlflow.set_tracking_uri(self._registry.uri)
            experiment = mlflow.set_experiment(self._name).experiment_id
            for trace in traces:
                self._write(trace, experiment)
                count += 1
        except MlflowException as error:
            if "API request" in str(error) or "Max retries" in str(error):
                raise Unavailable(f"MLflow does not answer: {_line(error)}") from None
            raise AdapterError(f"MLflow took no traces: {_line(error)}") from error
        except (SQLAlchemyError, OSError) as error:
            raise AdapterError(f"MLflow took no traces: {_line(error)}") from error
        return count

    def _write(self, trace: Trace, experiment: str) -> None:
        metadata = {"mlflow.trace.session": trace.unit, "mlflow.trace.user": trace.requester or ""}
        attributes: dict[str, Any] = {"request": trace.request, "status_code": trace.status, **trace.attributes}
        span = mlflow.start_span_no_context(
            "answer",
            span_type=SpanType.CHAIN,
            inputs=trace.inputs,
            attributes=attributes,
            tags={"modelyard.request": trace.request, "modelyard.release": str(trace.attributes.get("release", ""))},
            metadata={name: value for name, value in metadata.items() if value},
            experiment_id=experiment,
            start_time_ns=trace.began_ns,
        )
        if trace.usage:
            read, wrote = trace.usage.get("prompt_tokens", 0), trace.usage.get("completion_tokens", 0)
            used = {"input_tokens": read, "output_tokens": wrote, "total_tokens": read + wrote}
            span.set_attribute("mlflow.chat.tokenUsage", used)
        if trace.error is not None:
            span.set_attribute("error", trace.error)
        span.end(
            outputs=trace.outputs,
            status="OK" if trace.status < 500 else "ERROR",
            end_time_ns=trace.began_ns + int(trace.duration_ms * _MILLION),
        )


def _line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
