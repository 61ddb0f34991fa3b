"""The log: what was appended and awaited is there, once, whatever was cut, killed, full or damaged."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.clock import FakeClock
from modelyard.errors import Busy, RecordFull, StorageError
from modelyard.serving import appender
from modelyard.serving import log as log_module
from modelyard.serving.log import Durability, Log, replay
from modelyard.serving.segment import CLOSED, DAMAGED, FRAME_BYTES, HEAD_BYTES, OPEN, Head, decode, listed, named, read


@pytest.fixture(params=["disk", "disk, by the loop", "process"])
def durability(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Durability:
    monkeypatch.setattr(log_module, "STEADY", 0 if "loop" in request.param else 1 << 30)
    monkeypatch.setattr(log_module, "QUICK_SECONDS", 1e9)
    return "process" if request.param == "process" else "disk"


async def append(log: Log, *rows: bytes) -> None:
    for row in rows:
        await log.append(row)


def segment_bytes(folder: Path, *rows: bytes) -> bytes:
    log = Log.open(folder)
    log.write(list(rows))
    data = named(folder, 1, OPEN).read_bytes()
    log.close()
    return data


@contextmanager
def no_file_over(size: int) -> Iterator[None]:
    """The disk as full as a process can make it for itself: a write past `size` is cut short, then refused."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


async def until(what: object) -> None:
    """Wait for `what()`, for as long as it takes (the test's own limit ends it)."""
    while not what():  # type: ignore[operator]
        await asyncio.sleep(0.01)


def test_what_was_appended_is_there_in_order(tmp_path: Path, durability: Durability) -> None:
    rows = [b"%d" % i * (i % 7) for i in range(1, 200)]
    log = Log.open(tmp_path, durability=durability)
    asyncio.run(append(log, *rows))
    assert list(replay(tmp_path)) == [row for row in rows if row]
    log.close()
    assert list(replay(tmp_path)) == [row for row in rows if row]
    assert not listed(tmp_path, OPEN)


def test_callers_share_commits(tmp_path: Path, durability: Durability) -> None:
    if durability == "process":
        pytest.skip("written one by one: there is nothing to share")
    log = Log.open(tmp_path)

    async def many() -> None:
        await asyncio.gather(*(append(log, b"%d" % i) for i in range(500)))

    asyncio.run(many())
    assert log.rows == 500 and log.commits < 100
    assert sorted(map(int, replay(tmp_path))) == list(range(500))
    log.close()


def test_opened_again_it_goes_on_in_a_new_segment_of_a_new_epoch(tmp_path: Path) -> None:
    for i in range(3):
        log = Log.open(tmp_path)
        log.write([b"%d" % i])
        log.close()
    segments = [read(path) for path in listed(tmp_path, CLOSED)]
    assert [s.head.number for s in segments if s] == [1, 2, 3]
    assert len({s.head.epoch for s in segments if s}) == 3
    assert list(replay(tmp_path)) == [b"0", b"1", b"2"]


def test_an_empty_log_leaves_nothing_behind(tmp_path: Path) -> None:
    Log.open(tmp_path).close()
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]


def test_cut_at_any_byte_every_row_before_the_cut_is_there(tmp_path: Path) -> None:
    rows = [b"a", b"bb" * 20, b"\x00", b"x" * 50, "é{}".encode()]
    data = segment_bytes(tmp_path, *rows)
    ends = []
    at = HEAD_BYTES
    for row in rows:
        at += FRAME_BYTES + len(row)
        ends.append(at)
    assert ends[-1] == len(data)
    for cut in range(HEAD_BYTES, len(data) + 1):
        segment = decode(data[:cut])
        assert segment is not None
        whole = [row for row, end in zip(rows, ends, strict=True) if end <= cut]
        assert [bytes(row) for row in segment.rows] == whole
        assert segment.lost == 0 and segment.cut == cut - max([HEAD_BYTES, *(end for end in ends if end <= cut)])
    assert all(decode(data[:cut]) is None for cut in range(HEAD_BYTES))


def test_a_cut_log_opens_and_goes_on(tmp_path: Path) -> None:
    data = segment_bytes(tmp_path / "whole", b"first", b"second")
    for cut in range(len(data) + 1):
        folder = tmp_path / str(cut)
        folder.mkdir()
        named(folder, 1, OPEN).write_bytes(data[:cut])
        log = Log.open(folder, durability="process")
        log.write([b"third"])
        log.close()
        found = list(replay(folder))
        assert found[-1] == b"third" and found[:-1] in ([], [b"first"], [b"first", b"second"])
        assert (b"second" in found) == (cut == len(data))


def test_a_damaged_byte_costs_one_row_at_most_and_is_counted(tmp_path: Path) -> None:
    rows = [b"first row", b"second row", b"third row", b"fourth row"]
    data = segment_bytes(tmp_path, *rows)
    for at in range(HEAD_BYTES, len(data)):
        damaged = bytearray(data)
        damaged[at] ^= 0x55
        segment = decode(bytes(damaged))
        assert segment is not None and (segment.lost > 0) != (segment.cut > 0)
        missing = [row for row in rows if row not in map(bytes, segment.rows)]
        assert len(missing) == 1 and len(segment.rows) == 3


def test_a_segment_whose_head_is_damaged_is_kept_aside(tmp_path: Path) -> None:
    data = bytearray(segment_bytes(tmp_path / "whole", b"row"))
    data[20] ^= 1
    folder = tmp_path / "log"
    folder.mkdir()
    named(folder, 7, OPEN).write_bytes(data)
    log = Log.open(folder)
    assert [path.stem for path in listed(folder, DAMAGED)] == ["0000000000000007"]
    log.write([b"new"])
    log.close()
    assert [path.stem for path in listed(folder, CLOSED)] == ["0000000000000008"]


def framed(*rows: bytes) -> bytes:
    head = Head.new("ab" * 16, 1)
    return head.encode() + b"".join(head.frame(row) + row for row in rows)


@given(st.data())
def test_what_a_caller_sends_is_never_taken_for_a_frame(data: st.DataObject) -> None:
    # A row that holds a whole segment of another log, cut so that the outer frame is not whole.
    inner = framed(b"forged", b"forged too")
    outer = framed(inner, b"last")
    cut = data.draw(st.integers(HEAD_BYTES, HEAD_BYTES + FRAME_BYTES + len(inner) - 1))
    segment = decode(outer[:cut])
    assert segment is not None and segment.rows == ()


WRITER = """
import asyncio, sys
from pathlib import Path
from modelyard.serving.log import Log

async def client(log, name):
    for i in range(1_000_000):
        row = f"{name}-{i}"
        await log.append(row.encode() + b" " * (i % 300))
        sys.stdout.write(row + "\\n")
        sys.stdout.flush()

async def main():
    log = Log.open(Path(sys.argv[1]), durability=sys.argv[2], segment_bytes=20_000)
    await asyncio.gather(*(client(log, name) for name in "abcd"))

asyncio.run(main())
"""


def test_killed_at_any_moment_every_acknowledged_row_is_there_once(tmp_path: Path, durability: Durability) -> None:
    acknowledged: list[str] = []
    for n in range(4):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER.replace('"{name}', f'"{n}{{name}}').replace('f"{name}-', f'f"{n}{{name}}-')]
            + [str(tmp_path), durability],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        for _ in range(40 + 150 * n):
            acknowledged.append(process.stdout.readline().strip())
        os.kill(process.pid, signal.SIGKILL)
        acknowledged += [line.strip() for line in process.stdout.read().splitlines(keepends=True) if line[-1] == "\n"]
        process.wait()
    Log.open(tmp_path).close()
    found = [row.decode().strip() for row in replay(tmp_path)]
    assert len(set(found)) == len(found)
    assert set(acknowledged) <= set(found)
    # Beyond what was acknowledged there is at most what was under way.
    assert len(found) - len(acknowledged) <= 4 * 4


def test_one_log_at_a_time_has_a_folder(tmp_path: Path) -> None:
    log = Log.open(tmp_path)
    with pytest.raises(Busy, match="another process"):
        Log.open(tmp_path)
    code = f"from pathlib import Path; from modelyard.serving.log import Log; Log.open(Path({str(tmp_path)!r}))"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert other.returncode == 1 and "Busy" in other.stderr
    log.close()
    log.close()
    Log.open(tmp_path).close()


def test_a_folder_that_cannot_be_written_is_an_error_of_ours(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot be written"):
        Log.open(tmp_path / "file" / "log")


def test_over_the_limit_is_refused_until_the_reader_made_room(tmp_path: Path, durability: Durability) -> None:
    clock = FakeClock()
    log = Log.open(tmp_path, durability=durability, segment_bytes=2_000, limit_bytes=10_000, clock=clock)

    async def fill() -> int:
        count = 0
        while True:
            try:
                await log.append(b"x" * 100)
            except RecordFull as error:
                assert "not put into tables yet" in str(error) and error.status == 503 and error.retry
                return count
            count += 1

    async def story() -> None:
        first = await fill()
        assert first > 50 and log.full and log.size <= 10_000
        await log.append(b"ends what was begun", beyond=True)
        await log.turn()
        for path in listed(tmp_path, CLOSED)[:3]:
            path.unlink()
        clock.advance(1)
        assert not log.full
        assert await fill() > 20

    asyncio.run(story())
    log.close()


def test_the_log_closes_a_segment_when_asked_to_and_when_it_is_large(tmp_path: Path, durability: Durability) -> None:
    log = Log.open(tmp_path, durability=durability, segment_bytes=1_000)

    async def story() -> None:
        await log.turn()
        assert not listed(tmp_path, CLOSED)  # there was nothing in it
        await log.append(b"one")
        await log.turn()
        assert len(listed(tmp_path, CLOSED)) == 1
        while len(listed(tmp_path, CLOSED)) < 3:
            await append(log, b"x" * 200)
            await asyncio.sleep(0)

    asyncio.run(story())
    log.close()
    heads = [read(path) for path in listed(tmp_path, CLOSED)]
    assert [s.head.number for s in heads if s] == [n + 1 for n in range(len(heads))]
    assert len({s.head.epoch for s in heads if s}) == 1


def test_a_full_disk_refuses_says_so_and_recovers(
    tmp_path: Path, durability: Durability, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_module, "RETRY_SECONDS", 0.02)
    log = Log.open(tmp_path, durability=durability)
    lost: list[bytes] = []
    healed: list[bool] = []
    log.lost, log.healed = lost.append, lambda: healed.append(True)
    written: list[bytes] = []

    async def write(row: bytes, tag: bytes | None = None) -> None:
        await log.append(row, tag=tag)
        written.append(row)

    async def story() -> None:
        with no_file_over(30_000):
            with pytest.raises(RecordFull, match="cannot be written"):
                for i in range(1_000):
                    await write(b"%d" % i + b"-" * 400, b"tag %d" % i)
            refused = len(written)
            assert lost == [b"tag %d" % refused]
            assert log.trouble is not None
            log.post(b"x" * 1_000, b"posted")
            await until(lambda: b"posted" in lost)
            assert not healed
        await until(lambda: log.trouble is None and healed)
        await write(b"and on")

    asyncio.run(story())
    log.close()
    assert list(replay(tmp_path)) == written


def test_some_of_the_disk_is_left_for_whoever_makes_room(
    tmp_path: Path, durability: Durability, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = FakeClock()
    log = Log.open(tmp_path, durability=durability, clock=clock)
    full = False
    monkeypatch.setattr(log_module, "scarce", lambda folder: full)
    written = 0

    async def story() -> None:
        nonlocal full, written
        await log.append(b"before")
        full = True
        with pytest.raises(RecordFull, match="all but full"):
            while True:
                await log.append(b"x" * 1_000)
                written += 1
        assert log.trouble is not None and 60 <= written <= 70
        await log.append(b"ends what was begun", beyond=True)
        full = False
        clock.advance(1)
        await log.append(b"after")
        assert log.trouble is None

    asyncio.run(story())
    log.close()
    assert len(list(replay(tmp_path))) == written + 3


def test_a_large_row_that_did_not_fit_leaves_no_part_of_it(tmp_path: Path, durability: Durability) -> None:
    log = Log.open(tmp_path, durability=durability)

    async def story() -> None:
        await log.append(b"before")
        with no_file_over(5_000), pytest.raises(RecordFull):
            await log.append(b"x" * 50_000)
        assert named(tmp_path, 1, OPEN).stat().st_size == HEAD_BYTES + FRAME_BYTES + 6
        await log.append(b"after")

    asyncio.run(story())
    log.close()
    assert list(replay(tmp_path)) == [b"before", b"after"]


def test_after_a_sync_that_failed_no_row_goes_into_that_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = Log.open(tmp_path)

    def broken(file: int) -> None:
        raise OSError(5, "Input/output error")

    async def story() -> None:
        await log.append(b"before")
        with monkeypatch.context() as patch:
            patch.setattr(appender, "sync", broken)
            for _ in range(2):
                with pytest.raises(RecordFull, match="Input/output error"):
                    await log.append(b"refused")
        await log.append(b"after")

    asyncio.run(story())
    log.close()
    assert list(replay(tmp_path)) == [b"before", b"after"]
    assert len(listed(tmp_path, CLOSED)) == 2


def test_a_disk_that_does_not_answer_makes_nobody_else_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, hung = FakeClock(), threading.Event()
    log = Log.open(tmp_path, clock=clock)

    def hangs(file: int) -> None:
        hung.wait()

    async def story() -> None:
        with monkeypatch.context() as patch:
            patch.setattr(appender, "sync", hangs)
            first = asyncio.create_task(append(log, b"first"))
            await until(lambda: log._committing is not None)
            second = asyncio.create_task(append(log, b"second"))
            await asyncio.sleep(0.01)
            assert log.trouble is None
            clock.advance(6)
            assert log.trouble is not None and "does not answer" in log.trouble
            with pytest.raises(RecordFull, match="does not answer"):
                await log.append(b"refused")
            hung.set()
            await asyncio.gather(first, second)
        assert log.trouble is None

    asyncio.run(story())
    log.close()
    assert list(replay(tmp_path)) == [b"first", b"second"]


def test_closing_does_not_wait_for_ever_for_a_disk_that_does_not_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    hung, log = threading.Event(), Log.open(tmp_path)
    monkeypatch.setattr(log_module, "CLOSE_SECONDS", 0.1)

    async def story() -> None:
        with monkeypatch.context() as patch:
            patch.setattr(appender, "sync", lambda file: hung.wait())
            waiting = asyncio.create_task(append(log, b"first"))
            await until(lambda: log._committing is not None)
            log.close()
            assert "its disk does not answer" in caplog.text
            with pytest.raises(Busy):  # it may still write: nobody else may have the folder
                Log.open(tmp_path)
            with pytest.raises(RecordFull, match="closed"):
                await log.append(b"late")
            hung.set()
            await waiting  # what waited is told

    asyncio.run(story())
    log._thread.join()
    assert list(replay(tmp_path)) == [b"first"] and not listed(tmp_path, OPEN)


@given(st.lists(st.binary(min_size=1, max_size=30), max_size=6), st.data())
def test_of_a_file_that_anything_was_done_to_only_rows_that_were_written_are_read(
    written: list[bytes], data: st.DataObject
) -> None:
    whole = framed(*written)
    pieces = data.draw(st.lists(st.tuples(st.integers(0, len(whole)), st.integers(0, len(whole))), max_size=4))
    mixed = bytearray(b"".join(whole[min(pair) : max(pair)] for pair in pieces) if pieces else whole)
    for at in data.draw(st.lists(st.integers(0, max(len(mixed) - 1, 0)), max_size=3)) if mixed else []:
        mixed[at] ^= 1 + data.draw(st.integers(0, 254))
    for candidate in (bytes(mixed), whole[:HEAD_BYTES] + bytes(mixed)):
        segment = decode(candidate)
        if segment is not None:
            assert set(map(bytes, segment.rows)) <= set(written)
            held = sum(FRAME_BYTES + len(row) for row in segment.rows)
            assert HEAD_BYTES + held + segment.lost + segment.cut == len(candidate)


def test_a_caller_that_is_cancelled_takes_nothing_back(tmp_path: Path) -> None:
    log = Log.open(tmp_path)

    async def story() -> None:
        task = asyncio.create_task(append(log, b"cancelled"))
        await asyncio.sleep(0)
        task.cancel()
        await log.append(b"other")

    asyncio.run(story())
    log.close()
    assert list(replay(tmp_path)) == [b"cancelled", b"other"]


def test_closing_writes_what_waits_and_a_closed_log_refuses(tmp_path: Path, durability: Durability) -> None:
    log = Log.open(tmp_path, durability=durability)

    async def story() -> None:
        waiting = [log.append(b"%d" % i) for i in range(10)]
        log.close()
        for one in waiting:
            await one
        with pytest.raises(RecordFull, match="closed"):
            await log.append(b"late")
        await log.turn()

    asyncio.run(story())
    assert list(replay(tmp_path)) == [b"%d" % i for i in range(10)]


def test_a_log_that_another_thread_closes_answers_everybody(tmp_path: Path, durability: Durability) -> None:
    async def story(folder: Path) -> None:
        log = Log.open(folder, durability=durability)
        written: list[bytes] = []

        async def client(name: int) -> None:
            number = 0
            with pytest.raises(RecordFull, match="closed"):
                while True:
                    await log.append(row := b"%d %d" % (name, number))
                    written.append(row)
                    await asyncio.sleep(0)
                    number += 1

        clients = [asyncio.create_task(client(name)) for name in range(4)]
        await asyncio.sleep(0.005)
        await asyncio.gather(asyncio.to_thread(log.close), *clients)
        assert sorted(replay(folder)) == sorted(written)

    for i in range(20):
        asyncio.run(asyncio.wait_for(story(tmp_path / str(i)), 20))


def test_a_closed_log_writes_into_nobody_elses_file(tmp_path: Path) -> None:
    log = Log.open(tmp_path / "log")
    log.close()
    with contextlib.ExitStack() as stack:
        # Files get the smallest numbers that are free: one of these has the number that the log's had.
        others = [stack.enter_context((tmp_path / f"{i}").open("w")) for i in range(8)]
        with pytest.raises(RecordFull, match="closed"):
            log.write([b"row"])
        assert not any(Path(other.name).stat().st_size for other in others)


def test_nobody_else_can_read_it(tmp_path: Path) -> None:
    log = Log.open(tmp_path / "log")
    assert (tmp_path / "log").stat().st_mode & 0o077 == 0
    assert all(path.stat().st_mode & 0o077 == 0 for path in (tmp_path / "log").iterdir())
    log.close()


def test_two_loops_after_one_another_may_use_it(tmp_path: Path, durability: Durability) -> None:
    log = Log.open(tmp_path, durability=durability)

    async def in_haste(row: bytes) -> None:
        await log.append(row + b" awaited")
        log.post(row + b" left behind", b"tag")  # the loop ends before anybody could write it

    for i in range(3):
        asyncio.run(in_haste(b"%d" % i))
    log.close()
    assert sorted(replay(tmp_path)) == [b"%d %s" % (i, how) for i in range(3) for how in (b"awaited", b"left behind")]


def test_rows_of_one_caller_keep_their_order_however_they_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_module, "STEADY", 2)
    log = Log.open(tmp_path, segment_bytes=2_000)

    async def client(name: bytes) -> None:
        for i in range(200):
            # Now and then the disk seems slow, and the thread takes over.
            monkeypatch.setattr(log_module, "QUICK_SECONDS", 1e9 if i % 7 else 0)
            await log.append(b"%s %d" % (name, i))

    async def story() -> None:
        await asyncio.gather(*(client(name) for name in (b"a", b"b", b"c", b"d")))

    asyncio.run(story())
    log.close()
    found = [row.split() for row in replay(tmp_path)]
    for name in (b"a", b"b", b"c", b"d"):
        assert [int(i) for who, i in found if who == name] == list(range(200))
