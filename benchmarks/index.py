"""What the default index costs, as one line of JSON: `python benchmarks/index.py [ROWS ...]` (20,000 and 200,000).

Random unit vectors of 384 dimensions (the worst case for packing) and text of Zipf's law, 150 words a chunk.
Milliseconds are of CPU, the median of several; `plain_ms` is a float32 matrix product of the same rows by numpy in the
same run, and `ratio` a dense search against it. `change` is a snapshot in which one row in a hundred is another,
against a full build.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from modelyard.adapters.index_segments import SegmentIndex
from modelyard.ports.index import ROWS, Where

DIMENSION = 384
WORDS = np.array([f"word{i}" for i in range(30_000)])
FREQUENT = "word1 word3 word20 word77"
RARE = "word12000 word9000 word5000"


def milliseconds(act: Callable[[], Any], times: int = 11) -> float:
    """CPU of one call: the median of several, after two that do not count."""
    spent = []
    for i in range(times + 2):
        before = time.process_time()
        act()
        if i > 1:
            spent.append(time.process_time() - before)
    return round(float(np.median(spent)) * 1e3, 2)


def timed(act: Callable[[], Any]) -> float:
    """CPU seconds of one call."""
    before = time.process_time()
    act()
    return time.process_time() - before


class Rows:
    """Chunks that can be fetched by id; `spent` is the CPU it took to make them up, which is not the index's."""

    def __init__(self, count: int) -> None:
        self.vectors = np.random.default_rng(0).standard_normal((count, DIMENSION), dtype=np.float32)
        self.vectors /= np.linalg.norm(self.vectors, axis=1, keepdims=True)
        self.ids = [f"{i:08d}" for i in range(count)]
        self.spent = 0.0

    def fetch(self, asked: Sequence[str]) -> Iterator[pa.RecordBatch]:
        for start in range(0, len(asked), 1000):
            before = time.process_time()
            batch = self.batch(np.array([int(chunk) for chunk in asked[start : start + 1000]]))
            self.spent += time.process_time() - before
            yield batch

    def batch(self, rows: np.ndarray) -> pa.RecordBatch:
        count = len(rows)
        words = np.minimum(np.random.default_rng(rows[0]).zipf(1.25, (count, 150)), len(WORDS)) - 1
        ends = pa.array(np.arange(count + 1, dtype=np.int32) * DIMENSION)
        columns = {
            "chunk_id": [self.ids[i] for i in rows],
            "document": [f"{i // 500:05d}.pdf" for i in rows],
            "page": rows % 500 // 5 + 1,
            "start": rows % 5 * 1000,
            "end": rows % 5 * 1000 + 999,
            "kind": ["prose"] * count,
            "title": [f"Report {i // 500}" for i in rows],
            "period": ["FY2023"] * count,
            "section": [f"Item {i // 50 % 10}" for i in rows],
            "header": [f"Report {i // 500} FY2023 Item {i // 50 % 10}" for i in rows],
            "text": [" ".join(WORDS[line]) for line in words],
            "embedding": pa.ListArray.from_arrays(ends, self.vectors[rows].ravel()),
        }
        arrays = [pa.array(columns[field.name]).cast(field.type) for field in ROWS]
        return pa.RecordBatch.from_arrays(arrays, schema=ROWS)


def measure(count: int, root: Path) -> dict[str, Any]:
    """All figures of an index of `count` rows."""
    rows, index = Rows(count), SegmentIndex(root)
    part = count // 100
    build = timed(lambda: index.write("first", rows.ids[: count - part], rows.fetch)) - rows.spent
    full, rows.spent = size(root), 0.0
    change = timed(lambda: index.write("second", rows.ids[part:], rows.fetch)) - rows.spent
    opened = timed(lambda: index.open("second"))
    searcher = index.open("second")
    asked = rows.vectors[count // 2] + 0.05 * rows.vectors[count // 3]
    asked /= np.linalg.norm(asked)
    some = Where(frozenset({"00003.pdf", "00007.pdf"}))
    shown = rows.vectors[part:]
    dense = milliseconds(lambda: searcher.dense(asked, 10))
    figures = {
        "dense_ms": dense,
        "dense_filtered_ms": milliseconds(lambda: searcher.dense(asked, 10, some)),
        "bm25_frequent_ms": milliseconds(lambda: searcher.lexical(FREQUENT, 10)),
        "bm25_rare_ms": milliseconds(lambda: searcher.lexical(RARE, 10)),
        "plain_ms": (plain := milliseconds(lambda: shown @ asked)),
        "ratio": round(dense / plain, 2),
        "recall_at_10": recall(searcher, shown, part),
        "open_ms": round(opened * 1e3, 1),
        "build_s": round(build, 2),
        "bytes_per_row": round(full / (count - part)),
        "change": {
            "cpu_s": round(change, 3),
            "cpu_of_full": round(change / build, 4),
            "bytes_of_full": round((size(root) - full) / full, 4),
        },
    }
    return figures


def recall(searcher: Any, shown: np.ndarray, first: int) -> float:
    """Share of the ten nearest by float32 that a search finds."""
    rng, kept = np.random.default_rng(1), 0
    for _ in range(30):
        asked = rng.standard_normal(DIMENSION, dtype=np.float32)
        asked /= np.linalg.norm(asked)
        nearest = set((np.argpartition(-(shown @ asked), 10)[:10] + first).tolist())
        kept += len(nearest & {int(hit.passage.chunk_id) for hit in searcher.dense(asked, 10)})
    return round(kept / 300, 4)


def size(root: Path) -> int:
    """Bytes of all files under `root`."""
    return sum(path.stat().st_size for path in root.rglob("*") if path.is_file())


def main() -> None:
    counts = [int(text.replace(",", "")) for text in sys.argv[1:]] or [20_000, 200_000]
    figures: dict[str, Any] = {"benchmark": "index"}
    for count in counts:
        with tempfile.TemporaryDirectory() as folder:
            figures[str(count)] = measure(count, Path(folder) / "store")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
