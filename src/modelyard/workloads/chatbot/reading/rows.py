"""Pages on their way to Arrow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from modelyard.workloads.chatbot.reading.compose import Composed
from modelyard.workloads.chatbot.schemas import HEADING, PAGES, WORD


@dataclass(slots=True)
class Row:
    """One page. section: headings in force where it starts. paths: those in force from each of its headings on."""

    page: int
    content: Composed = field(default_factory=Composed)
    width: float = 0.0
    height: float = 0.0
    section: str = ""
    paths: list[str] = field(default_factory=list)
    quality: float = 1.0
    reason: str | None = None
    ocr: str | None = None

    def refuse(self, reason: str) -> None:
        """Say why the page cannot be read; nothing of it is kept."""
        self.reason, self.quality, self.content = reason, 0.0, Composed()


def arrow_stream(rows: Sequence[Row], document: str, sha256: str, title: str, period: str) -> bytes:
    """The rows as one Arrow stream of the schema PAGES."""
    count = len(rows)
    columns: list[pa.Array] = [
        pa.array([document] * count, pa.string()),
        pa.array([sha256] * count, pa.string()),
        pa.array([row.page for row in rows], pa.int32()),
        pa.array([row.content.text for row in rows], pa.string()),
        _words(rows),
        pa.array([row.width for row in rows], pa.float32()),
        pa.array([row.height for row in rows], pa.float32()),
        pa.array([title] * count, pa.string()),
        pa.array([period] * count, pa.string()),
        pa.array([row.section for row in rows], pa.string()),
        _headings(rows),
        pa.array([row.quality for row in rows], pa.float32()),
        pa.array([row.reason for row in rows], pa.string()),
        pa.array([row.ocr for row in rows], pa.string()),
    ]
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, PAGES) as writer:
        writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=PAGES))
    return bytes(sink.getvalue())


def _words(rows: Sequence[Row]) -> pa.Array:
    offsets = np.cumsum([0, *(len(row.content.spans) for row in rows)]).astype(np.int32)
    spans = np.array([span for row in rows for span in row.content.spans], np.int32).reshape(-1, 2)
    boxes = np.concatenate([row.content.boxes for row in rows])
    parts = [pa.array(spans[:, 0]), pa.array(spans[:, 1]), *(pa.array(boxes[:, side]) for side in range(4))]
    structs = pa.StructArray.from_arrays(parts, fields=list(WORD))
    return pa.ListArray.from_arrays(pa.array(offsets), structs)


def _headings(rows: Sequence[Row]) -> pa.Array:
    return pa.array(
        [
            [
                {"start": start, "end": end, "level": level, "path": path}
                for (start, end, level), path in zip(row.content.headings, row.paths, strict=True)
            ]
            for row in rows
        ],
        pa.list_(HEADING),
    )
