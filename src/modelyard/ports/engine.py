"""The engine port: who runs a pure function of Arrow batches. Local processes here, Spark's mapInArrow elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

import pyarrow as pa

Stage = Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]
"""A pure function of batches. Picklable: a module-level function, or a functools.partial of one over plain data.
It may not rely on which batches come together, nor on their order across batches."""


class Engine(Protocol):
    """Runs a stage over batches."""

    def run(self, stage: Stage, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Results as they come, in the order of the batches. `batches` is read lazily: memory stays flat. An error
        raised by the stage is raised here with its message; closing the iterator stops the work."""
        ...
