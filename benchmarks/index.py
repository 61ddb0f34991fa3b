"""What the default index costs, one line of JSON for each size.

    python benchmarks/index.py [ROWS ...] [--vectors random|topics|FILE.npy] [--dense]

Sizes are 20,000 and 200,000 rows where none are given; 1,000,000 take some six minutes. Each is measured in a process
of its own. Vectors of 384 dimensions: `random` ones (the worst case for whatever is approximate), `topics` (4,000
Gaussian clouds in which few directions carry most), or like those in FILE.npy (float32 [n, 384], embeddings of real
text): mixtures of two of them, with noise. Rows are made up as they are asked for, so that memory is the index's.
Text of Zipf's law, 150 words a chunk; `--dense` gives a row no text, where only vectors are looked at.

`*_ms` are [median, 99th percentile] of wall time, and the median of CPU, over 100 questions; `query` is a question
embedded, both searches for 40, and what `modelyard search` does with them. `recall_at_10` is the share of the ten
nearest by float32 over all rows that is found, `of_packed` that of the ten nearest by the packed vectors alone.
`plain_ms` is a float32 matrix product by numpy of 20,000 such rows. `change` is a snapshot in which one row in a
hundred is another, against a full build.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from modelyard.adapters.embed_minilm import MiniLM, packaged
from modelyard.adapters.index_segments import SegmentIndex
from modelyard.ports.index import ROWS, Where
from modelyard.workloads.chatbot.chain import Chatbot

DIMENSION, BLOCK, QUESTIONS = 384, 1000, 100
WORDS = np.array([f"word{i}" for i in range(30_000)])


class Rows:
    """Chunks by number, made up a thousand at a time. `spent` is the CPU this took, which is not the index's."""

    def __init__(self, count: int, kind: str, dense: bool) -> None:
        self.ids = [f"{i:08d}" for i in range(count)]
        self.kind, self.dense, self.spent = kind, dense, 0.0
        if kind == "topics":
            rng = np.random.default_rng(7)
            self.scale = (1.0 / np.sqrt(1.0 + np.arange(DIMENSION))).astype(np.float32)
            self.like = rng.standard_normal((4_000, DIMENSION), dtype=np.float32) * self.scale
        elif kind != "random":
            self.like = np.load(kind).astype(np.float32)

    def vectors(self, block: int) -> np.ndarray:
        """Rows block * 1000 and following [1000, 384], always the same."""
        rng = np.random.default_rng([block, 1])
        made = rng.standard_normal((BLOCK, DIMENSION), dtype=np.float32)
        if self.kind == "topics":
            made = self.like[rng.integers(len(self.like), size=BLOCK)] + 0.6 * self.scale * made
        elif self.kind != "random":
            one, two = (self.like[rng.integers(len(self.like), size=BLOCK)] for _ in range(2))
            share = rng.uniform(0.5, 1.0, (BLOCK, 1)).astype(np.float32)
            made = share * one + (1 - share) * two + np.float32(0.015) * made
        return made / np.linalg.norm(made, axis=1, keepdims=True)

    def questions(self) -> np.ndarray:
        """Vectors [100, 384] such as rows have, and of no row."""
        return self.vectors(1 << 40)[:QUESTIONS]

    def fetch(self, asked: Sequence[str]) -> Iterator[pa.RecordBatch]:
        numbers = np.sort(np.array([int(chunk) for chunk in asked]))
        for block in np.unique(numbers // BLOCK).tolist():
            before = time.process_time()
            batch = self.batch(block, numbers[(numbers // BLOCK) == block])
            self.spent += time.process_time() - before
            yield batch

    def batch(self, block: int, rows: np.ndarray) -> pa.RecordBatch:
        count = len(rows)
        words = np.minimum(np.random.default_rng(block).zipf(1.25, (BLOCK, 150)), len(WORDS))[rows % BLOCK] - 1
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
            "text": [""] * count if self.dense else [" ".join(WORDS[line]) for line in words],
            "embedding": pa.ListArray.from_arrays(ends, self.vectors(block)[rows % BLOCK].ravel()),
        }
        arrays = [pa.array(columns[field.name]).cast(field.type) for field in ROWS]
        return pa.RecordBatch.from_arrays(arrays, schema=ROWS)


def timed(act: Callable[[], Any]) -> float:
    """CPU seconds of one call."""
    before = time.process_time()
    act()
    return time.process_time() - before


def over(asked: Sequence[Any], act: Callable[[Any], Any]) -> dict[str, Any]:
    """Milliseconds over all of `asked`, after three that do not count."""
    wall, cpu = [], []
    for i, one in enumerate([*asked[:3], *asked]):
        start, spent = time.perf_counter(), time.process_time()
        act(one)
        if i >= 3:
            wall.append(time.perf_counter() - start)
            cpu.append(time.process_time() - spent)
    p50, p99 = np.percentile(wall, [50, 99]) * 1e3
    return {"wall": [round(float(p50), 2), round(float(p99), 2)], "cpu": round(float(np.median(cpu)) * 1e3, 2)}


def texts(fewest: int, words: int, most: int) -> list[str]:
    """100 questions of so many words, each of rank `fewest` to `most` in the text."""
    rng = np.random.default_rng(5)
    return [" ".join(WORDS[rng.integers(fewest, most, words)]) for _ in range(QUESTIONS)]


def memory() -> dict[str, int]:
    """Megabytes: of this process's own now (Linux), and the most it ever had with what is mapped."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // (1024 if sys.platform != "darwin" else 1024 * 1024)
    try:
        own = Path("/proc/self/status").read_text().split("RssAnon:")[1].split()[0]
    except (OSError, IndexError):
        return {"peak": peak}
    return {"own": int(own) // 1024, "peak": peak}


def measure(count: int, kind: str, dense: bool, root: Path) -> dict[str, Any]:
    """All figures of an index of `count` rows."""
    rows, index = Rows(count, kind, dense), SegmentIndex(root)
    part, start = count // 100, time.perf_counter()
    build = timed(lambda: index.write("first", rows.ids[: count - part], rows.fetch)) - rows.spent
    wall = time.perf_counter() - start - rows.spent
    figures: dict[str, Any] = {"rows": count - part, "build": {"cpu_s": round(build, 1), "wall_s": round(wall, 1)}}
    figures["build"] |= {"memory_mb": memory(), "bytes_per_row": round(size(root) / (count - part))}
    full, rows.spent = size(root), 0.0
    change = timed(lambda: index.write("second", rows.ids[part:], rows.fetch)) - rows.spent
    figures["change"] = {
        "cpu_s": round(change, 3),
        "cpu_of_full": round(change / build, 4),
        "bytes_of_full": round((size(root) - full) / full, 4),
    }
    figures["open_ms"] = round(timed(lambda: index.open("second")) * 1e3, 1)
    return figures | searches(rows, index, part)


def searches(rows: Rows, index: SegmentIndex, first: int) -> dict[str, Any]:
    searcher, asked = index.open("second"), rows.questions()
    few = Where(frozenset({"00003.pdf", "00007.pdf"}))
    half = Where(frozenset(f"{n:05d}.pdf" for n in range(0, len(rows.ids) // 500, 2)))
    plain = np.concatenate([rows.vectors(block) for block in range(20)])
    found = {
        "plain_ms": over(asked, lambda vector: plain @ vector),
        "dense_ms": over(asked, lambda vector: searcher.dense(vector, 10)),
        "dense_few_documents_ms": over(asked, lambda vector: searcher.dense(vector, 10, few)),
        "dense_half_the_documents_ms": over(asked, lambda vector: searcher.dense(vector, 10, half)),
        **recall(rows, index, first),
    }
    if rows.dense:
        return found | {"memory_mb": memory()}
    found["lexical_ms"] = {
        "8 of the 100 most frequent words": over(texts(0, 8, 100), lambda text: searcher.lexical(text, 10)),
        "the 4 most frequent words": over(["word0 word1 word2 word3"] * 20, lambda text: searcher.lexical(text, 10)),
        "8 words of any rank": over(texts(0, 8, 20_000), lambda text: searcher.lexical(text, 10)),
        "10,000 words": over([" ".join(texts(0, 100, 30_000))] * 5, lambda text: searcher.lexical(text, 10)),
    }
    embedder = MiniLM(packaged())
    chatbot = Chatbot(searcher, embedder, None, {}, "")
    mixed = [
        f"What did {a} say of the {b} in its annual report of 2023, and by how much did it change?"
        for a, b in zip(texts(20, 3, 500), texts(500, 3, 20_000), strict=True)
    ]
    found["embedding_ms"] = over(mixed, lambda text: embedder.embed([text]))
    found["query_ms"] = over(mixed, lambda text: chatbot.search(text, 10))
    return found | {"memory_mb": memory()}


def recall(rows: Rows, index: SegmentIndex, first: int) -> dict[str, Any]:
    """Share of the ten nearest by float32, and by packed vectors, that a search finds."""
    asked = rows.questions()
    best = np.full((QUESTIONS, 10), -2.0, np.float32), np.zeros((QUESTIONS, 10), np.int64)
    for block in range(first // BLOCK, len(rows.ids) // BLOCK):
        scores = asked @ rows.vectors(block).T
        numbers = np.arange(block * BLOCK, (block + 1) * BLOCK)
        scores[:, numbers < first] = -2.0
        every = np.concatenate([best[0], scores], axis=1)
        names = np.concatenate([best[1], np.broadcast_to(numbers, scores.shape)], axis=1)
        at = np.argpartition(-every, 10)[:, :10]
        best = np.take_along_axis(every, at, 1), np.take_along_axis(names, at, 1)
    exact = SegmentIndex(index._root, exact_up_to=1 << 60).open("second")
    searcher, kept, packed = index.open("second"), 0, 0
    for vector, right in zip(asked, best[1], strict=True):
        found = {int(hit.passage.chunk_id) for hit in searcher.dense(vector, 10)}
        kept += len(found & set(right.tolist()))
        packed += len(found & {int(hit.passage.chunk_id) for hit in exact.dense(vector, 10)})
    return {"recall_at_10": kept / (10 * QUESTIONS), "recall_at_10_of_packed": packed / (10 * QUESTIONS)}


def size(root: Path) -> int:
    """Bytes of all files under `root`."""
    return sum(path.stat().st_size for path in root.rglob("*") if path.is_file())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", type=lambda text: int(text.replace(",", "")))
    parser.add_argument("--vectors", default="random")
    parser.add_argument("--dense", action="store_true")
    given = parser.parse_args()
    if len(given.rows) == 1:
        with tempfile.TemporaryDirectory() as folder:
            figures = measure(given.rows[0], given.vectors, given.dense, Path(folder) / "store")
        print(json.dumps({"benchmark": "index", "vectors": Path(given.vectors).name, **figures}))
        return
    more = ["--vectors", given.vectors, *(["--dense"] if given.dense else [])]
    for count in given.rows or [20_000, 200_000]:
        subprocess.run([sys.executable, __file__, str(count), *more], check=True)


if __name__ == "__main__":
    main()
