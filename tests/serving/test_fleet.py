"""Pools of workers under faults: real processes, and a workload that misbehaves on request."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from modelyard.adapters.ledger_sqlite import SqliteLedger
from modelyard.errors import Busy, Cancelled, DeadlineExceeded, ModelyardError, NotFound, RequestError, Unavailable
from modelyard.lifecycle.artifact import members, seal, workbench, write_snapshot
from modelyard.ports.records import Manifest, Pointers, Release, Snapshot
from modelyard.project.layout import Layout
from modelyard.serving import supervise
from modelyard.serving.exchange import MOST_DEATHS, Exchange
from modelyard.serving.process import Command, Limits, worker_command
from modelyard.serving.supervise import Fleet

ODD = """
import contextlib, gc, os, signal, socket, time
from pathlib import Path
from modelyard.ports.workload import Delta, Invoked, Response
from modelyard.workloads.echo import Echo, EchoWorkload

NOTES = Path(__file__).parent


class Odd(Echo):
    def predict(self, request, call):
        question = request["messages"][-1]["content"]
        word, _, rest = question.partition(" ")
        with open(NOTES / "entered", "a") as f:
            f.write(f"{call.key} {call.effects}\\n")
        if self._prefix == "segfaults" or word == "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
            time.sleep(60)  # another thread may be the one that gets it
        if word == "wait":
            until = time.monotonic() + float(rest)
            while time.monotonic() < until:
                time.sleep(0.005)
                if call.cancelled():
                    (NOTES / "cancelled").touch()
                    call.check()
        if word == "exit":
            raise SystemExit(3)
        if word == "die":
            print(f"cannot answer {rest}", flush=True)
            os._exit(7)
        if word == "odd":
            yield Response("odd", {}, {"prompt_tokens": None, "completion_tokens": 7})
            return
        if word == "hangup" and not (NOTES / "hung up").exists():
            (NOTES / "hung up").touch()
            for found in [o for o in gc.get_objects() if type(o) is socket.socket and o.family == socket.AF_UNIX]:
                with contextlib.suppress(OSError):
                    found.shutdown(socket.SHUT_RDWR)
        if word == "stream":
            for i in range(int(rest)):
                yield Delta(f"{i} ")
                time.sleep(0.02)
            yield Response("".join(f"{i} " for i in range(int(rest))), {})
            return
        yield Response(self._prefix + question, {"key": call.key, "pid": os.getpid()})

    def invoke(self, body, content_type, call):
        signals = {"first": float(body[0]) if body else 0.5}
        if body == b"odd":
            signals |= {"none": None, "word": "high", "nan": float("nan")}
        return Invoked(body[::-1], content_type, len(body), signals)


class OddWorkload(EchoWorkload):
    def signals(self, request, response):
        return {"none": None, "one": 1} if response.text == "odd" else {}

    def load(self, ctx, artifact_dir):
        prefix = (artifact_dir / "prefix.txt").read_text()
        if prefix == "does not start":
            raise ValueError("no such weights")
        return Odd(prefix)
"""
Running = tuple[Fleet, Callable[..., Awaitable[Any]]]


class Yard:
    """A project with releases, and fleets that serve it."""

    def __init__(self, root: Path) -> None:
        self.root, self.layout = root, Layout(root, "test")
        (root / "modelyard.yml").write_text("name: yard\nworkload: odd:OddWorkload\n")
        (root / "odd.py").write_text(ODD)
        self.ledger = SqliteLedger(self.layout.ledger)

    def release(self, prefix: str) -> str:
        bench = workbench(self.layout.releases)
        (bench / "prefix.txt").write_text(prefix)
        write_snapshot(bench, Snapshot((), ""))
        manifest = Manifest("odd:OddWorkload", 1, members(bench), "0" * 64, {"prefix": prefix})
        seal(bench, manifest, self.layout.releases, self.layout.objects)
        self.ledger.add_release(Release(manifest.id, manifest, "passed", "2026-01-01T00:00:00.000Z"))
        return manifest.id

    def point(self, champion: str, previous: str | None = None, **more: Any) -> None:
        at = self.ledger.pointers("yard").generation
        self.ledger.move("yard", at, Pointers(0, champion, previous=previous, **more), "test", "a test", None)

    def entered(self) -> list[str]:
        path = self.root / "entered"
        return path.read_text().splitlines() if path.exists() else []

    @asynccontextmanager
    async def fleet(self, command: Command | None = None, **limits: Any) -> AsyncIterator[Fleet]:
        given = Limits(**limits)
        layout = self.layout
        usual = worker_command(sys.executable, layout.releases, layout.root, layout.target, given)
        fleet = Fleet("yard", "a gateway", lambda: SqliteLedger(layout.ledger), command or usual, given)
        await fleet.start()
        try:
            yield fleet
        finally:
            await fleet.stop()


@pytest.fixture
def yard(tmp_path: Path) -> Any:
    place = Yard(tmp_path)
    yield place
    place.ledger.close()


async def until(find: Callable[[], Any], what: str) -> Any:
    for _ in range(3000):
        if found := find():
            return found
        await asyncio.sleep(0.01)
    raise AssertionError(f"waited in vain for {what}")


async def up(fleet: Fleet, release: str, count: int | None = None) -> list[int]:
    """Process ids of the workers of a release, once all are ready."""

    def pids() -> list[int]:
        pool = fleet.pool(release)
        found = [w.pid for w in pool.workers] if pool is not None else []
        return found if len(found) == (count or fleet.limits.workers) else []

    found: list[int] = await until(pids, "all workers")
    return found


def asking(question: str, key: str = "k", **more: Any) -> dict[str, Any]:
    request = {"messages": [{"role": "user", "content": question}]}
    return {"do": "predict", "request": request, "key": key, "stream": False, **more}


async def ask(
    fleet: Fleet, question: str = "hi", timeout: float = 30.0, release: str | None = None, **more: Any
) -> Any:
    with Exchange(fleet, asking(question, **more), timeout, release) as exchange:
        return await exchange.result()


@pytest.mark.parametrize("workers", [1, 2])
def test_kill_9_of_each_worker_in_turn_fails_no_request(yard: Yard, workers: int) -> None:
    one = yard.release("one: ")
    yard.point(one)

    async def main() -> None:
        async with yard.fleet(workers=workers) as fleet:
            await up(fleet, one)
            stop, answered = False, 0

            async def client(number: int) -> None:
                nonlocal answered
                count = 0
                while not stop:
                    key = f"{number}-{count}"
                    count += 1
                    reply = await ask(fleet, "wait 0.01", key=key)
                    assert reply["output"]["key"] == key
                    answered += 1

            clients = [asyncio.create_task(client(i)) for i in range(8)]
            for _ in range(2):
                for pid in await up(fleet, one):
                    before = answered
                    os.kill(pid, signal.SIGKILL)
                    pool = fleet.pool(one)
                    assert pool is not None
                    await until(lambda: len(p := [w.pid for w in pool.workers]) == workers and pid not in p, "another")  # noqa: B023
                    await until(lambda: answered > before + 8 or any(c.done() for c in clients), "answers")  # noqa: B023
            stop = True
            await asyncio.gather(*clients)
            assert fleet.counts["retries"] > 0 and fleet.counts["restarts"] == 2 * workers
            assert not fleet.counts["given_up"] and fleet.standing().ready
            entered = [line.split()[0] for line in yard.entered()]
            assert len(set(entered)) == answered  # nothing was asked under another key

    asyncio.run(main())


def test_somebody_elses_sigterm_to_a_worker_fails_no_request(yard: Yard) -> None:
    one = yard.release("one: ")
    yard.point(one)

    async def main() -> None:
        async with yard.fleet() as fleet:
            (pid,) = await up(fleet, one)
            under_way = asyncio.create_task(ask(fleet, "wait 0.4"))
            await until(yard.entered, "the request to be entered")
            os.kill(pid, signal.SIGTERM)
            await asyncio.sleep(0.05)
            replies = await asyncio.gather(under_way, *(ask(fleet, "hi") for _ in range(5)))
            assert replies[0]["output"]["pid"] == pid  # it finished what it had begun
            assert {r["output"]["pid"] for r in replies[1:]} == set(await up(fleet, one)) != {pid}

    asyncio.run(main())


def test_one_crashed_worker_of_two_leaves_the_release_in_traffic(yard: Yard) -> None:
    one = yard.release("one: ")
    yard.point(one)

    async def main() -> None:
        async with yard.fleet(workers=2) as fleet:
            first, second = await up(fleet, one)
            os.kill(first, signal.SIGKILL)
            pool = fleet.pool(one)
            assert pool is not None
            await until(lambda: [w.pid for w in pool.workers] == [second], "it to be noticed")
            assert fleet.standing().ready and fleet.standing().warm == ((one, 1),)
            assert (await ask(fleet))["output"]["pid"] == second
            assert first not in await up(fleet, one)

    asyncio.run(main())


def test_a_release_that_crashes_on_every_request_goes_out_of_traffic_and_is_said_to(yard: Yard) -> None:
    good, bad = yard.release("good: "), yard.release("segfaults")
    yard.point(good, traffic=((good, 50), (bad, 50)))

    async def main() -> None:
        async with yard.fleet() as fleet:
            await up(fleet, good)
            await up(fleet, bad)
            with pytest.raises(Unavailable, match=r"went away 4 times while it answered"):
                await ask(fleet, release=bad)
            with pytest.raises(Unavailable, match=r"went away once while it answered.*ended by signal 11"):
                await ask(fleet, release=bad)
            with pytest.raises(Unavailable, match="is not up: its worker was ended by signal 11"):
                await ask(fleet, release=bad)  # at once, and no worker dies of it
            assert len(yard.entered()) == 5
            assert "signal 11" in await until(lambda: yard.ledger.failure("yard", bad, "a gateway"), "the report")
            assert (await ask(fleet, release=good))["text"] == "good: hi"
            yard.point(bad, previous=good)
            await until(lambda: fleet.standing().champion == bad, "the pointer")
            standing = fleet.standing()
            assert standing.release == good and "signal 11" in (standing.reason or "")

    asyncio.run(main())


@pytest.mark.parametrize("workers", [1, 2])
def test_a_request_that_kills_workers_ends_and_takes_no_other_with_it(yard: Yard, workers: int) -> None:
    one = yard.release("one: ")
    yard.point(one)

    async def main() -> None:
        async with yard.fleet(workers=workers) as fleet:
            await up(fleet, one)
            poison = asyncio.create_task(ask(fleet, "crash", key="poison"))
            replies = 0

            async def client() -> None:
                nonlocal replies
                while not poison.done():
                    replies += (await ask(fleet, "wait 0.02", key="hi"))["text"] == "one: wait 0.02"

            await asyncio.gather(*(client() for _ in range(12)))
            with pytest.raises(Unavailable, match="went away 4 times while it answered this"):
                await poison
            assert replies and fleet.counts["given_up"] == 1
            assert sum(line.startswith("poison") for line in yard.entered()) == MOST_DEATHS
            assert (await ask(fleet))["text"] == "one: hi"

    asyncio.run(main())


def test_a_stream_is_begun_again_only_before_its_first_byte(yard: Yard) -> None:
    one = yard.release("one: ")
    yard.point(one)

    async def main() -> None:
        async with yard.fleet() as fleet:
            (pid,) = await up(fleet, one)
            with Exchange(fleet, asking("stream 100", stream=True), 30) as exchange:
                assert (await exchange.next())["delta"] == "0 "
                os.kill(pid, signal.SIGKILL)
                with pytest.raises(Unavailable, match="while it answered"):
                    await exchange.result()
            assert fleet.counts["streams_cut"] == 1 and not fleet.counts["retries"]
            with Exchange(fleet, asking("stream 3", stream=True), 30) as exchange:  # waits for the restart
                text = ""
                while "delta" in (frame := await exchange.next()):
                    text += frame["delta"]
                assert frame["response"]["text"] == text == "0 1 2 "

    asyncio.run(main())


def test_a_worker_that_hangs_is_ended_and_its_requests_run_elsewhere(yard: Yard) -> None:
    one = yard.release("one: ")
    yard.point(one)

    async def main() -> None:
        async with yard.fleet(ping=0.05, hung=0.3) as fleet:
            (pid,) = await up(fleet, one)
            os.kill(pid, signal.SIGSTOP)
            assert (await ask(fleet))["output"]["pid"] != pid
            assert fleet.counts["restarts"] == 1
            # One that only takes its time is left alone.
            (pid,) = await up(fleet, one)
            assert (await ask(fleet, "wait 0.8"))["output"]["pid"] == pid

    asyncio.run(main())


def test_a_worker_that_nobody_can_reach_is_ended(yard: Yard) -> None:
    one = yard.release("one: ")
    yard.point(one)

    async def main() -> None:
        async with yard.fleet(ping=0.1) as fleet:
            (pid,) = await up(fleet, one)
            assert (await ask(fleet, "hangup now"))["output"]["pid"] != pid
            assert fleet.counts["retries"] == fleet.counts["restarts"] == 1

    asyncio.run(main())


def test_what_a_worker_wrote_of_a_request_is_told_to_nobody_else(yard: Yard, caplog: pytest.LogCaptureFixture) -> None:
    one = yard.release("one: ")
    yard.point(one)

    async def main() -> None:
        async with yard.fleet() as fleet:
            with pytest.raises(Unavailable):
                await ask(fleet, "die of my secret")
        reasons = [record.getMessage() for record in caplog.records if record.name == "modelyard.gateway"]
        assert any("ended with code 7" in reason for reason in reasons)
        assert not any("secret" in reason for reason in reasons)

    asyncio.run(main())


def test_a_pong_is_no_answer_that_speaks_for_a_release(yard: Yard) -> None:
    one = yard.release("one: ")
    yard.point(one)

    async def main() -> None:
        async with yard.fleet() as fleet:
            with Exchange(fleet, {"do": "ping"}, 30) as exchange:
                await exchange.result()
            worker = fleet.ready()
            assert worker is not None and worker.answered == 0
            await ask(fleet)
            assert worker.answered == 1

    asyncio.run(main())


def test_whatever_a_release_raises_or_says_of_an_answer_ends_one_request_at_most(yard: Yard) -> None:
    one = yard.release("one: ")
    yard.point(one)

    async def main() -> None:
        async with yard.fleet(threads=2) as fleet:
            for _ in range(3):  # more than there are threads
                with pytest.raises(ModelyardError, match="failed on this request"):
                    await ask(fleet, "exit now", timeout=10)
            odd = await ask(fleet, "odd")
            assert odd["usage"] == {"completion_tokens": 7} and odd["signals"] == {"one": 1.0}
            job = {"do": "invoke", "content_type": "text/plain", "payload": b"odd", "key": "k"}
            with Exchange(fleet, job, 30) as exchange:
                assert (await exchange.result())["signals"] == {"first": 111.0}

    asyncio.run(main())


MUTE = "import socket, sys, time; s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen(); time.sleep(60)"


def test_a_worker_that_never_answers_its_first_ping_is_no_worker(yard: Yard) -> None:
    one = yard.release("one: ")
    yard.point(one)

    async def main() -> None:
        async with yard.fleet(lambda release, sock: [sys.executable, "-c", MUTE, str(sock)], start=0.3) as fleet:
            with pytest.raises(Unavailable, match=r"is not up: it was not ready within 0\.3 s"):
                await ask(fleet)
            assert not fleet.standing().ready and "within 0.3 s" in (fleet.standing().reason or "")

    asyncio.run(main())


def test_a_full_queue_refuses_before_the_worker_is_entered(yard: Yard) -> None:
    one = yard.release("one: ")
    yard.point(one)

    async def main() -> None:
        async with yard.fleet(threads=2, queue=3) as fleet:
            await up(fleet, one)
            tasks = [asyncio.create_task(ask(fleet, "wait 0.3", key=f"{i}")) for i in range(5)]
            await until(lambda: len(yard.entered()) == 2, "two to be answered")
            for _ in range(3):
                with pytest.raises(Busy) as caught:
                    await ask(fleet, key="too many")
                assert (caught.value.retry_after or 0) >= 1 and caught.value.status == 503
            assert fleet.counts["refused"] == 3
            assert all(reply["text"] == "one: wait 0.3" for reply in await asyncio.gather(*tasks))
            assert "too many" not in str(yard.entered()) and len(yard.entered()) == 5
            assert (await ask(fleet))["text"] == "one: hi"  # there is room again

    asyncio.run(main())


def test_bodies_that_are_held_are_bounded_too(yard: Yard) -> None:
    one = yard.release("one: ")
    yard.point(one)

    async def main() -> None:
        async with yard.fleet(threads=1, payloads=1000) as fleet:
            await up(fleet, one)
            job = {"do": "invoke", "content_type": "text/csv", "key": "k", "payload": b"x" * 600}
            slow = asyncio.create_task(ask(fleet, "wait 0.3"))
            await until(yard.entered, "the slow one to be entered")
            with Exchange(fleet, job, 30) as first, Exchange(fleet, job, 30) as second:
                begun = asyncio.create_task(first.result())
                await asyncio.sleep(0)
                with pytest.raises(Busy):
                    await second.result()
                assert (await begun)["rows"] == 600
            with Exchange(fleet, {**job, "payload": b"x" * 2000}, 30) as alone:
                await slow
                assert (await alone.result())["rows"] == 2000
            pool = fleet.pool(one)
            assert pool is not None and (pool.under_way, pool.held) == (0, 0)

    asyncio.run(main())


def test_a_release_counts_as_warm_once_all_its_workers_are_up(yard: Yard) -> None:
    one, bad = yard.release("one: "), yard.release("does not start")
    yard.point(one, challenger=bad)

    async def main() -> None:
        async with yard.fleet(workers=2) as fleet:
            warm = lambda release: yard.ledger.is_warm("yard", release, "a gateway")  # noqa: E731
            pool = fleet.pool(one)
            assert pool is not None
            await until(lambda: len(pool.workers) == 1, "the first worker")
            assert (await ask(fleet))["text"] == "one: hi"
            assert not warm(one) or len(pool.workers) == 2
            await up(fleet, one)
            await until(lambda: warm(one), "the ledger to say so")
            assert "no such weights" in await until(lambda: yard.ledger.failure("yard", bad, "a gateway"), "the reason")

    asyncio.run(main())


def test_the_least_loaded_worker_is_asked(yard: Yard) -> None:
    one = yard.release("one: ")
    yard.point(one)

    async def main() -> None:
        async with yard.fleet(workers=2) as fleet:
            await up(fleet, one)
            slow = asyncio.create_task(ask(fleet, "wait 0.5"))
            await until(yard.entered, "the slow one to be entered")
            quick = {(await ask(fleet))["output"]["pid"] for _ in range(10)}
            assert quick.isdisjoint({(await slow)["output"]["pid"]}) and len(quick) == 1

    asyncio.run(main())


def test_deadlines_are_kept_and_who_goes_away_cancels(yard: Yard) -> None:
    one = yard.release("one: ")
    yard.point(one)

    async def main() -> None:
        async with yard.fleet() as fleet:
            (pid,) = await up(fleet, one)
            with pytest.raises(DeadlineExceeded):
                await ask(fleet, "wait 0.3", timeout=0.1)
            gone = asyncio.get_running_loop().create_future()
            with Exchange(fleet, asking("wait 20"), 30) as exchange:
                exchange.until(gone)
                asyncio.get_running_loop().call_later(0.1, gone.set_result, None)
                with pytest.raises(Cancelled):
                    await exchange.result()
            await until((yard.root / "cancelled").exists, "the work to be given up")
            os.kill(pid, signal.SIGKILL)
            with pytest.raises(DeadlineExceeded, match="no worker was ready in time"):
                await ask(fleet, timeout=0.05)
            pool = fleet.pool(one)
            assert pool is not None and pool.under_way == 0

    asyncio.run(main())


def test_all_releases_of_the_split_are_warm_and_no_others(yard: Yard) -> None:
    one, two, three, four = (yard.release(f"{name}: ") for name in ("one", "two", "three", "four"))
    yard.point(one, previous=two, traffic=((one, 90), (three, 10)))

    async def main() -> None:
        async with yard.fleet() as fleet:
            for release, name in ((one, "one"), (two, "two"), (three, "three")):
                await up(fleet, release)
                assert (await ask(fleet, release=release))["text"] == f"{name}: hi"
            assert (await ask(fleet))["text"] == "one: hi"
            with pytest.raises(NotFound, match="is not served here now"):
                await ask(fleet, release=four)
            with Exchange(fleet, asking("wait 0.3"), 30, three) as exchange:
                answer = asyncio.create_task(exchange.result())
                await until(lambda: len(yard.entered()) == 5, "it to be entered")
                yard.point(one, previous=two)  # the split is over; what is under way ends where it began
                assert (await answer)["text"] == "three: wait 0.3"
            await until(lambda: fleet.pool(three) is None, "its worker to be let go")

    asyncio.run(main())


def test_bodies_pass_as_they_are(yard: Yard) -> None:
    one = yard.release("one: ")
    yard.point(one)

    async def main() -> None:
        async with yard.fleet() as fleet:
            await up(fleet, one)
            job = {"do": "invoke", "content_type": "text/csv", "key": "k", "groups": [], "effects": "live"}
            for body in (b"", b"\xff\0not utf-8", bytes(range(256)) * 4096 * 5):
                with Exchange(fleet, {**job, "payload": body}, 30) as exchange:
                    reply = await exchange.result()
                assert (reply["body"], reply["content_type"], reply["rows"]) == (body[::-1], "text/csv", len(body))
            assert (await ask(fleet, effects="exam"))["text"] == "one: hi"
            assert yard.entered()[-1] == "k exam"
            with pytest.raises(RequestError, match="not valid Unicode"):
                await ask(fleet, "\ud800")
            with pytest.raises(RequestError, match="cannot be passed on"):
                await ask(fleet, key=float("nan"))  # type: ignore[arg-type]

    asyncio.run(main())


@pytest.mark.skipif(sys.platform != "linux", reason="says how large processes are through /proc")
def test_over_its_memory_the_previous_release_goes_cold_and_comes_back_when_needed(yard: Yard) -> None:
    one, two = yard.release("one: "), yard.release("two: ")
    yard.point(two, previous=one)

    async def main() -> None:
        async with yard.fleet(memory=1 << 20) as fleet:
            await up(fleet, one)
            await until(lambda: fleet.standing().cold == one, "the previous one to be stopped")
            assert (fleet.standing().cold_start_seconds or 0) > 0
            await until(lambda: fleet.pool(one) is None, "its worker to end")
            assert fleet.standing().warm == ((two, 1),) and (await ask(fleet))["text"] == "two: hi"
            await until(lambda: not yard.ledger.is_warm("yard", one, "a gateway"), "the ledger to say so")
            yard.point(one, previous=two)  # a rollback: it takes as long as a start
            await until(lambda: fleet.standing().release == one, "the rollback")
            assert (await ask(fleet))["text"] == "one: hi"

    asyncio.run(main())


def test_where_memory_cannot_be_looked_at_it_is_said_and_looked_at_again(
    yard: Yard, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    one, two = yard.release("one: "), yard.release("two: ")
    yard.point(two, previous=one)
    looks = 0

    def broken(pids: list[int]) -> dict[int, int]:
        nonlocal looks
        looks += 1
        if looks < 4:
            raise OSError("no more processes")
        return dict.fromkeys(pids, 1 << 30)

    monkeypatch.setattr(supervise, "resident", broken)
    monkeypatch.setattr(supervise, "WEIGH_SECONDS", 0.02)

    async def main() -> None:
        async with yard.fleet(memory=1 << 20) as fleet:
            await until(lambda: fleet.standing().cold == one, "the previous one to be stopped")

    asyncio.run(main())
    assert sum("memory cannot be looked at" in record.getMessage() for record in caplog.records) == 1


def test_what_is_about_to_be_let_go_makes_no_other_go_cold(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two, three = yard.release("one: "), yard.release("two: "), yard.release("three: ")
    yard.point(two, previous=one)
    looks: list[int] = []

    def fixed(pids: list[int]) -> dict[int, int]:
        looks.append(len(pids))
        return dict.fromkeys(pids, 1 << 20)

    monkeypatch.setattr(supervise, "resident", fixed)
    monkeypatch.setattr(supervise, "WEIGH_SECONDS", 0.02)

    async def main() -> None:
        async with yard.fleet(memory=5 << 19) as fleet:  # of two and a half
            await up(fleet, one)
            await up(fleet, two)
            with Exchange(fleet, asking("wait 20"), 30, one) as exchange:
                answer = asyncio.create_task(exchange.result())
                await until(yard.entered, "it to be entered")
                yard.point(three, previous=two)
                await up(fleet, three)
                looks.clear()
                await until(lambda: looks.count(3) > 3, "some looks at all three")
                assert fleet.standing().cold is None and fleet.pool(two) is not None
                answer.cancel()

    asyncio.run(main())


def test_what_is_under_way_at_the_end_is_told(yard: Yard) -> None:
    one = yard.release("one: ")
    yard.point(one)

    async def main() -> None:
        async with yard.fleet() as fleet:
            await up(fleet, one)
            with Exchange(fleet, asking("stream 1000", stream=True), 30) as exchange:
                await exchange.next()
                fleet.leave()
                standing = fleet.standing()
                assert standing.stopping and not standing.ready and standing.release == one
                assert (await ask(fleet))["text"] == "one: hi"  # it says so first, and answers still
                fleet.end_all(Unavailable("the server is being stopped"))
                with pytest.raises(Unavailable, match="is being stopped"):
                    await exchange.result()
            with pytest.raises(ModelyardError, match="is being stopped"):
                await ask(fleet)

    asyncio.run(main())
