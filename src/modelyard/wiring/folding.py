"""The record of what was asked and answered, into the tables it belongs in."""

from __future__ import annotations

from pathlib import Path

from modelyard.lifecycle.fold import Folded, fold
from modelyard.wiring.catalogue import adapter


def fold_record(record: Path, tables: Path) -> Folded:
    """Put the closed segments of the record in `record` into the Delta tables in `tables`. Raises as `fold` does."""
    return fold(record, adapter("tables", "delta")(tables))
