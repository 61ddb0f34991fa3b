"""What the way from gateway to worker and back costs: CPU of both processes per request, one JSON line.

    python benchmarks/hop.py [--requests 400] [--rounds 15] [--workers 1]

Two jobs: `predict` (a chat request, answered by a workload that echoes) and `invoke` (a scoring body of 30 columns that
travels unparsed, answered with a body). The gateway's side is this process; what stands before the hop (HTTP) and after
it (the model) is not in the figures, the worker's framing around an almost empty model is. The floor is a bare asyncio
unix socket echo, same bytes there and back, in the same run, interleaved round by round; figures are medians of rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

from modelyard.adapters.ledger_sqlite import SqliteLedger
from modelyard.lifecycle.artifact import members, seal, workbench, write_snapshot
from modelyard.ports.records import Manifest, Pointers, Release, Snapshot
from modelyard.project.layout import Layout
from modelyard.serving.exchange import Exchange
from modelyard.serving.pool import Pool
from modelyard.serving.process import Limits, worker_command
from modelyard.serving.supervise import Fleet

BUDGET_MS = 0.3
CONCURRENCY = (1, 16)
QUESTION = "What is the daily allowance for a trip to Berlin that takes more than eight hours?"
ROW = {"columns": [f"feature_{i}" for i in range(30)], "data": [[i / 7 for i in range(30)]]}
BODY = json.dumps({"dataframe_split": ROW}).encode()
REPLY = b'{"predictions": [0.123456789]}'
WORKLOAD = """
from modelyard.ports.workload import Invoked
from modelyard.workloads.echo import Echo, EchoWorkload

class Scores(Echo):
    def invoke(self, body, content_type, call):
        return Invoked(REPLY, "application/json", 1, {})

class Scoring(EchoWorkload):
    def load(self, ctx, artifact_dir):
        return Scores("")
"""
FLOOR = """
import asyncio, sys
class Echo(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport, self.got = transport, 0
    def data_received(self, data):
        self.got += len(data)
        whole, self.got = divmod(self.got, int(sys.argv[2]))
        if whole:
            self.transport.write(b"r" * int(sys.argv[3]) * whole)
async def main():
    server = await asyncio.get_running_loop().create_unix_server(Echo, sys.argv[1])
    await server.serve_forever()
asyncio.run(main())
"""


def cpu_clock(pid: int) -> Callable[[], float]:
    """Seconds of CPU of another process, to the nanosecond on Linux."""
    if sys.platform != "linux":
        sys.exit("the CPU time of another process is read on Linux only")
    clock = (~pid << 3) | 2  # what clock_getcpuclockid(3) gives
    return lambda: time.clock_gettime(clock)


async def rounds(
    ask: Callable[[], Awaitable[None]], clocks: list[Callable[[], float]], count: int, at_once: int
) -> dict[str, float]:
    """Microseconds of CPU per request of each process, `count` requests by `at_once` clients that never pause."""
    todo = iter(range(count))

    async def client() -> None:
        for _ in todo:
            await ask()

    before, begin = [clock() for clock in clocks], time.perf_counter()
    await asyncio.gather(*(client() for _ in range(at_once)))
    wall = time.perf_counter() - begin
    here, *others = ((clock() - b) / count * 1e6 for clock, b in zip(clocks, before, strict=True))
    return {"gateway": here, "worker": sum(others), "wall": wall / count * 1e6}


class _Bare(asyncio.Protocol):
    """The client of the floor: replies come in the order of the requests, and all are of one size."""

    def __init__(self, size: int) -> None:
        self.size, self.got, self.waiting = size, 0, list[asyncio.Future[None]]()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport

    def data_received(self, data: bytes) -> None:
        self.got += len(data)
        while self.got >= self.size:
            self.got -= self.size
            self.waiting.pop(0).set_result(None)


@contextlib.asynccontextmanager
async def floor(folder: Path, request: bytes, reply: int) -> AsyncIterator[tuple[Callable[[], Awaitable[None]], int]]:
    """Asks the bare echo, and its process id."""
    path = folder / f"floor-{reply}"
    process = subprocess.Popen([sys.executable, "-c", FLOOR, str(path), str(len(request)), str(reply)])
    try:
        while not path.exists():
            await asyncio.sleep(0.01)
        loop = asyncio.get_running_loop()
        _, bare = await loop.create_unix_connection(lambda: _Bare(reply), str(path))

        async def ask() -> None:
            done = loop.create_future()
            bare.waiting.append(done)
            bare.transport.write(request)
            await done

        yield ask, process.pid
    finally:
        process.kill()
        process.wait()


@contextlib.asynccontextmanager
async def served(root: Path, workers: int) -> AsyncIterator[tuple[Fleet, Pool]]:
    """A fleet with one release, all its workers ready."""
    layout = Layout(root, "test")
    (root / "modelyard.yml").write_text("name: hop\nworkload: scoring:Scoring\n")
    (root / "scoring.py").write_text(WORKLOAD.replace("REPLY", repr(REPLY)))
    bench = workbench(layout.releases)
    (bench / "prefix.txt").write_text("")
    write_snapshot(bench, Snapshot((), ""))
    manifest = Manifest("scoring:Scoring", 1, members(bench), "0" * 64, {"prefix": ""})
    seal(bench, manifest, layout.releases, layout.objects)
    ledger = SqliteLedger(layout.ledger)
    ledger.add_release(Release(manifest.id, manifest, "passed", "2026-01-01T00:00:00.000Z"))
    ledger.move("hop", 0, Pointers(0, manifest.id), "bench", "a measurement", None)
    limits = Limits(workers=workers)
    command = worker_command(sys.executable, layout.releases, layout.root, layout.target, limits)
    fleet = Fleet("hop", "bench", lambda: SqliteLedger(layout.ledger), command, limits)
    await fleet.start()
    try:
        while (pool := fleet.pool(manifest.id)) is None or len(pool.workers) < workers:
            await asyncio.sleep(0.05)
        yield fleet, pool
    finally:
        await fleet.stop()
        ledger.close()


async def measure(requests: int, count: int, workers: int) -> dict[str, Any]:
    """All jobs, all concurrencies, beside the floor."""
    out: dict[str, Any] = {"benchmark": "hop", "budget_ms": BUDGET_MS, "workers": workers, "cpus": os.cpu_count()}
    messages = {"messages": [{"role": "user", "content": QUESTION}]}
    predict = {"do": "predict", "request": messages, "stream": False, "groups": []}
    jobs: dict[str, tuple[dict[str, Any], bytes, int]] = {
        "predict": (predict, json.dumps({**predict, "key": "k" * 32}).encode(), 2 * len(QUESTION) + 60)
    }
    invoke = {"do": "invoke", "content_type": "application/json", "groups": [], "effects": "live", "payload": BODY}
    jobs["invoke"] = (invoke, BODY + b"h" * 160, len(REPLY) + 80)
    with tempfile.TemporaryDirectory(prefix="hop-", dir="/tmp") as folder:
        async with served(Path(folder), workers) as (fleet, pool):
            for name, (job, request, reply) in jobs.items():

                async def ask(job: dict[str, Any] = job) -> None:
                    with Exchange(fleet, {**job, "key": uuid.uuid4().hex}, 60.0) as exchange:
                        await exchange.result()

                async with floor(Path(folder), request, reply) as (bare, bare_pid):
                    await rounds(ask, [time.process_time], 2 * requests, 16)  # warm
                    for at_once in CONCURRENCY:
                        ours, low = [], []
                        clocks = [time.process_time, *(cpu_clock(worker.pid) for worker in pool.workers)]
                        for _ in range(count):
                            ours.append(await rounds(ask, clocks, requests, at_once))
                            low.append(await rounds(bare, [time.process_time, cpu_clock(bare_pid)], requests, at_once))
                        out[f"{name}_{at_once}"] = shown(ours, low)
    return out


def shown(ours: list[dict[str, float]], low: list[dict[str, float]]) -> dict[str, float]:
    """Medians over rounds, and how many times the floor they are."""

    def cpu(rows: list[dict[str, float]]) -> float:
        return statistics.median(row["gateway"] + row["worker"] for row in rows)

    return {
        "cpu_ms": round(cpu(ours) / 1000, 4),
        "gateway_us": round(statistics.median(r["gateway"] for r in ours), 1),
        "worker_us": round(statistics.median(r["worker"] for r in ours), 1),
        "floor_us": round(cpu(low), 1),
        "times_floor": round(cpu(ours) / cpu(low), 2),
        "requests_per_second": round(1e6 / statistics.median(r["wall"] for r in ours)),
    }


def main() -> None:
    """Print the line; fails where the budget is not kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--workers", type=int, default=1)
    args = parser.parse_args()
    out = asyncio.run(measure(args.requests, args.rounds, args.workers))
    print(json.dumps(out))
    if any(v["cpu_ms"] > BUDGET_MS for v in out.values() if isinstance(v, dict)):
        sys.exit(1)


if __name__ == "__main__":
    main()
