"""What ingesting a folder of documents costs, as one line of JSON: `python benchmarks/ingest.py DIR`.

CPU seconds are the figure to trust where a machine is shared. `split` is where this process spent its own; the parser
runs in processes of its own, whose CPU is `workers`. Peak memory is of this process and all its
descendants together, looked at five times a second (of this process alone where there is no /proc). `again` is a second
run over the same folder: nothing is read, embedded or written.
"""

from __future__ import annotations

import json
import os
import re
import resource
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pyarrow as pa

from modelyard.adapters.embed_minilm import MiniLM, packaged
from modelyard.adapters.engine_local import LocalEngine
from modelyard.adapters.tables_delta import DeltaTables
from modelyard.clock import SystemClock
from modelyard.ids import digest_file
from modelyard.ports.engine import Stage
from modelyard.ports.progress import Silent
from modelyard.ports.records import Changes, Source
from modelyard.ports.workload import Context
from modelyard.workloads import workload
from modelyard.workloads.chatbot.parse import read_documents

SETTINGS: dict[str, Any] = {
    "embedder": "minilm",
    "index": "segments",
    "chat": None,
    "limits": {"max_file": 200_000_000, "seconds": 60.0, "memory": 1_000_000_000, "pages": 5_000},
}


class Meter:
    """CPU seconds of this process and wall seconds, by what they were spent on."""

    def __init__(self) -> None:
        self.cpu: Counter[str] = Counter()
        self.wall: Counter[str] = Counter()

    @contextmanager
    def on(self, what: str) -> Iterator[None]:
        cpu, wall = time.process_time(), time.perf_counter()
        try:
            yield
        finally:
            self.cpu[what] += time.process_time() - cpu  # type: ignore[assignment]
            self.wall[what] += time.perf_counter() - wall  # type: ignore[assignment]


class Metered:
    """The ports, each metered."""

    def __init__(self, folder: Path, meter: Meter) -> None:
        self.meter = meter
        self._engine, self._embedder = LocalEngine(), MiniLM(packaged())
        self._tables = DeltaTables(folder)
        self.engine, self.tables = self, MeteredTables(self._tables, meter)

    def run(self, stage: Stage, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        what = "parse" if getattr(stage, "func", stage) is read_documents else "chunk"
        found = self._engine.run(stage, batches)
        while True:
            with self.meter.on(what):
                batch = next(iter(found), None)
            if batch is None:
                return
            yield batch

    def close(self) -> None:
        self._engine.close()

    def embedder(self, folder: Path | None = None) -> Any:
        return MeteredEmbedder(self._embedder, self.meter)


class MeteredTables:
    def __init__(self, inner: DeltaTables, meter: Meter) -> None:
        self._inner, self._meter = inner, meter

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if name not in ("append", "replace", "delete", "read", "ensure"):
            return found

        def metered(*args: Any, **more: Any) -> Any:
            with self._meter.on("write" if name != "read" else "look up"):
                return found(*args, **more)

        return metered


class MeteredEmbedder:
    def __init__(self, inner: MiniLM, meter: Meter) -> None:
        self._inner, self._meter = inner, meter

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def embed(self, *args: Any, **more: Any) -> Any:
        with self._meter.on("embed"):
            return self._inner.embed(*args, **more)


class Peak(threading.Thread):
    """The most memory, in MB, that this process and its descendants were seen to have together."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._over = threading.Event()
        self.megabytes = 0.0

    def run(self) -> None:
        while not self._over.wait(0.2):
            self.megabytes = max(self.megabytes, sum(map(_resident, _family())))

    def stop(self) -> float:
        self._over.set()
        self.join()
        unit = 1e6 if sys.platform == "darwin" else 1e3
        return self.megabytes or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def _family() -> list[int]:
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
    found = [os.getpid()]
    for pid in found:
        found += [child for child, parent in parents.items() if parent == pid]
    return found if parents else []


def _resident(pid: int) -> float:
    """The proportional set size: pages that processes share are counted once."""
    with suppress(OSError, TypeError):
        found = re.search(r"^Pss:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.M)
        return int(found[1]) * 1024 / 1e6  # type: ignore[index]
    return 0.0


def changes(folder: Path) -> Changes:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    sources = []
    for path in files:
        found = path.stat()
        name = path.relative_to(folder).as_posix()
        sources.append(Source(name, digest_file(path), found.st_size, found.st_mtime_ns))
    return Changes(tuple(sources), ())


def cpu() -> tuple[float, float]:
    """CPU seconds of this process, and of children that have ended."""
    ours, theirs = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return ours.ru_utime + ours.ru_stime, theirs.ru_utime + theirs.ru_stime


def measured(ctx: Context, folder: Path) -> dict[str, float]:
    found = changes(folder)
    before, wall = cpu(), time.perf_counter()
    workload("chatbot").ingest(ctx, found)
    took = time.perf_counter() - wall
    # What workers used is known when they have ended.
    ctx.ports.close()  # type: ignore[attr-defined]
    after = cpu()
    ours, theirs = after[0] - before[0], after[1] - before[1]
    return {
        "cpu_s": round(ours + theirs, 2),
        "workers": round(theirs, 2),
        "wall_s": round(took, 2),
    }


def main(folder: Path) -> None:
    with tempfile.TemporaryDirectory() as store:
        meter, peak = Meter(), Peak()
        peak.start()
        ports: Any = Metered(Path(store), meter)
        ctx = Context(SETTINGS, ports, SystemClock(), Silent(), sources=folder)
        first = measured(ctx, folder)
        split = {what: round(seconds, 2) for what, seconds in sorted(meter.cpu.items())}
        walls = {what: round(seconds, 2) for what, seconds in sorted(meter.wall.items())}
        again = measured(ctx, folder)
        rows = workload("chatbot").corpus_status(ctx)  # type: ignore[attr-defined]
        megabytes = peak.stop()
        stored = sum(path.stat().st_size for path in Path(store).rglob("*") if path.is_file())
    ready = [row for row in rows if row["state"] == "ready"]
    chunks = sum(row["chunks"] for row in ready)
    print(
        json.dumps(
            {
                "benchmark": "ingest",
                "documents": len(ready),
                "quarantined": len(rows) - len(ready),
                "pages": sum(row["pages"] for row in ready),
                "chunks": chunks,
                **first,
                "split": split,
                "wall_split": walls,
                "peak_mb": round(megabytes),
                "stored_mb": round(stored / 1e6, 1),
                "again": again,
            }
        )
    )


if __name__ == "__main__":
    if len(sys.argv) != 2 or not Path(sys.argv[1]).is_dir():
        sys.exit("usage: python benchmarks/ingest.py DIR")
    main(Path(sys.argv[1]))
