"""A steady rate of requests through all that is done to a gateway, and what became of each: one line of JSON a kind.

    python benchmarks/steady.py [--requests 10000] [--rate 100] [--only chat|scores]

`chat` is a workload that answers in pieces (every fourth request a stream, every twentieth a slow one), `scores` a
LightGBM model of 30 features behind the MLflow dialect; two workers a release, the record on disk, conversations of
three requests. While requests go out on time whatever happens: a promote, `kill -9` of each worker in turn, a canary
(with a worker of either arm killed on its way), a rollback. Then `kill -9` of the gateway, the next one at once, and a
graceful stop. What clients saw is then held against the Delta tables and the log. Exit code 1 where a request failed,
is not on record, or is there twice.

Not counted as failed: streams whose first byte was out when their worker was killed (`cut`; each ended with an error
event), and requests that met no gateway, or whose gateway was killed (`unanswered`).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from tabular import FEATURES, free_port, make_model
from traffic import Asked, Message, Traffic, percentile

import modelyard
from modelyard.adapters.tables_delta import DeltaTables
from modelyard.lifecycle.artifact import members, seal, workbench, write_snapshot
from modelyard.ports.records import Decision, Manifest, Pointers, Release, Rollout, Snapshot
from modelyard.project.layout import Layout
from modelyard.serving.assignment import unit_of
from modelyard.serving.log import replay
from modelyard.serving.route import alive
from modelyard.workloads.model.workload import ABOUT, FOLDER, ModelWorkload

PATIENCE = 120.0  # seconds for anything that has to happen, only there so that what goes wrong ends
PROJECT = """
name: town
workload: %s
serve:
  workers: 2
  record: {fold_every: 5s}
rollout:
  steps: [50, 100]
  margins: {errors: 0.3}
  tests:
    {latency: null, feedback: null, score high: null, score low: null, cost: null, groundedness: null, abstained: null}
  min_units: 20
  settle: 300ms
  look_every: 300ms
"""
TALK = """
import time
from modelyard.ports.workload import Delta, Response
from modelyard.workloads.base import BaseWorkload

class Talking:
    def __init__(self, name):
        self.name = name
    def predict(self, request, call):
        words = request["messages"][-1]["content"].split()
        said = []
        for word in [self.name, *words]:
            call.check()
            time.sleep(0.02 if words[0] == "slowly" else 0.001)
            said.append(word + " ")
            yield Delta(said[-1])
        text = "".join(said)
        usage = {"prompt_tokens": len(words), "completion_tokens": len(said)}
        yield Response(text, {"answer": text}, usage)
    def close(self):
        pass

class Talk(BaseWorkload):
    name = "talk"
    accepts = frozenset({"messages"})
    def build(self, ctx, snapshot, out_dir):
        raise NotImplementedError
    def cases(self, ctx, exam):
        return iter(())
    def score(self, case, response):
        raise NotImplementedError
    def load(self, ctx, artifact_dir):
        return Talking((artifact_dir / "name.txt").read_text())
"""


class Site:
    """A project with three releases that the gate has passed, and what serves it."""

    def __init__(self, root: Path, workload: str, fill: Callable[[Path, str], None], version: int) -> None:
        """`fill(folder, name)` puts the release of that name into an empty folder."""
        (root / "modelyard.yml").write_text(PROJECT % workload)
        self.root, self.layout, self.port = root, Layout(root, "test"), free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self._log = (root / "gateway.log").open("ab")
        self.project = modelyard.open(root)
        ledger = self.project.world.ledger
        self.releases = []
        for name in ("one", "two", "three"):
            bench = workbench(self.layout.releases)
            fill(bench, name)
            write_snapshot(bench, Snapshot((), ""))
            manifest = Manifest(workload, version, members(bench), "0" * 64, {"name": name}, ())
            seal(bench, manifest, self.layout.releases, self.layout.objects)
            ledger.add_release(Release(manifest.id, manifest, "passed", "2026-01-01T00:00:00.000Z"))
            ledger.add_decision(Decision("gate", "pass", ("good",), {"evidence": {"release": manifest.id}}))
            self.releases.append(manifest.id)
        ledger.move("town", 0, Pointers(champion=self.releases[0]), "steady", "the first", None)

    def serve(self) -> None:
        """Start a gateway; returns at once."""
        command = [sys.executable, "-m", "modelyard", "serve", "-C", str(self.root), "--port", str(self.port)]
        self.process = subprocess.Popen(command, stdout=self._log, stderr=self._log)

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(90)
        self.project.close()
        self._log.close()

    def workers(self) -> dict[int, str]:
        """Process id and release of each worker."""
        assert self.process is not None
        found = {}
        for path in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                state, parent = (path / "stat").read_text().rpartition(")")[2].split()[:2]
                words = (path / "cmdline").read_bytes().decode().split("\0")
                if int(parent) == self.process.pid and state != "Z" and "modelyard.worker" in words:
                    found[int(path.name)] = Path(words[words.index("--release") + 1]).name
        return found

    async def until(self, what: str, found: Callable[[], Any]) -> Any:
        until = time.monotonic() + PATIENCE
        while not (value := await asyncio.to_thread(found)):
            if time.monotonic() > until or self.process is None or self.process.poll() is not None:
                raise SystemExit(f"waited in vain for {what}; the gateway's log is {self.root / 'gateway.log'}")
            await asyncio.sleep(0.02)
        return value

    async def until_warm(self, *releases: str) -> None:
        """Until the gateway has all workers of these."""

        def warm() -> bool:
            info = alive(self.layout)
            ledger = self.project.world.ledger
            return info is not None and all(ledger.is_warm("town", each, info.gateway_id) for each in releases)

        await self.until("workers", warm)

    async def kill(self, pid: int) -> None:
        """`kill -9` a worker, and wait for the one that takes its place."""
        before = self.workers()
        release, count = before[pid], [*before.values()].count(before[pid])
        os.kill(pid, signal.SIGKILL)

        def there() -> bool:
            now = self.workers()
            return pid not in now and [*now.values()].count(release) >= count

        await self.until("a new worker", there)


def chat(root: Path) -> tuple[Site, Callable[[int], Message]]:
    """Releases that talk, and what to ask them."""
    (root / "talk.py").write_text(TALK)

    def message(number: int) -> Message:
        stream, slow = number % 4 == 0, number % 20 == 0
        words = "slowly " + "word " * 30 if slow else "quickly and at once"
        body = {"model": "town", "messages": [{"role": "user", "content": words}], "stream": stream}
        return Message("/v1/chat/completions", json.dumps(body).encode(), f"c{number // 3}", stream)

    return Site(root, "talk:Talk", lambda folder, name: _write(folder / "name.txt", name), 1), message


def scores(root: Path, model: Path, columns: list[str]) -> tuple[Site, Callable[[int], Message]]:
    """Releases of the LightGBM model in the folder `model`, and rows to score."""

    def fill(folder: Path, name: str) -> None:
        shutil.copytree(model, folder / FOLDER)
        _write(folder / ABOUT, json.dumps({"runtime": "lightgbm", "why": name}))

    def message(number: int) -> Message:
        row = [(number * 7 + i * 13) % 100 / 50 - 1 for i in range(len(columns))]
        body = {"dataframe_split": {"columns": columns, "data": [row]}}
        return Message("/invocations", json.dumps(body).encode(), f"e{number // 3}")

    return Site(root, "model", fill, ModelWorkload.answer_version), message


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


@dataclass
class Story:
    """What is done to a gateway that serves, and what came of it."""

    site: Site
    traffic: Traffic
    requests: int
    took: dict[str, float] = field(default_factory=dict)
    rollback: dict[str, float] = field(default_factory=dict)
    canary: tuple[float, float] = (0.0, 0.0)
    outage: tuple[float, float] = (0.0, 0.0)

    async def tell(self) -> None:
        _, two, three = self.site.releases
        acts: list[tuple[str, Callable[[], Any]]] = [
            ("promote", lambda: self._promote(two)),
            ("kill -9 of each worker", self._kill_each),
            ("canary, a worker of each arm killed", lambda: self._canary(two, three)),
            ("rollback", lambda: self._rollback(three, two)),
            ("kill -9 of each worker again", self._kill_each),
            ("kill -9 of the gateway", self._kill_gateway),
        ]
        for number, (name, act) in enumerate(acts, 1):
            await self.traffic.sent(self.requests * number // (len(acts) + 1))
            began = time.time()
            await act()
            self.took[name] = round(time.time() - began, 1)
        await self.traffic.sent(self.requests)

    async def _promote(self, release: str) -> None:
        await asyncio.to_thread(self.site.project.promote, release)
        await self._answered_by(release)

    async def _kill_each(self) -> None:
        for pid in list(self.site.workers()):
            await self.site.kill(pid)

    async def _canary(self, champion: str, challenger: str) -> None:
        started = await asyncio.to_thread(self.site.project.canary, challenger)
        assert isinstance(started, Rollout)
        began = time.time()
        rollouts = self.site.project.rollouts
        await self.site.until("the first step", lambda: rollouts()[0].stage >= 0)
        workers = self.site.workers()
        for release in (champion, challenger):
            await self.site.kill(next(pid for pid, each in workers.items() if each == release))
        done = await self.site.until("the end of the canary", lambda: not (r := rollouts()[0]).live and r)
        if done.state != "promoted":
            raise SystemExit(f"the canary was {done.state}: {done.reason}")
        self.canary = (began, datetime.fromisoformat(done.stage_since).timestamp())
        await self._answered_by(challenger)

    async def _rollback(self, before: str, after: str) -> None:
        await self.site.until_warm(after)
        called = time.time()
        await asyncio.to_thread(self.site.project.rollback)
        moved = datetime.fromisoformat(self.site.project.history()[0].at).timestamp()
        await self._answered_by(after)
        await self.traffic.quiet()
        last = max(a.began for a in self.traffic.log if a.release == before)
        self.rollback = {
            "moved_to_full_traffic_seconds": round(max(0.0, last - moved), 3),
            "called_to_full_traffic_seconds": round(max(last, moved) - called, 3),
        }

    async def _kill_gateway(self) -> None:
        assert self.site.process is not None
        killed = time.time()
        self.site.process.kill()
        self.site.process.wait()
        self.site.serve()
        pid = self.site.process.pid
        await self.site.until("the next gateway", lambda: (info := alive(self.site.layout)) and info.pid == pid)
        self.outage = (killed, time.time())

    async def _answered_by(self, release: str) -> None:
        """Until whatever is asked from now on gets its answer from this release, for a while."""
        since = time.time()

        def found() -> bool:
            told = [a for a in self.traffic.log if a.began > since and a.release][-10:]
            return len(told) == 10 and {a.release for a in told} == {release}

        await self.site.until("its answers", found)


def judge(story: Story) -> dict[str, Any]:
    """What clients saw beside what is on record."""
    log, layout = story.traffic.log, story.site.layout
    killed, back = story.outage
    # What met no gateway, or whose gateway was killed: of a stream that had begun nothing could tell its client.
    out = {a.number for a in log if a.outcome == "lost" and a.due <= back and a.ended >= killed}
    out |= {a.number for a in log if a.outcome == "silent" and a.began <= killed <= a.ended}
    answered = [a for a in log if a.number not in out]
    failed = [a for a in answered if a.outcome not in ("ok", "cut")]
    tables = DeltaTables(layout.tables)
    rows = {name: tables.read(name).to_pylist() for name in ("inference", "inference_detail")}
    by_id = {row["databricks_request_id"]: row for row in rows["inference"]}
    detail = {row["request_id"]: row for row in rows["inference_detail"]}
    sent = Counter(unit_of("anonymous", a.unit, b"") for a in log)
    # Whatever a unit has on record over what it asked is there twice, by whatever id.
    over = Counter(row["unit"] for row in detail.values()) - sent
    return {
        "requests": len(log),
        "failed": len(failed),
        "unrecorded": sum(not _on_record(a, by_id.get(a.request), detail.get(a.request)) for a in answered),
        "twice": sum(len(found) for found in rows.values()) - len(by_id) - len(detail) + over.total(),
        "left_in_log": sum(1 for _ in replay(layout.record)),
        "streams": sum(a.stream for a in log),
        "cut": sum(a.outcome == "cut" for a in log),
        "unanswered": len(out),
        "rows": len(by_id),
        "aborted": sum(bool(row["aborted"]) for row in detail.values()),
        "run_again": sum((row["attempts"] or 1) > 1 for row in detail.values()),
        "mixed_conversations": _mixed(answered, *story.canary),
        "outage_seconds": round(back - killed, 1),
        "p50_ms": _milliseconds(answered, 0.5),
        "p99_ms": _milliseconds(answered, 0.99),
        **story.rollback,
        "first_failures": [f"{a.outcome} {a.status} {a.said[:200]!r}" for a in failed[:3]],
        "acts_seconds": story.took,
    }


def _on_record(asked: Asked, row: dict[str, Any] | None, detail: dict[str, Any] | None) -> bool:
    """Whether the tables say of a request what its client saw."""
    if row is None or detail is None:
        return False
    if asked.outcome == "cut":
        return bool(detail["truncated"]) and detail["error"] is not None
    body = asked.stream or row["response"].encode() == asked.said
    return bool(row["status_code"] == asked.status and row["served_entity_id"] == asked.release and body)


def _mixed(log: list[Asked], began: float, ended: float) -> int:
    """Conversations of the time of the canary that met more than one release."""
    met: dict[str, set[str]] = {}
    for asked in log:
        if asked.release and began < asked.began and asked.ended < ended:
            met.setdefault(asked.unit, set()).add(asked.release)
    return sum(len(releases) > 1 for releases in met.values())


def _milliseconds(log: list[Asked], share: float) -> float:
    """Of plain answers, from when each was due."""
    return round(percentile([a.ended - a.due for a in log if not a.stream], share) * 1000, 1)


def kept(found: dict[str, Any]) -> bool:
    """Whether all that is promised holds."""
    return not any(found[name] for name in ("failed", "unrecorded", "twice", "left_in_log", "mixed_conversations"))


async def run(site: Site, message: Callable[[int], Message], requests: int, rate: float) -> dict[str, Any]:
    """The story, from the first request to the last row."""
    site.serve()
    await site.until_warm(site.releases[0])
    story = Story(site, Traffic(site.port, rate, message), requests)
    try:
        await story.tell()
    finally:
        await story.traffic.stop()
        await asyncio.to_thread(site.close)
    return judge(story)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=10_000, help="of each kind")
    parser.add_argument("--rate", type=float, default=100, help="requests a second")
    parser.add_argument("--only", choices=["chat", "scores"])
    args = parser.parse_args()
    good = True
    for kind in [args.only] if args.only else ["chat", "scores"]:
        with tempfile.TemporaryDirectory(prefix="modelyard-steady-") as folder:
            root = Path(folder) / "project"
            root.mkdir()
            made = chat(root) if kind == "chat" else scores(root, make_model(Path(folder)), FEATURES)
            found = asyncio.run(run(*made, args.requests, args.rate))
            print(json.dumps({"benchmark": "steady", "kind": kind, "rate": args.rate, **found}), flush=True)
            if not kept(found):
                good = False
                sys.stderr.write((root / "gateway.log").read_text(errors="replace")[-20_000:])
    sys.exit(not good)


if __name__ == "__main__":
    main()
