"""Disks that are full, models that hang, artifacts that were altered, ledgers that are locked, and stops under load."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from models import put
from town import GATEWAY, Gateway, Town, eventually
from traffic import Message, Traffic

import modelyard
from modelyard.errors import ModelyardError
from modelyard.ports.records import Decision
from modelyard.serving.log import replay
from modelyard.serving.route import alive
from modelyard.serving.rows import ACCEPTED, FINISHED, decode, kind_and_key


def rows(record: Path) -> tuple[set[str], Counter[int]]:
    """Requests that a record holds, each with one beginning and one end, and how many ended with which status."""
    began: Counter[str] = Counter()
    ended: Counter[str] = Counter()
    statuses: Counter[int] = Counter()
    for raw in replay(record):
        view = memoryview(raw)
        kind, key = kind_and_key(view)
        if kind == ACCEPTED:
            began[key.hex()] += 1
        elif kind == FINISHED:
            ended[key.hex()] += 1
            statuses[decode(view)[0][0]] += 1
    assert began == ended and set(began.values()) <= {1}
    return set(began), statuses


def chat(text: str, stream: bool = False) -> bytes:
    return json.dumps({"messages": [{"role": "user", "content": text}], "stream": stream}).encode()


def hello(number: int) -> Message:
    """Every fourth is a stream of some length."""
    stream = number % 4 == 0
    return Message("/v1/chat/completions", chat("slow 10" if stream else "hi", stream), f"c{number}", stream)


def port_of(gateway: Gateway) -> int:
    return int(gateway.url.rpartition(":")[2])


@contextmanager
def on_a_small_disk(town: Town, size: str) -> Iterator[tuple[Gateway, Path]]:
    """A gateway whose record is on a disk of that size, which only it sees; and where we find that from here."""
    town.layout.record.mkdir(parents=True)
    mount = f'mount -t tmpfs -o size={size} tmpfs "{town.layout.record}" && exec "$@"'
    command = ["unshare", "-Urm", "sh", "-c", mount, "sh", sys.executable, "-c", GATEWAY, str(town.root)]
    process = subprocess.Popen([*command, json.dumps({"port": 0})], stderr=subprocess.PIPE, text=True)
    try:
        info = eventually(lambda: alive(town.layout), "a gateway that listens", process)
        yield Gateway(town, info, process), Path(f"/proc/{process.pid}/root{town.layout.record}")
    finally:
        process.terminate()
        process.communicate(timeout=20)


def mounts() -> bool:
    """Whether this user may have a disk of its own."""
    if sys.platform != "linux" or shutil.which("unshare") is None:
        return False
    tried = subprocess.run(["unshare", "-Urm", "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True)
    return tried.returncode == 0


@pytest.mark.skipif(not mounts(), reason="no disk of our own can be mounted here")
def test_on_a_full_disk_requests_are_refused_and_it_goes_on_by_itself(town: Town, tmp_path: Path) -> None:
    release = town.release("you said: ")
    town.point(release)
    with on_a_small_disk(town, "16m") as (gateway, record):
        gateway.until_ready(release)
        replies = [gateway.ask("before")]
        ballast = record / "ballast"
        file = os.open(ballast, os.O_WRONLY | os.O_CREAT)
        with contextlib.suppress(OSError):
            while os.write(file, bytes(1 << 16)):
                pass
        os.close(file)
        replies += [gateway.ask("x" * 10_000) for _ in range(40)]
        assert replies[-1].status_code == 503 and int(replies[-1].headers["retry-after"]) >= 1
        assert replies[-1].json()["error"]["code"] == "record_full"
        ready = gateway.http.get("/ready")
        assert ready.status_code == 503 and ready.json()["reason"]
        ballast.unlink()
        gateway.until_ready(release)
        replies += [gateway.ask("after") for _ in range(5)]
        assert {reply.status_code for reply in replies[-5:]} == {200}
        given = {reply.headers["x-request-id"] for reply in replies if reply.status_code == 200}

        def all_there() -> bool:
            here = tmp_path / f"copy-{time.monotonic_ns()}"
            shutil.copytree(record, here)
            return given <= rows(here)[0]

        eventually(all_there, "every answer to be on record")


def test_a_model_that_hangs_takes_nobody_with_it(town: Town) -> None:
    release = town.release("you said: ")
    town.point(release)
    with town.gateway(timeout=0.5, limits={"threads": 2, "queue": 4}) as gateway, ThreadPoolExecutor(16) as pool:
        gateway.until_ready(release)
        began = time.monotonic()
        replies = [each.result() for each in [pool.submit(gateway.ask, "stuck 2") for _ in range(16)]]
        assert time.monotonic() - began < 30
        statuses = Counter(reply.status_code for reply in replies)
        assert set(statuses) == {503, 504} and statuses[504] >= 2
        assert all("retry-after" in reply.headers for reply in replies if reply.status_code == 503)
        assert gateway.http.get("/ready").status_code == 200
        eventually(lambda: gateway.ask("hi").status_code == 200, "an answer again")
    on_record, ended = rows(town.layout.record)
    assert {reply.headers["x-request-id"] for reply in replies if "x-request-id" in reply.headers} <= on_record
    assert ended[504] >= statuses[504]


def test_an_altered_artifact_never_takes_traffic(town: Town) -> None:
    good, bad = town.release("one: "), town.release("two: ")
    town.ledger.add_decision(Decision("gate", "pass", ("good",), {"evidence": {"release": bad}}))
    member = town.layout.releases / bad / "prefix.txt"
    member.chmod(0o644)
    member.write_text("2wo: ")  # of the same length
    town.point(good)

    async def story(gateway: Gateway, project: modelyard.Project) -> Traffic:
        traffic = Traffic(port_of(gateway), 60, hello)
        await traffic.sent(20)
        with pytest.raises(ModelyardError, match=r"prefix\.txt"):
            await asyncio.to_thread(project.promote, bad)
        town.point(bad, previous=good)  # somebody who asks nobody
        await traffic.sent(len(traffic.log) + 80)
        await traffic.stop()
        return traffic

    with modelyard.open(town.root) as project, town.gateway() as gateway:
        gateway.until_ready(good)
        seen = asyncio.run(story(gateway, project))
    assert {(a.outcome, a.release) for a in seen.log} == {("ok", good)}


def test_while_the_ledger_is_locked_answers_go_on(town: Town) -> None:
    one, two = town.release("one: "), town.release("two: ")
    town.point(one)

    async def story(gateway: Gateway) -> Traffic:
        traffic = Traffic(port_of(gateway), 60, hello)
        await traffic.sent(20)
        lock = sqlite3.connect(town.layout.ledger, isolation_level=None)
        lock.execute("BEGIN EXCLUSIVE")
        lock.execute("UPDATE releases SET state = state")
        await traffic.sent(150)
        lock.execute("ROLLBACK")
        lock.close()
        town.point(two, previous=one)
        while not (traffic.log[-1].release == two or len(traffic.log) > 3000):
            await asyncio.sleep(0.05)
        await traffic.stop()
        return traffic

    with town.gateway() as gateway:
        gateway.until_ready(one)
        seen = asyncio.run(story(gateway))
    assert {a.outcome for a in seen.log} == {"ok"} and seen.log[-1].release == two


def test_a_stop_under_load_ends_every_answer_that_it_began(town: Town) -> None:
    release = town.release("one: ")
    town.point(release)

    async def story(gateway: Gateway) -> tuple[Traffic, float]:
        traffic = Traffic(port_of(gateway), 60, hello)
        await traffic.sent(60)
        asked = time.time()
        gateway.process.send_signal(signal.SIGTERM)
        await asyncio.to_thread(gateway.process.wait, 30)
        await traffic.stop()
        return traffic, asked

    with town.gateway(notice=0.5) as gateway:
        gateway.until_ready(release)
        seen, asked = asyncio.run(story(gateway))
        assert gateway.process.returncode == 0
    # Who comes when nobody listens any more gets no connection; nobody gets half an answer, or a refusal.
    assert {a.outcome for a in seen.log} == {"ok", "lost"}
    assert min(a.due for a in seen.log if a.outcome == "lost") > asked + 0.5
    on_record, ended = rows(town.layout.record)
    assert on_record == {a.request for a in seen.log if a.outcome == "ok"} and set(ended) == {200}


@pytest.mark.skipif(sys.platform != "linux", reason="says how large processes are through /proc")
def test_a_rollback_to_what_went_cold_says_how_long_it_takes(town: Town) -> None:
    one, two = town.release("one: "), town.release("two: ")
    town.point(one)
    town.point(two, previous=one)
    with modelyard.open(town.root) as project, town.gateway(limits={"memory": 1 << 20}) as gateway:
        gateway.until_ready(two)
        eventually(lambda: gateway.http.get("/ready").json()["cold"], "the previous one to go cold")
        eventually(lambda: not town.ledger.is_warm("town", one, gateway.info.gateway_id), "the ledger to say so")
        moved = project.rollback()
        assert (
            moved.release.id == one and "is cold" in moved.warnings[0] and " s, as the last time" in moved.warnings[0]
        )
        gateway.until_ready(one)
        assert gateway.ask("hi").json()["choices"][0]["message"]["content"] == "one: hi"


def test_scoring_bodies_wait_for_the_first_worker_too(tmp_path: Path) -> None:
    town = Town(tmp_path)
    release = put(town, "lightgbm", "lightgbm")
    town.point(release)
    row = {"dataframe_records": [{f"f{i}": 0.5 for i in range(5)}]}
    with town.gateway() as gateway:
        assert gateway.http.post("/invocations", json=row).status_code == 200  # nobody waited for it to be ready
        (worker,) = gateway.workers()
        os.kill(worker, signal.SIGKILL)
        eventually(lambda: gateway.http.get("/ready").status_code == 503, "it to be noticed")
        replies = [gateway.http.post(path, json=row) for path in ("/invocations", "/predict")]
        assert [reply.status_code for reply in replies] == [200, 200]
    town.ledger.close()


@pytest.mark.skipif(sys.platform != "linux", reason="finds the folder through /proc")
def test_what_a_killed_gateway_left_in_tmp_is_removed_by_the_next(town: Town) -> None:
    town.point(town.release("one: "))

    def folders() -> set[Path]:
        return set(Path("/tmp").glob("modelyard-sockets-*"))

    with town.gateway() as gateway:
        gateway.until_ready()
        words = Path(f"/proc/{gateway.workers()[0]}/cmdline").read_bytes().decode().split("\0")
        mine = Path(words[words.index("--socket") + 1]).parent
        assert mine in folders()
        gateway.process.kill()
        gateway.process.wait()
    with town.gateway() as gateway:
        gateway.until_ready()
        assert mine not in folders()
