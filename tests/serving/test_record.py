"""The record: what was accepted is there, once, with its end; what could not be recorded was not answered."""

from __future__ import annotations

import asyncio
import json
import math
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelyard.clock import FakeClock
from modelyard.errors import Busy, RecordFull, UserError
from modelyard.ports.tokens import new_secret
from modelyard.serving import appender
from modelyard.serving import log as log_module
from modelyard.serving.log import replay
from modelyard.serving.record import Accepted, Finished, Outcome, Record, Redaction, request_id
from modelyard.serving.rows import ACCEPTED, FINISHED, OUTCOME, decode, kind_and_key
from modelyard.serving.segment import OPEN, listed, named

RELEASE = "f" * 64


def accepted(identity: str, request: bytes | None = b'{"x": 1}', **more: Any) -> Accepted:
    return Accepted(identity, "handbook", RELEASE, "openai", 1_700_000_000_000_000_000, request=request, **more)


def finished(identity: str, response: bytes | None = b'{"y": 2}', **more: Any) -> Finished:
    return Finished(identity, 200, 12.5, usage={"prompt_tokens": 3}, signals={"words": 2.0}, response=response, **more)


def rows(folder: Path) -> list[tuple[bytes, str, list[Any], list[str], bytes | None]]:
    found = []
    for raw in replay(folder):
        kind, key = kind_and_key(memoryview(raw))
        found.append((kind, key.hex(), *decode(memoryview(raw))))
    return found


def ends(folder: Path) -> dict[str, tuple[int, str | None, bool]]:
    """Of every finished request: its status, error and whether it was aborted. None twice."""
    found = [(key, (fields[0], fields[2], fields[8])) for kind, key, fields, *_ in rows(folder) if kind == FINISHED]
    assert len(dict(found)) == len(found)
    return dict(found)


@contextmanager
def no_file_over(size: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_request_is_there_with_its_end_and_what_became_of_it(tmp_path: Path) -> None:
    record = Record.open(tmp_path)
    one, two = request_id(), request_id()

    async def story() -> None:
        assert await record.accepted(
            accepted(one, unit="c-1", requester="tok", groups=("g",), client_id="mine", arm="challenger")
        )
        assert await record.accepted(accepted(two, request=None))
        assert record.open_requests == 2
        await record.finished(finished(one))
        await record.finished(Finished(two, 504, 60_000.0, error="DeadlineExceeded", attempts=2))
        await record.outcome(Outcome(one, "thumb", "up", 5, "tok"))

    asyncio.run(story())
    assert record.open_requests == 0 and record.trouble is None and not record.full
    assert (record.counts.accepted, record.counts.finished, record.counts.outcomes) == (2, 2, 1)
    record.close()
    found = rows(tmp_path)
    assert [(kind, key) for kind, key, *_ in found] == [
        (ACCEPTED, one),
        (ACCEPTED, two),
        (FINISHED, one),
        (FINISHED, two),
        (OUTCOME, one),
    ]
    assert found[0][2][:4] == ["handbook", RELEASE, "openai", 1_700_000_000_000_000_000]
    assert [found[n][4] for n in range(4)] == [b'{"x": 1}', None, b'{"y": 2}', None]
    assert found[4][2] == ["thumb", "up", 5, "tok"]


def test_an_empty_body_is_not_a_missing_one(tmp_path: Path) -> None:
    record = Record.open(tmp_path)

    async def story() -> None:
        for body in (b"", None):
            one = request_id()
            await record.accepted(accepted(one, request=body))
            await record.finished(finished(one, response=body))

    asyncio.run(story())
    record.close()
    assert [body for *_, body in rows(tmp_path)] == [b"", b"", None, None]


def test_numbers_and_names_of_any_kind_come_back(tmp_path: Path) -> None:
    record = Record.open(tmp_path)
    one, two = request_id(), request_id()
    usage, signals = Counter(prompt_tokens=2**70), {"nan": math.nan, "numpy": np.float64(0.5)}

    async def story() -> None:
        await record.accepted(accepted(one, unit="\ud800 half a pair", client_id="ü"))
        await record.finished(Finished(one, 200, usage=usage, signals=signals))
        await record.accepted(accepted(two))
        await record.finished(Finished(two, 200, signals={"nan": math.nan, "inf": math.inf}))

    asyncio.run(story())
    record.close()
    found = {(key, kind): fields for kind, key, fields, *_ in rows(tmp_path)}
    assert found[one, ACCEPTED][7] == "\ud800 half a pair" and found[one, ACCEPTED][4] == "ü"
    assert found[one, FINISHED][3] == {"prompt_tokens": 2**70} and found[one, FINISHED][5]["numpy"] == 0.5
    assert set(found[two, FINISHED][5]) == {"nan", "inf"}


def test_what_is_too_large_is_left_out_and_a_code_says_so(tmp_path: Path) -> None:
    record = Record.open(tmp_path, max_request=100, max_response=50)
    one, two = request_id(), request_id()

    async def story() -> None:
        await record.accepted(accepted(one, request=b"x" * 101))
        await record.finished(finished(one, response=b"y" * 51))
        await record.accepted(accepted(two, request=b"x" * 100))
        await record.finished(finished(two, response=b"y" * 50))

    asyncio.run(story())
    record.close()
    assert [(codes, body and len(body)) for _, _, _, codes, body in rows(tmp_path)] == [
        (["MAX_REQUEST_SIZE_EXCEEDED"], None),
        (["MAX_RESPONSE_SIZE_EXCEEDED"], None),
        ([], 100),
        ([], 50),
    ]


def test_orphans_are_closed_once_as_aborted(tmp_path: Path) -> None:
    ids = [request_id() for _ in range(5)]

    async def accept(record: Record) -> None:
        for one in ids:
            await record.accepted(accepted(one))
        await record.finished(finished(ids[0]))

    record = Record.open(tmp_path)
    asyncio.run(accept(record))
    record.close()
    for counted in (4, 0, 0):
        record = Record.open(tmp_path)
        assert record.counts.aborted == counted
        record.close()
    found = ends(tmp_path)
    assert found[ids[0]] == (200, None, False)
    assert all(found[one] == (500, "Aborted", True) for one in ids[1:])


@settings(max_examples=25)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 300)), min_size=1, max_size=12), st.data())
def test_cut_anywhere_every_accepted_request_has_one_end(steps: list[tuple[int, int]], data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ids = [f"{n:032x}" for n in range(6)]
        record = Record.open(folder / "a", durability="process")
        after: list[tuple[int, str, bool]] = []
        path = named(folder / "a", 1, OPEN)

        async def story() -> None:
            seen: set[str] = set()
            for n, size in steps:
                one = ids[n]
                if one not in seen:
                    await record.accepted(accepted(one, b"x" * size))
                else:
                    await record.finished(finished(one, b"y" * size))
                after.append((path.stat().st_size, one, one in seen))
                seen.add(one)

        asyncio.run(story())
        whole = path.read_bytes()
        record.close()
        cut = data.draw(st.integers(0, len(whole)))
        (folder / "b").mkdir()
        named(folder / "b", 1, OPEN).write_bytes(whole[:cut])
        Record.open(folder / "b", durability="process").close()
        durable = [(one, end) for size, one, end in after if size <= cut]
        found = Counter((key, kind == FINISHED) for kind, key, *_ in rows(folder / "b"))
        expected = {one for one, end in durable}
        assert {key for key, end in found if not end} == expected == {key for key, end in found if end}
        assert set(found.values()) <= {1}
        normal = {key for key, end in durable if end}
        assert {key for key, end in ends(folder / "b").items() if not end[2]} == normal


SERVER = """
import asyncio, sys
from pathlib import Path
from modelyard.serving.record import Accepted, Finished, Record, request_id

def say(*words):
    sys.stdout.write(" ".join(words) + "\\n")
    sys.stdout.flush()

async def client(record):
    for i in range(1_000_000):
        one = request_id()
        await record.accepted(Accepted(one, "e", "r", "openai", 1, request=b"x" * (i % 500)))
        say("accepted", one)
        await asyncio.sleep(0.0005 * (i % 3))
        await record.finished(Finished(one, 200, 1.0, response=b"y" * (i % 500)))
        say("finished", one)

async def main():
    record = Record.open(Path(sys.argv[1]), durability=sys.argv[2], segment_bytes=30_000)
    await asyncio.gather(*(client(record) for _ in range(8)))

asyncio.run(main())
"""


@pytest.mark.parametrize("durability", ["disk", "process"])
def test_killed_at_any_moment_no_request_is_lost_or_doubled(tmp_path: Path, durability: str) -> None:
    said: list[str] = []
    for n in range(4):
        process = subprocess.Popen(
            [sys.executable, "-c", SERVER, str(tmp_path), durability], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        said += [process.stdout.readline().strip() for _ in range(60 + 170 * n)]
        os.kill(process.pid, signal.SIGKILL)
        said += [line.strip() for line in process.stdout.read().splitlines(keepends=True) if line[-1] == "\n"]
        process.wait()
    record = Record.open(tmp_path)
    assert record.counts.aborted <= 8
    record.close()
    found = Counter((kind, key) for kind, key, *_ in rows(tmp_path))
    assert set(found.values()) == {1}
    assert {key for kind, key in found if kind == ACCEPTED} == {key for kind, key in found if kind == FINISHED}
    told = {tuple(line.split()) for line in said}
    assert {one for what, one in told if what == "accepted"} <= {key for kind, key in found if kind == ACCEPTED}
    normal = {key for key, end in ends(tmp_path).items() if not end[2]}
    assert {one for what, one in told if what == "finished"} <= normal


@pytest.mark.parametrize("durability", ["disk", "disk, by the loop", "process"])
def test_on_a_full_disk_requests_are_refused_and_none_is_lost_or_doubled(
    tmp_path: Path, durability: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_module, "RETRY_SECONDS", 0.02)
    monkeypatch.setattr(log_module, "STEADY", 0 if "loop" in durability else 1 << 30)
    record = Record.open(tmp_path, durability="process" if durability == "process" else "disk")
    answered: list[str] = []
    refused: list[str] = []
    unwritten: list[str] = []

    async def ask() -> None:
        one = request_id()
        try:
            await record.accepted(accepted(one, b"x" * 700))
        except RecordFull:
            refused.append(one)
            return
        await asyncio.sleep(0)
        try:
            await record.finished(finished(one, b"y" * 900))
        except RecordFull:
            unwritten.append(one)
        else:
            answered.append(one)

    async def story() -> None:
        with no_file_over(40_000):
            for _ in range(10):
                await asyncio.gather(*(ask() for _ in range(10)))
            assert record.trouble is not None and "cannot be written" in record.trouble
            assert refused and len(answered) > 5
        while record.trouble is not None:
            await asyncio.sleep(0.01)
        await asyncio.gather(*(ask() for _ in range(10)))

    asyncio.run(story())
    record.close()
    assert record.counts.refused == len(refused) and record.counts.unwritten == len(unwritten)
    Record.open(tmp_path).close()
    found = Counter((kind, key) for kind, key, *_ in rows(tmp_path))
    assert set(found.values()) == {1}
    assert {key for kind, key in found if kind == ACCEPTED} == {*answered, *unwritten}
    assert not set(refused) & {key for _, key in found}
    assert {one for one, end in ends(tmp_path).items() if end == (200, None, False)} == set(answered)
    assert all(ends(tmp_path)[one] == (503, "RecordFull", True) for one in unwritten)


def test_over_the_limit_it_refuses_or_by_policy_counts(tmp_path: Path) -> None:
    strict = Record.open(tmp_path / "a", limit_bytes=8_000)
    loose = Record.open(tmp_path / "b", limit_bytes=8_000, when_full="unlogged")

    async def story() -> None:
        held = request_id()
        await strict.accepted(accepted(held))
        with pytest.raises(RecordFull, match="not put into tables") as refused:
            for _ in range(100):
                await strict.accepted(accepted(request_id(), b"x" * 500))
        assert refused.value.status == 503
        # What was accepted can always be finished.
        await strict.finished(finished(held, b"y" * 5_000))
        let = [await loose.accepted(accepted(request_id(), b"x" * 500)) for _ in range(30)]
        assert let.count(True) > 5 and let[-1] is False
        assert loose.counts.unlogged == let.count(False) and loose.open_requests == let.count(True)

    asyncio.run(story())
    assert strict.full and strict.trouble and strict.counts.refused == 1
    strict.close()
    loose.close()


@pytest.mark.parametrize("when_full", ["refuse", "unlogged"])
def test_for_a_disk_that_does_not_answer_nobody_waits_longer_than_a_request_may(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when_full: Any
) -> None:
    clock, hung = FakeClock(), threading.Event()
    record = Record.open(tmp_path, clock=clock, patience=20.0, when_full=when_full)
    one, two = request_id(), request_id()

    async def story() -> None:
        with monkeypatch.context() as patch:
            patch.setattr(appender, "sync", lambda file: hung.wait())
            begun = [
                asyncio.create_task(record.accepted(accepted(one))),
                asyncio.create_task(record.outcome(Outcome(one, "thumb", "up", 5))),
            ]
            await asyncio.sleep(0.01)
            clock.advance(4)
            later = asyncio.create_task(record.accepted(accepted(two)))
            await asyncio.sleep(0.01)
            clock.advance(17)
            record.sweep()
            for task in begun:
                with pytest.raises(RecordFull, match="did not answer in time") as refused:
                    await task
                assert refused.value.status == 503 and type(refused.value) is RecordFull
            assert not later.done() and "does not answer" in (record.trouble or "")
            hung.set()
            assert await later and record.trouble is None
        await record.finished(finished(two))

    asyncio.run(story())
    record.close()
    assert ends(tmp_path) == {one: (503, "RecordFull", True), two: (200, None, False)}
    assert record.open_requests == 0 and record.counts.refused == 1


def test_an_end_without_a_beginning_is_counted_and_not_written(tmp_path: Path) -> None:
    record = Record.open(tmp_path)

    async def story() -> None:
        one = request_id()
        await record.accepted(accepted(one))
        for _ in range(2):
            await record.finished(finished(one))
        await record.finished(finished(request_id()))

    asyncio.run(story())
    record.close()
    assert record.counts.strays == 2
    assert len(rows(tmp_path)) == 2


def test_a_client_that_goes_while_it_is_accepted_leaves_an_aborted_row(tmp_path: Path) -> None:
    record = Record.open(tmp_path)
    one, two = request_id(), request_id()

    async def story() -> None:
        task = asyncio.create_task(record.accepted(accepted(one)))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await record.accepted(accepted(two))
        task = asyncio.create_task(record.finished(finished(two)))  # type: ignore[arg-type]
        await asyncio.sleep(0)
        task.cancel()

    asyncio.run(story())
    record.close()
    assert ends(tmp_path) == {one: (499, "Cancelled", True), two: (200, None, False)}


def test_what_nobody_finishes_is_closed_in_the_end(tmp_path: Path) -> None:
    clock = FakeClock()
    record = Record.open(tmp_path, clock=clock, max_open=100.0)
    one, two = request_id(), request_id()

    async def story() -> None:
        await record.accepted(accepted(one))
        clock.advance(60)
        await record.accepted(accepted(two))
        clock.advance(60)
        record.sweep()
        assert record.open_requests == 1
        await record.finished(finished(one))
        await record.finished(finished(two))

    asyncio.run(story())
    record.close()
    assert ends(tmp_path) == {one: (504, "DeadlineExceeded", True), two: (200, None, False)}
    assert record.counts.strays == 1


def test_one_process_at_a_time_has_the_record(tmp_path: Path) -> None:
    record = Record.open(tmp_path)
    with pytest.raises(Busy):
        Record.open(tmp_path)
    record.close()
    assert not listed(tmp_path, OPEN)


def test_an_id_that_is_none_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    record = Record.open(tmp_path)
    for wrong in ("", "xyz", "ab" * 15, "g" * 32):
        with pytest.raises(ValueError):
            asyncio.run(record.accepted(accepted(wrong)))
    record.close()
    assert rows(tmp_path) == []


EMAIL = r"[\w.]+@[\w.]+"
CARD = r"\b\d{16}\b"


def test_by_policy_no_payload_is_kept(tmp_path: Path) -> None:
    record = Record.open(tmp_path, redaction=Redaction("drop"))
    one = request_id()

    async def story() -> None:
        await record.accepted(accepted(one, b"secret"))
        await record.finished(finished(one, b"secret"))
        await record.outcome(Outcome(one, "comment", "secret", 1))
        await record.outcome(Outcome(one, "label", "fraud", 1))

    asyncio.run(story())
    record.close()
    assert [body for *_, body in rows(tmp_path)] == [None] * 4
    assert [fields[1] for kind, _, fields, *_ in rows(tmp_path) if kind == OUTCOME] == [None, "fraud"]
    assert b"secret" not in b"".join(replay(tmp_path))


def test_what_patterns_find_is_never_on_the_disk(tmp_path: Path) -> None:
    record = Record.open(tmp_path, redaction=Redaction("patterns", [EMAIL, CARD]))
    one = request_id()
    asked = (
        '{"messages": [{"content": "I am bob\\u0040example.com"}], "card": 4111111111111111, "bob@x.org": [1, null]}'
    )

    async def story() -> None:
        await record.accepted(accepted(one, asked.encode(), unit="bob@example.com", client_id="bob@example.com"))
        await record.finished(finished(one, b"dear bob@example.com, 4111111111111111"))
        await record.outcome(Outcome(one, "comment", "ask bob@example.com", 1))

    asyncio.run(story())
    record.close()
    everything = b"".join(replay(tmp_path))
    assert b"bob" not in everything and b"4111111111111111" not in everything
    first, last, _ = rows(tmp_path)
    assert first[4] is not None
    assert json.loads(first[4]) == {
        "messages": [{"content": "I am [redacted]"}],
        "card": "[redacted]",
        "[redacted]": [1, None],
    }
    assert last[4] == b"dear [redacted], [redacted]"
    assert first[2][7].startswith("~") and first[2][4] == first[2][7]


def test_a_token_that_somebody_pasted_is_on_no_disk(tmp_path: Path) -> None:
    record, (secret, identity), one = Record.open(tmp_path), new_secret(), request_id()

    async def story() -> None:
        await record.accepted(accepted(one, f'{{"content": "my key is {secret}"}}'.encode()))
        await record.finished(finished(one, f"{secret} is no question".encode()))
        await record.outcome(Outcome(one, "comment", f"it said {secret}", 1))

    asyncio.run(story())
    record.close()
    everything = b"".join(replay(tmp_path))
    assert secret.encode() not in everything and secret[14:].encode() not in everything
    assert everything.count(f"my_{identity}_[redacted]".encode()) == 3


@pytest.mark.parametrize(
    "body",
    [b'{"a": [1.50, "text", NaN]}', b"a,b\n1,2\n", b"\xff\xfe not utf-8", b"", b'{"a": ', b"[" * 50 + b"]" * 50],
)
def test_what_patterns_do_not_find_stays_byte_for_byte(body: bytes) -> None:
    kept = Redaction("patterns", [EMAIL]).body(body)
    assert kept == (body if b"\xff" not in body else body.decode("utf-8", "backslashreplace").encode())


@pytest.mark.parametrize(
    "body", [b"[" * 200_000, b'{"a": "bob\\u0040example.com"', b'[{"a":' * 5_000 + b"1" + b"}]" * 5_000]
)
def test_what_cannot_be_looked_at_is_not_kept(body: bytes) -> None:
    kept = Redaction("patterns", [EMAIL]).body(body)
    assert kept is None or (kept == body and b"u0040" not in body)


@pytest.mark.parametrize(
    ("policy", "patterns"), [("patterns", []), ("none", ["x"]), ("drop", ["x"]), ("patterns", ["("])]
)
def test_a_policy_that_cannot_be_meant_is_refused(policy: Any, patterns: list[str]) -> None:
    with pytest.raises(UserError, match="redaction"):
        Redaction(policy, patterns)


def test_while_patterns_are_looked_for_in_a_long_body_others_have_their_turns(tmp_path: Path) -> None:
    record = Record.open(tmp_path, redaction=Redaction("patterns", [EMAIL, CARD]))
    body = json.dumps(["a few words of no interest", "bob@example.com"] * 12_000).encode()
    one, two = request_id(), request_id()

    async def turns(work: Coroutine[Any, Any, Any]) -> int:
        count, task = 0, asyncio.create_task(work)
        while not task.done():
            count += 1
            await asyncio.sleep(0)
        await task
        return count

    async def story() -> None:
        assert await turns(record.accepted(accepted(one, body))) > 20
        assert await turns(record.finished(finished(one, body))) > 20
        await record.accepted(accepted(two))
        ending = asyncio.create_task(record.finished(finished(two, body)))  # type: ignore[arg-type]
        await asyncio.sleep(0)
        ending.cancel()

    asyncio.run(story())
    record.close()
    assert b"bob@" not in b"".join(replay(tmp_path))
    assert ends(tmp_path) == {one: (200, None, False), two: (499, "Cancelled", True)}
