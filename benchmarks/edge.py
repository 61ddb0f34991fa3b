"""What the gateway's edge costs a request: who asks, what they may, and counting it. CPU, one JSON line.

    python benchmarks/edge.py [--requests 20000] [--rounds 9]

An application that answers at once stands for the rest of the gateway; its own cost is the floor that is taken off.
`door` is a token with every limit there is (a SHA-256, two buckets, two budgets, six headers), `plain_door` one without
any. Figures are medians of rounds, in microseconds of CPU a request; `scrape_ms` is one GET /metrics after them.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from pathlib import Path

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from modelyard.adapters.tokens_sqlite import SqliteTokens
from modelyard.clock import SystemClock
from modelyard.gateway.auth import Auth
from modelyard.gateway.keyring import Keyring
from modelyard.gateway.metrics import Metered
from modelyard.lifecycle.tokens import create
from modelyard.ports.tokens import Limits
from modelyard.serving.meter import Meter

ENDLESS = 10**9


async def at_once(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"modelyard-release", b"a" * 64)]})
    await send({"type": "http.response.body", "body": b"{}"})


async def nowhere(message: Message) -> None:
    """What is sent is read by nobody."""


async def nothing() -> Message:
    return {"type": "http.request", "body": b"", "more_body": False}


def scope(secret: str) -> Scope:
    headers = {
        "host": "127.0.0.1:8080",
        "user-agent": "benchmark",
        "accept": "*/*",
        "content-type": "application/json",
        "content-length": "400",
        "authorization": f"Bearer {secret}",
    }
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    return {"type": "http", "method": "POST", "path": "/invocations", "headers": raw}


async def cost(app: ASGIApp, asked: Scope, requests: int) -> float:
    began = time.process_time()
    for _ in range(requests):
        await app(dict(asked), nothing, nowhere)
    return (time.process_time() - began) / requests * 1e6


async def measure(requests: int, rounds: int, folder: Path) -> dict[str, object]:
    tokens, clock, meter = SqliteTokens(folder / "ledger.db"), SystemClock(), Meter()
    limited, _ = create(tokens, clock, "me", limits=Limits(ENDLESS, ENDLESS, ENDLESS, ENDLESS))
    plain, _ = create(tokens, clock, "me")
    ring = Keyring({}, True, lambda: tokens, clock)
    door = Auth(at_once, ring, meter)
    apps = {
        "floor": (at_once, scope(plain)),
        "door": (door, scope(limited)),
        "plain_door": (door, scope(plain)),
        "counting": (Metered(at_once, meter, "site"), scope(plain)),
    }
    found: dict[str, list[float]] = {name: [] for name in apps}
    for _ in range(rounds):
        for name, (app, asked) in apps.items():
            found[name].append(await cost(app, asked, requests))
    began = time.process_time()
    size = len(meter.text())
    scrape = (time.process_time() - began) * 1000
    await ring.stop()
    floor = statistics.median(found.pop("floor"))
    figures = {f"{name}_us": round(statistics.median(values) - floor, 2) for name, values in found.items()}
    return {"benchmark": "edge", **figures, "floor_us": round(floor, 2), "scrape_ms": round(scrape, 2), "bytes": size}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=9)
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="modelyard-edge-") as folder:
        print(json.dumps(asyncio.run(measure(wanted.requests, wanted.rounds, Path(folder)))))


if __name__ == "__main__":
    main()
