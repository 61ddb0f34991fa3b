"""Pages a CPU second: `python benchmarks/parse.py DIR` reads every document under DIR and prints one JSON line.

`cpu_s` counts everything: the child that parses, its start, and the parent that receives the rows. `plain` is pdfium's
own text of the same PDFs in the same run, without order, tables, boxes or a child: the ratio is what these cost.
"""

from __future__ import annotations

import hashlib
import json
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pypdfium2

from modelyard.workloads.chatbot.chunk import chunk_pages
from modelyard.workloads.chatbot.continued import with_heads
from modelyard.workloads.chatbot.limits import Limits
from modelyard.workloads.chatbot.parse import read_documents, refusal
from modelyard.workloads.chatbot.schemas import SOURCES


def main(folder: Path) -> None:
    limits = Limits()
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    paths = [path for path in paths if refusal(path.name, path.stat().st_size, limits) is None]
    began, wall = _cpu(), time.perf_counter()
    pages = pa.Table.from_batches(read_documents(sources(paths, folder), limits))
    parse_s, wall = _cpu() - began, time.perf_counter() - wall
    began = _cpu()
    chunks = sum(batch.num_rows for batch in chunk_pages(with_heads(pages.to_batches(max_chunksize=64))))
    chunk_s = _cpu() - began
    began = _cpu()
    plain = sum(_plain(path) for path in paths if path.suffix.lower() == ".pdf")
    plain_s = _cpu() - began
    print(
        json.dumps(
            {
                "benchmark": "parse",
                "documents": len(paths),
                "pages": pages.num_rows,
                "bad_rows": pages.num_rows - pc.sum(pages["reason"].is_null()).as_py(),
                "chunks": chunks,
                "parse_cpu_s": round(parse_s, 2),
                "parse_wall_s": round(wall, 2),
                "pages_per_cpu_s": round(pages.num_rows / parse_s, 1),
                "chunk_pages_per_cpu_s": round(pages.num_rows / chunk_s, 1),
                "plain_pages_per_cpu_s": round(plain / plain_s, 1) if plain else None,
                "ratio_to_plain": round(pages.num_rows / parse_s / (plain / plain_s), 2) if plain else None,
                "child_peak_mb": round(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / _KILO, 1),
            }
        )
    )


_KILO = 1_000_000 if sys.platform == "darwin" else 1_000


def sources(paths: list[Path], folder: Path) -> Iterator[pa.RecordBatch]:
    for path in paths:
        content = path.read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        row = {"document": path.relative_to(folder).as_posix(), "sha256": digest, "content": content}
        yield pa.RecordBatch.from_pylist([row], schema=SOURCES)


def _plain(path: Path) -> int:
    document = pypdfium2.PdfDocument(path)
    for page in document:
        text = page.get_textpage()
        text.get_text_range()
        text.close()
        page.close()
    return len(document)


def _cpu() -> float:
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


if __name__ == "__main__":
    if len(sys.argv) != 2 or not Path(sys.argv[1]).is_dir():
        sys.exit("usage: python benchmarks/parse.py DIR")
    main(Path(sys.argv[1]))
