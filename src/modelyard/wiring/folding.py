"""The record of what was asked and answered, into the tables it belongs in."""

from __future__ import annotations

import sys
from pathlib import Path

from modelyard.lifecycle.fold import Folded, fold
from modelyard.lifecycle.traces import Tracing
from modelyard.project.load import load
from modelyard.wiring.catalogue import adapter


def fold_record(record: Path, tables: Path, project: Path | None = None, target: str = "test") -> Folded:
    """Put the closed segments of the record in `record` into the Delta tables in `tables`. With `project` a sample of
    the answers also goes to MLflow as traces, as its `serve.traces` says. Raises as `fold` does, and ProjectError."""
    tracing = _tracing(project, target) if project is not None else None
    if tracing is None:
        return fold(record, adapter("tables", "delta")(tables))
    folded = fold(record, adapter("tables", "delta")(tables), committed=tracing)
    if tracing.trouble is not None:
        sys.stderr.write(f"modelyard: answers are not traced: {tracing.trouble}\n")
    return folded


def _tracing(project: Path, target: str) -> Tracing | None:
    loaded = load(project, target)
    fraction = loaded.config.serve.traces
    if not fraction:
        return None
    layout, config = loaded.layout, loaded.config
    where = (layout.mlflow_db, layout.mlflow_artifacts, config.name, config.mlflow.tracking_uri)
    return Tracing(adapter("traces", "mlflow")(*where), fraction)
