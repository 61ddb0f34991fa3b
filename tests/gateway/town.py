"""A project with releases of a workload of its own, and gateways that serve it: real processes, all of them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx

from modelyard.adapters.ledger_sqlite import SqliteLedger
from modelyard.lifecycle.artifact import members, seal, workbench, write_snapshot
from modelyard.ports.records import Manifest, Pointers, Release, Snapshot
from modelyard.project.layout import Layout
from modelyard.serving.route import GatewayInfo, alive

STANDIN = """
import os, re, signal, struct, time, zlib
from pathlib import Path
from modelyard.errors import NotFound, RequestError, RequestTooLarge, Unauthorized, Unavailable
from modelyard.ports.workload import Delta, Response
from modelyard.workloads.base import BaseWorkload


def png(width, height):
    def piece(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    rows = b"".join(b"\\0" + b"\\xf2\\xf0\\xe9" * width for _ in range(height))
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\\x89PNG\\r\\n\\x1a\\n" + piece(b"IHDR", head) + piece(b"IDAT", zlib.compress(rows)) + piece(b"IEND", b"")


class Standing:
    def __init__(self, prefix, notes):
        self.prefix, self.notes = prefix, notes

    def predict(self, request, call):
        question = request["messages"][-1]["content"]
        if not question.strip():
            raise RequestError("the question is empty")
        if len(question) > 20_000:
            raise RequestTooLarge("the question is longer than 20,000 characters")
        word, _, rest = question.partition(" ")
        if word == "crash":
            os.kill(os.getpid(), signal.SIGKILL)
        if word == "crash-once":
            with open(self.notes / rest, "a") as f:
                f.write("x")
            if (self.notes / rest).read_text() == "x":
                os.kill(os.getpid(), signal.SIGKILL)
        if word == "keyless":
            raise Unauthorized("m: the endpoint refuses the key (HTTP 401)")
        if word == "bug":
            raise ZeroDivisionError(f"a secret detail {rest}")
        if word == "nan":
            yield Response("nan", {"answer": float("nan")})
            return
        if word == "liar":
            yield Delta("one thing")
            yield Response("another", {})
            return
        if word == "silent":
            return
        if word == "stuck":
            time.sleep(float(rest))
        if word == "later-bug":
            yield Delta("so far ")
            raise Unavailable("the remote model went away")
        if word == "slow":
            try:
                for i in range(int(rest)):
                    time.sleep(0.02)
                    yield Delta(f"{i} ")
            except GeneratorExit:
                (self.notes / "given-up").touch()
                raise
            yield Response("".join(f"{i} " for i in range(int(rest))), {"answer": "slow"})
            return
        text = self.prefix + question
        for piece in re.findall(r"\\s*\\S+\\s*", text):
            call.check()
            yield Delta(piece)
        citations = [{"document": "a folder/travel \\u2603.pdf", "page": 2, "quote": "145 euros"}]
        refused = word == "refuse"
        output = {"answer": text, "refused": refused, "citations": [] if refused else citations, "key": call.key}
        if call.groups:
            output["groups"] = sorted(call.groups)
        yield Response(text, output, {"prompt_tokens": len(question.split()), "completion_tokens": len(text.split())})

    def search(self, query, k, groups=frozenset()):
        text = " ".join([query, *sorted(groups)])
        return [{"document": "a.pdf", "page": i + 1, "score": 1.0 / (i + 1), "text": text} for i in range(k)]

    def page_picture(self, document, page, quote, groups=frozenset()):
        if document.startswith("hr/") and "hr" not in groups:
            raise NotFound(f"{document!r} is not in this release")
        if page > 9 or document.startswith("nothing"):
            raise NotFound(f"{document} has no page {page}")
        return png(60, 80) + f"{document}|{page}|{quote}".encode()

    def close(self):
        pass


class StandIn(BaseWorkload):
    name = "standin"
    accepts = frozenset({"messages"})

    def build(self, ctx, snapshot, out_dir):
        raise NotImplementedError

    def cases(self, ctx, exam):
        return iter(())

    def score(self, case, response):
        raise NotImplementedError

    def load(self, ctx, artifact_dir):
        text = (artifact_dir / "prefix.txt").read_text()
        if text == "does not load":
            raise ValueError("no such weights")
        if text == "dies":
            os._exit(5)
        if text.startswith("takes "):
            time.sleep(float(text.split()[1]))
        return Standing(text, Path(__file__).parent)
"""

GATEWAY = """
import json, sys
from pathlib import Path
from modelyard.adapters.ledger_endpoints import SqliteEndpoints
from modelyard.adapters.ledger_sqlite import SqliteLedger
from modelyard.adapters.rollouts_sqlite import SqliteRollouts
from modelyard.adapters.tokens_sqlite import SqliteTokens
from modelyard.errors import ModelyardError
from modelyard.gateway.body import Bodies
from modelyard.gateway.server import ServeConfig, serve
from modelyard.project.layout import Layout
from modelyard.serving.process import Limits
layout = Layout(Path(sys.argv[1]), "test")
options = json.loads(sys.argv[2])
if "limits" in options:
    options["limits"] = Limits(**options["limits"])
options["bodies"] = Bodies(**options.get("bodies", {}))
options["record"] = {"fold_every": None, **options.get("record", {})}
ledger, rollouts = lambda: SqliteLedger(layout.ledger), lambda: SqliteRollouts(layout.ledger)
tokens, endpoints = lambda: SqliteTokens(layout.ledger), lambda: SqliteEndpoints(layout.ledger)
try:
    sys.exit(serve(ServeConfig("town", layout, ledger, rollouts, tokens=tokens, endpoints=endpoints, **options)))
except ModelyardError as error:
    sys.stderr.write(f"{error}\\n")
    sys.exit(error.exit_code)
"""


class Town:
    """One project, and what serves it."""

    def __init__(self, root: Path) -> None:
        self.root, self.layout = root, Layout(root, "test")
        (root / "modelyard.yml").write_text("name: town\nworkload: standin:StandIn\n")
        (root / "standin.py").write_text(STANDIN)
        self.ledger = SqliteLedger(self.layout.ledger)

    def release(
        self, prefix: str, workload: str = "standin:StandIn", state: str = "passed", guards: tuple[Any, ...] = ()
    ) -> str:
        """A release that puts `prefix` before what it is asked."""
        bench = workbench(self.layout.releases)
        (bench / "prefix.txt").write_text(prefix)
        write_snapshot(bench, Snapshot((), ""))
        manifest = Manifest(workload, 1, members(bench), "0" * 64, {"prefix": prefix}, guards)
        seal(bench, manifest, self.layout.releases, self.layout.objects)
        self.ledger.add_release(Release(manifest.id, manifest, state, "2026-01-01T00:00:00.000Z"))  # type: ignore[arg-type]
        return manifest.id

    def point(self, champion: str | None, previous: str | None = None, challenger: str | None = None) -> None:
        at = self.ledger.pointers("town").generation
        self.ledger.move("town", at, Pointers(0, champion, challenger, previous), "test", "a test", None)

    @contextmanager
    def gateway(self, env: dict[str, str] | None = None, **options: Any) -> Iterator[Gateway]:
        """A gateway in a process of its own; ended with SIGTERM, in order."""
        process = start(self.root, {"port": 0, **options}, env)
        try:
            info = eventually(lambda: alive(self.layout), "a gateway that listens", process)
            yield Gateway(self, info, process)
        finally:
            if process.poll() is None:
                process.terminate()
            _, err = process.communicate(timeout=20)
            (self.root / "gateway.log").write_text(err)


class Gateway:
    """A gateway that is up, and a client of it."""

    def __init__(self, town: Town, info: GatewayInfo, process: subprocess.Popen[str]) -> None:
        self.town, self.info, self.process = town, info, process
        self.url = info.url
        self.http = httpx.Client(base_url=info.url, timeout=30, trust_env=False)

    def until_ready(self, release: str | None = None) -> dict[str, Any]:
        def served() -> dict[str, Any] | None:
            reply = self.http.get("/ready")
            up = reply.status_code == 200 and release in (None, reply.json()["release"])
            return reply.json() if up else None

        return eventually(served, f"release {release} to be served", self.process)

    def ask(self, question: str, **more: Any) -> httpx.Response:
        body = {"messages": [{"role": "user", "content": question}], **more}
        return self.http.post("/v1/chat/completions", json=body)

    def workers(self) -> list[int]:
        """Process ids of its workers."""
        found = []
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):
                state, parent = stat.read_text().rpartition(")")[2].split()[:2]
                if int(parent) == self.process.pid and state != "Z":
                    found.append(int(stat.parent.name))
        return found


def start(root: Path, options: dict[str, Any], env: dict[str, str] | None = None) -> subprocess.Popen[str]:
    clean = {k: v for k, v in os.environ.items() if k != "MODELYARD_TOKEN"}
    command = [sys.executable, "-c", GATEWAY, str(root), json.dumps(options)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**clean, **(env or {})})


def eventually(find: Callable[[], Any], what: str, process: subprocess.Popen[str] | None = None) -> Any:
    """What `find` gives once it gives something. The limit is only there so that a failing test ends."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        if found := find():
            return found
        if process is not None and process.poll() is not None:
            raise AssertionError(f"waited for {what}, but the process ended: {process.communicate()[1]}")
        time.sleep(0.01)
    if process is not None:
        process.send_signal(signal.SIGTERM)
    raise AssertionError(f"waited in vain for {what}")
