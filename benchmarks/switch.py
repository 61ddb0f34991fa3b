"""Promote and rollback to traffic, as one line of JSON: `python benchmarks/switch.py [PROJECT] [--rounds N]`.

A gateway serves a project while clients ask without pause. Seconds are from the call of `promote` or `rollback` to the
first answer of the other release, the median of the rounds; `moved_to_traffic` only from the move of the pointer.
`cold_promote` is one promote whose worker had to be started first (null where there is no third release).
`failed` counts requests that got no answer; it has to be 0. Without PROJECT one of the `echo` workload is made.
"""

from __future__ import annotations

import argparse
import http.client
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import modelyard
from modelyard.serving.route import GatewayInfo, alive

CLIENTS = 2
NAMES = ("one", "two", "three")
BODY = json.dumps({"messages": [{"role": "user", "content": "How many days of leave do I get?"}]})


class Traffic:
    """Clients that ask without pause. Remembers when each release answered for the first time since `forget`."""

    def __init__(self, info: GatewayInfo) -> None:
        self._address = info.url.removeprefix("http://")
        self._secret = info.secret
        self.first: dict[str, float] = {}
        self.answered = self.failed = 0
        self._done = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(CLIENTS)]
        for thread in self._threads:
            thread.start()

    def forget(self) -> None:
        self.first = {}

    def wait_for(self, release: str) -> float:
        """When it answered, in seconds of the wall clock."""
        until = time.monotonic() + 60
        while release not in self.first:
            if time.monotonic() > until:
                sys.exit(f"release {release} never answered")
            time.sleep(0.0005)
        return self.first[release]

    def close(self) -> None:
        self._done.set()
        for thread in self._threads:
            thread.join()

    def _ask(self) -> None:
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self._secret}"}
        connection = http.client.HTTPConnection(self._address, timeout=30)
        while not self._done.is_set():
            try:
                connection.request("POST", "/v1/chat/completions", BODY, headers)
                reply = connection.getresponse()
                reply.read()
            except (OSError, http.client.HTTPException):
                self.failed += 1
                connection.close()
                continue
            if reply.status != 200:
                self.failed += 1
                continue
            self.answered += 1
            self.first.setdefault(reply.headers["modelyard-release"], time.time())


def make(root: Path) -> None:
    """A project with three releases: the third in charge, the second before it."""
    (root / "documents").mkdir()
    (root / "documents" / "a.txt").write_text("a\n")
    rows = [{"id": str(i), "question": f"q{i}", "answers": [f"{name}: q{i}" for name in NAMES]} for i in range(40)]
    (root / "evaluation.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name in NAMES:
        text = f"name: bench\nworkload: echo\necho:\n  prefix: '{name}: '\n"
        (root / "modelyard.yml").write_text(text)
        with modelyard.open(root) as project:
            project.run()


def measure(root: Path, rounds: int) -> dict[str, Any]:
    with modelyard.open(root) as project:
        pointers = project.world.ledger.pointers(project.name)
        new, old = pointers.champion, pointers.previous
        if new is None or old is None:
            sys.exit(f"{root} needs a champion and a previous release")
        process = subprocess.Popen(
            [sys.executable, "-m", "modelyard", "serve", "-C", str(root), "--port", "0"], stdout=subprocess.DEVNULL
        )
        try:
            info = gateway(project, new)
            traffic = Traffic(info)
            traffic.wait_for(new)
            took: dict[str, list[float]] = {"promote": [], "rollback": [], "moved_to_traffic": []}
            for _ in range(rounds):
                for name, release in (("rollback", old), ("promote", new)):
                    traffic.forget()
                    began = time.time()
                    project.rollback() if name == "rollback" else project.promote(release)
                    answered = traffic.wait_for(release)
                    took[name].append(answered - began)
                    moved = datetime.fromisoformat(project.history()[0].at).timestamp()
                    took["moved_to_traffic"].append(answered - moved)
            cold = cold_promote(project, traffic, {new, old})
            traffic.close()
        finally:
            process.terminate()
            process.wait()
    return {
        "benchmark": "switch",
        "promote_seconds": round(statistics.median(took["promote"]), 3),
        "rollback_seconds": round(statistics.median(took["rollback"]), 3),
        "moved_to_traffic_seconds": round(statistics.median(took["moved_to_traffic"]), 3),
        "cold_promote_seconds": cold,
        "worst_seconds": round(max(took["promote"] + took["rollback"]), 3),
        "limit": 1.0,
        "rounds": rounds,
        "requests": traffic.answered,
        "failed": traffic.failed,
    }


def cold_promote(project: modelyard.Project, traffic: Traffic, warm: set[str]) -> float | None:
    """Seconds of a promote, to traffic, of a release that the gateway has no worker of."""
    others = (r["id"] for r in project.releases() if r["id"] not in warm and r["state"] in ("passed", "unproven"))
    release = next(others, None)
    if release is None:
        return None
    began = time.time()
    project.promote(release)
    return round(traffic.wait_for(release) - began, 3)


def gateway(project: modelyard.Project, champion: str) -> GatewayInfo:
    """The gateway, once both releases have a worker."""
    until = time.monotonic() + 120
    while time.monotonic() < until:
        info = alive(project.world.layout)
        if info is not None:
            pointers = project.world.ledger.pointers(project.name)
            names = [n for n in (pointers.champion, pointers.previous) if n is not None]
            if all(project.world.ledger.is_warm(project.name, n, info.gateway_id) for n in names):
                return info
        time.sleep(0.02)
    sys.exit("the gateway did not become ready")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("project", nargs="?", type=Path)
    parser.add_argument("--rounds", type=int, default=10)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = args.project or Path(folder)
        if args.project is None:
            make(root)
        print(json.dumps(measure(root, args.rounds)))


if __name__ == "__main__":
    main()
