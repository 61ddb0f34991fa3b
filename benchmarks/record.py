"""What recording costs a request, as one line of JSON: `python benchmarks/record.py [--requests N]`.

A request is an accepted row (of 1 kB) and a finished one (of 400 bytes), each awaited, with a turn of the event loop
between them for the model. `cpu_us` is CPU of the whole process for one request, `harness` what the same clients cost
without a record; wall times are of both rows together. The floor, measured between the others, is a bare `write` and
`fdatasync` of the same bytes, twice a request, with nobody else to share it. `fold_us` is CPU of the process that puts
the rows into Delta tables, for one request, its start included.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from modelyard.serving.log import Durability
from modelyard.serving.record import Accepted, Finished, Record, request_id

REQUEST, RESPONSE = b'{"x": "' + b"a" * 1_000 + b'"}', b'{"y": "' + b"b" * 390 + b'"}'
ROUNDS = 5

Ask = Callable[[], Awaitable[None]]


async def recorded(record: Record) -> None:
    """One request, as the gateway records it."""
    one = request_id()
    await record.accepted(
        Accepted(one, "handbook", "f" * 64, "mlflow", time.time_ns(), unit=one, requester="token-1", request=REQUEST)
    )
    await asyncio.sleep(0)
    await record.finished(
        Finished(one, 200, 1.25, usage={"rows": 1}, signals={"score": 0.5, "words": 12.0}, response=RESPONSE)
    )


async def unrecorded() -> None:
    """The same without a record."""
    await asyncio.sleep(0)


async def drive(ask: Ask, clients: int, requests: int) -> tuple[float, float, list[float]]:
    """CPU and wall seconds, and how long each request took."""
    took: list[float] = []

    async def client() -> None:
        for _ in range(requests // clients):
            began = time.perf_counter()
            await ask()
            took.append(time.perf_counter() - began)

    cpu, wall = time.process_time(), time.perf_counter()
    await asyncio.gather(*(client() for _ in range(clients)))
    return time.process_time() - cpu, time.perf_counter() - wall, took


def measure(folder: Path, durability: Durability, clients: int, requests: int) -> dict[str, float]:
    """One round of one setting."""
    record = Record.open(folder, durability=durability, limit_bytes=8 << 30)
    cpu, wall, took = asyncio.run(drive(lambda: recorded(record), clients, requests))
    commits = record.log.commits
    record.close()
    took.sort()
    return {
        "cpu_us": cpu / len(took) * 1e6,
        "commits_per_s": commits / wall,
        "requests_per_s": len(took) / wall,
        "p50_us": took[len(took) // 2] * 1e6,
        "p99_us": took[int(len(took) * 0.99)] * 1e6,
    }


def floor(folder: Path, requests: int) -> dict[str, float]:
    """A bare write and sync, twice a request."""
    folder.mkdir(parents=True, exist_ok=True)
    file = os.open(folder / "floor", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    took = []
    cpu = time.process_time()
    for _ in range(requests):
        began = time.perf_counter()
        for body in (REQUEST, RESPONSE):
            os.write(file, body)
            os.fdatasync(file)
        took.append(time.perf_counter() - began)
    cpu = time.process_time() - cpu
    os.close(file)
    took.sort()
    return {
        "cpu_us": cpu / requests * 1e6,
        "p50_us": took[requests // 2] * 1e6,
        "p99_us": took[int(requests * 0.99)] * 1e6,
    }


def folded(record: Path, tables: Path) -> tuple[float, int]:
    """CPU seconds of a fold, and how many requests it put into tables."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "modelyard.fold", "--record", str(record), "--tables", str(tables)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return cpu, json.loads(done.stdout)["rows"].get("inference", 0)


def medians(rounds: list[dict[str, float]]) -> dict[str, float]:
    """Of each figure the median of the rounds."""
    return {name: round(statistics.median(one[name] for one in rounds), 1) for name in rounds[0]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=4_000, help="in each of the rounds")
    parser.add_argument("--folder", type=Path, default=None, help="on the disk to measure")
    wanted = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="modelyard-record-", dir=wanted.folder))
    settings: list[tuple[Durability, int]] = [("disk", 1), ("disk", 16), ("process", 1), ("process", 16)]
    rounds: dict[str, list[dict[str, float]]] = {}
    try:
        for _ in range(ROUNDS):
            for durability, clients in settings:
                found = measure(home / "record", durability, clients, wanted.requests)
                rounds.setdefault(f"{durability}_{clients}", []).append(found)
            for clients in (1, 16):
                cpu, _, took = asyncio.run(drive(unrecorded, clients, wanted.requests))
                rounds.setdefault(f"harness_{clients}", []).append({"cpu_us": cpu / len(took) * 1e6})
            rounds.setdefault("floor", []).append(floor(home, wanted.requests // 4))
        out: dict[str, Any] = {name: medians(found) for name, found in rounds.items()}
        out["disk_16_over_floor"] = round(out["disk_16"]["cpu_us"] / out["floor"]["cpu_us"], 2)
        out["disk_1_over_floor"] = round(out["disk_1"]["cpu_us"] / out["floor"]["cpu_us"], 2)
        cpu, count = folded(home / "record", home / "tables")
        out |= {"folded": count, "fold_us": round(cpu / count * 1e6, 1)}
    finally:
        shutil.rmtree(home, ignore_errors=True)
    print(json.dumps(out))


if __name__ == "__main__":
    main()
