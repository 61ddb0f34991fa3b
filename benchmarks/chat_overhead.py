"""What a gateway costs a chat request, beside a LiteLLM proxy: CPU of all processes of each, one JSON line.

    python benchmarks/chat_overhead.py [--rounds 6] [--requests 200]

A model on loopback that answers at once with the same words, whole or as a stream of 20 chunks, costs nobody anything
here. Before it: a LiteLLM proxy (one worker, no database, where benchmarks/peers/serving.sh made its environment), and
`modelyard serve` with a release that asks that model through our own client (`relayed`). `scripted` is the same gateway
with a release that says these words itself: what is ours alone. The record is on, on disk. All are up at once, rounds
are interleaved, four connections; figures are medians of rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import secrets
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tabular import CONNECTIONS, PEERS, Server, free_port, start, until_ready
from traffic import Asked, Connection, Message

from modelyard.adapters.ledger_sqlite import SqliteLedger
from modelyard.lifecycle.artifact import members, seal, workbench, write_snapshot
from modelyard.ports.records import Manifest, Pointers, Release, Snapshot
from modelyard.project.layout import Layout

PIECES = [f"word{i} " for i in range(20)]
QUESTION = "What is the daily allowance for a trip to Berlin that takes more than eight hours?"
KEY = f"sk-{secrets.token_hex(32)}"
"""What both gateways ask for."""
UPSTREAM = """
import asyncio, json, sys
PIECES = json.loads(sys.argv[2])
USAGE = {"prompt_tokens": 17, "completion_tokens": 20, "total_tokens": 37}
BASE = {"id": "chatcmpl-1", "created": 1, "model": "scripted"}
def chunk(delta, finish=None, **more):
    choices = [{"index": 0, "delta": delta, "finish_reason": finish}]
    return event({**BASE, "object": "chat.completion.chunk", "choices": choices, **more})
def event(value):
    return b"data: " + json.dumps(value).encode() + b"\\n\\n"
message = {"role": "assistant", "content": "".join(PIECES)}
choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
whole = json.dumps({**BASE, "object": "chat.completion", "choices": choices, "usage": USAGE}).encode()
events = [chunk({"role": "assistant", "content": ""}), *(chunk({"content": p}) for p in PIECES), chunk({}, "stop"),
          event({**BASE, "object": "chat.completion.chunk", "choices": [], "usage": USAGE}),
          b"data: [DONE]\\n\\n"]
HEAD = b"HTTP/1.1 200 OK\\r\\ncontent-type: %s\\r\\n%s\\r\\n\\r\\n"
WHOLE = HEAD % (b"application/json", b"content-length: %d" % len(whole)) + whole
STREAM = HEAD % (b"text/event-stream", b"transfer-encoding: chunked")
STREAM += b"".join(b"%x\\r\\n%s\\r\\n" % (len(e), e) for e in events) + b"0\\r\\n\\r\\n"
async def serve(reader, writer):
    try:
        while True:
            head = (await reader.readuntil(b"\\r\\n\\r\\n")).lower()
            size = int(head.partition(b"content-length:")[2].partition(b"\\r\\n")[0] or 0)
            body = await reader.readexactly(size)
            writer.write(STREAM if json.loads(body or b"{}").get("stream") else WHOLE)
    except (asyncio.IncompleteReadError, OSError):
        writer.close()
async def main():
    await (await asyncio.start_server(serve, "127.0.0.1", int(sys.argv[1]))).serve_forever()
asyncio.run(main())
"""
WORKLOAD = """
import json
from modelyard.adapters.chat_openai import OpenAIChat
from modelyard.ports.workload import Delta, Response
from modelyard.workloads.base import BaseWorkload

class Talking:
    def __init__(self, about):
        self.pieces = about["pieces"]
        self.chat = OpenAIChat(name="scripted", url=about["url"]) if about["url"] else None

    def predict(self, request, call):
        said, usage = [], {"prompt_tokens": 17, "completion_tokens": 20}
        if self.chat is None:
            for piece in self.pieces:
                call.check()
                said.append(piece)
                yield Delta(piece)
        else:
            for chunk in self.chat.stream(request["messages"], max_tokens=100, timeout=None):
                call.check()
                usage = dict(chunk.usage or usage)
                if chunk.text:
                    said.append(chunk.text)
                    yield Delta(chunk.text)
        yield Response("".join(said), {"answer": "".join(said)}, usage)

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
        return Talking(json.loads((artifact_dir / "about.json").read_text()))
"""


def project(root: Path, url: str | None) -> Path:
    """A project whose champion asks the model at `url`, or says the words itself."""
    root.mkdir()
    (root / "modelyard.yml").write_text("name: scripted\nworkload: talk:Talk\n")
    (root / "talk.py").write_text(WORKLOAD)
    layout = Layout(root, "test")
    bench = workbench(layout.releases)
    (bench / "about.json").write_text(json.dumps({"url": url, "pieces": PIECES}))
    write_snapshot(bench, Snapshot((), ""))
    manifest = Manifest("talk:Talk", 1, members(bench), "0" * 64, {}, ())
    seal(bench, manifest, layout.releases, layout.objects)
    ledger = SqliteLedger(layout.ledger)
    ledger.add_release(Release(manifest.id, manifest, "passed", "2026-01-01T00:00:00.000Z"))
    ledger.move("scripted", 0, Pointers(champion=manifest.id), "bench", "a measurement", None)
    ledger.close()
    return root


def servers(work: Path, upstream: int) -> Iterator[Server]:
    """Every gateway that is there to be measured, started."""
    url, at = f"http://127.0.0.1:{upstream}/v1", {"path": "/v1/chat/completions", "bodies": list[bytes]()}
    for name, behind in (("scripted", None), ("relayed", url)):
        port = free_port()
        command = [sys.executable, "-m", "modelyard", "serve", "-C", str(project(work / name, behind))]
        yield start(name, [*command, "--port", str(port)], port, work / f"{name}.log", health="/ready", **at)
    tool = PEERS / "litellm" / "bin" / "litellm"
    if tool.exists():
        port, file = free_port(), work / "litellm.yaml"
        params = {"model": "openai/scripted", "api_base": url, "api_key": "none"}
        file.write_text(json.dumps({"model_list": [{"model_name": "scripted", "litellm_params": params}]}))
        command = [str(tool), "--config", str(file), "--port", str(port), "--num_workers", "1", "--telemetry", "False"]
        yield start("litellm", command, port, work / "litellm.log", health="/health/liveliness", **at)


def message(stream: bool) -> Message:
    body: dict[str, Any] = {"model": "scripted", "messages": [{"role": "user", "content": QUESTION}]}
    if stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    return Message("/v1/chat/completions", json.dumps(body).encode(), "", stream)


def said(asked: Asked) -> str:
    """The words of an answer."""
    if not asked.stream:
        return str(json.loads(asked.said)["choices"][0]["message"]["content"])
    found = [json.loads(line[6:]) for line in asked.said.split(b"\n") if line.startswith(b"data: {")]
    return "".join(c["choices"][0]["delta"].get("content") or "" for c in found if c["choices"])


async def load(server: Server, what: Message, count: int) -> float:
    """Microseconds of CPU a request."""

    async def ask() -> None:
        connection = await Connection.open(server.port)
        for number in range(count // CONNECTIONS):
            asked = Asked(number, "", what.stream, 0.0)
            await connection.post(what, asked, b"authorization: Bearer %s\r\n" % KEY.encode())
            if asked.status != 200 or said(asked) != "".join(PIECES):
                sys.exit(f"{server.name} answered {asked.status}: {asked.said[:300]!r}")
        connection.close()

    before = server.cpu()
    await asyncio.gather(*(ask() for _ in range(CONNECTIONS)))
    return sum(server.since(before)) / (count // CONNECTIONS * CONNECTIONS) * 1e6


async def measure(found: list[Server], rounds: int, requests: int) -> dict[str, Any]:
    for server in found:
        await until_ready(server)
    out: dict[str, Any] = {"benchmark": "chat_overhead", "rounds": rounds, "requests_a_round": requests}
    for kind in ("whole", "stream"):
        costs: dict[str, list[float]] = {server.name: [] for server in found}
        for number in range(rounds + 1):
            for server in found if number % 2 else found[::-1]:
                cost = await load(server, message(kind == "stream"), requests)
                if number:  # the first round warms up
                    costs[server.name].append(cost)
        middle = {name: statistics.median(values) for name, values in costs.items()}
        out[f"{kind}_cpu_us"] = {name: round(value) for name, value in middle.items()}
        if "litellm" in middle:
            ours = ("scripted", "relayed")
            out[f"{kind}_litellm_times"] = {name: round(middle["litellm"] / middle[name], 1) for name in ours}
    out["memory_mb"] = {server.name: server.megabytes() for server in found}
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--requests", type=int, default=200)
    args = parser.parse_args()
    if sys.platform != "linux":
        sys.exit("the CPU time of another process is read on Linux only")
    os.environ |= {"MODELYARD_TOKEN": KEY, "LITELLM_MASTER_KEY": KEY}
    work, found = Path(tempfile.mkdtemp(prefix="modelyard-chat-")), list[Server]()
    port = free_port()
    upstream = subprocess.Popen([sys.executable, "-c", UPSTREAM, str(port), json.dumps(PIECES)])
    try:
        for server in servers(work, port):
            found.append(server)
        print(json.dumps(asyncio.run(measure(found, args.rounds, args.requests))))
    finally:
        for server in found:
            server.stop()
        upstream.kill()
        upstream.wait()
        if not os.environ.get("KEEP"):
            shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main()
