"""A log that survives: a row is durable before whoever appended it goes on, and many rows share one commit of the disk.

`durability="disk"`: written and synced, by a thread of the log's own, so that a slow disk stops no event loop; and
while the disk is quick by the loop itself, which saves the threads from waking each other. Survives a
killed process and a lost machine. `durability="process"`: written to the system at once, never synced. Survives a
killed process only. Not covered: a disk that says that it has written what it has not.

A folder belongs to one log at a time. Segments (`modelyard.serving.segment`) are closed when they are large enough or
when somebody asks; closed ones are nobody's but the reader's, who deletes them once they are safe elsewhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import queue
import threading
from collections.abc import Awaitable, Callable, Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from modelyard.clock import Clock, SystemClock
from modelyard.errors import RecordFull, StorageError
from modelyard.serving.appender import Appender
from modelyard.serving.disk import hold, scarce
from modelyard.serving.segment import CLOSED, FRAME_BYTES, OPEN, listed, read
from modelyard.units import show_size

log = logging.getLogger("modelyard.gateway")

Durability = Literal["disk", "process"]

SEGMENT_BYTES = 16 << 20
RETRY_SECONDS = 1.0
"""How often a log that could not be written tries again."""
LOOK_SECONDS = 0.5
"""Least time between two looks at what the reader has deleted, while the log is full."""
QUICK_SECONDS, STEADY = 0.0005, 64
"""After so many commits the loop commits itself as long as they take less on average (of the last some 16)."""
ROOM_BYTES = 1 << 20
"""With less space left than that, or a fiftieth of all, a log is full."""
LOOK_BYTES = 64 << 10
"""What may be written between two looks at the space that is left on the disk."""
STUCK_SECONDS = 5.0
"""A commit that takes longer is a disk that does not answer: nobody else is made to wait for it."""
CLOSE_SECONDS = 10.0
"""How long closing waits for such a disk."""
BACKLOG_BYTES = 64 << 20
"""Most bytes that may wait for a commit: past them the disk is too slow for what arrives."""


@dataclass
class _Batch:
    rows: list[bytes] = field(default_factory=list)
    waiters: list[tuple[asyncio.Future[None] | None, bytes | None]] = field(default_factory=list)
    turn: bool = False


class _Done:
    """An awaitable that is done."""

    def __await__(self) -> Generator[None, None, None]:
        return
        yield


_DONE = _Done()


class Log:
    """An append-only log in a folder. Append from one event loop; a thread of its own writes.

    `lost(tag)` is called, in the loop, for a row with a tag that was not written after all; `healed()` when the log can
    be written again. `trouble` says in one line why it cannot be written, None where it can.
    """

    def __init__(
        self, folder: Path, durability: Durability, segment_bytes: int, limit_bytes: int, clock: Clock
    ) -> None:
        """Use `Log.open`."""
        self.folder, self.durability, self.limit_bytes = folder, durability, limit_bytes
        self._refusal: str | None = None
        self._committing: float | None = None
        self._scarce, self._unseen = False, 0
        self.commits = self.rows = 0
        self.slowest = 0.0
        """Seconds of the slowest commit."""
        self.lost: Callable[[bytes], None] = lambda tag: None
        self.healed: Callable[[], None] = lambda: None
        self._clock = clock
        self._backlog = 0
        self._looked = -LOOK_SECONDS
        self._ended = self._shut = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._mutex = threading.Lock()  # of the batch
        self._writing = threading.Lock()  # of the file
        self._bell: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._batch, self._busy = _Batch(), False
        self._flushing: asyncio.AbstractEventLoop | None = None
        self._pace, self._paced = 0.0, 0
        """Seconds of a commit of late, and after how many."""
        self._turning = False
        self._lock = hold(folder)
        try:
            self._file = Appender(folder, durability == "disk", segment_bytes)
        except OSError as error:
            os.close(self._lock)
            raise StorageError(f"the log in {folder} cannot be written: {error.strerror}") from None
        self._thread = threading.Thread(target=self._run, name=f"log {folder.name}", daemon=True)
        self._thread.start()

    @classmethod
    def open(
        cls,
        folder: Path,
        *,
        durability: Durability = "disk",
        segment_bytes: int = SEGMENT_BYTES,
        limit_bytes: int = 1 << 30,
        clock: Clock | None = None,
    ) -> Log:
        """The log in `folder`, which is made where it is not there. What another process left open is closed.

        `limit_bytes` is what all segments together may take. Raises Busy when another log has the folder, StorageError.
        """
        return cls(folder, durability, segment_bytes, limit_bytes, clock or SystemClock())

    @property
    def trouble(self) -> str | None:
        """In one line why the log cannot be written now; None where it can."""
        since = self._committing
        if since is not None and self._clock.monotonic() - since > STUCK_SECONDS:
            return f"the disk of {self.folder} does not answer"
        if self._scarce and self._refusal is None:
            return f"the disk of {self.folder} is all but full"
        return self._refusal

    @property
    def size(self) -> int:
        """Bytes of all segments, and of what waits to be written."""
        return self._file.closed_bytes + self._file.offset + self._backlog

    @property
    def closed_bytes(self) -> int:
        """Bytes of the segments that wait for their reader, when it was last looked."""
        return self._file.closed_bytes

    @property
    def full(self) -> bool:
        """Whether there is hardly space for a row, or none."""
        most = self.limit_bytes - min(ROOM_BYTES, self.limit_bytes // 50)
        return self.size >= most and self._look() >= most

    def look(self) -> None:
        """See what the reader has deleted, unless that was done just now, or the disk takes its time."""
        now, since = self._clock.monotonic(), self._committing
        if now - self._looked >= LOOK_SECONDS and (since is None or now - since < LOOK_SECONDS):
            self._looked = now
            with contextlib.suppress(OSError):
                self._file.look()
                self._scarce, self._unseen = scarce(self.folder), 0

    def append(self, row: bytes, *, tag: bytes | None = None, beyond: bool = False) -> Awaitable[None]:
        """Await it: then the row is durable. A caller that is cancelled meanwhile does not take the row back.

        `beyond` the limit: for a row that ends what was begun within it. Raises RecordFull at once when there is no
        space for the row; awaiting it raises RecordFull where it could not be written: then it is not in the log.
        """
        self._admit(len(row), beyond)
        self._loop = loop = asyncio.get_running_loop()
        if self.durability == "process":
            self._put_now(row, tag)
            return _DONE
        future: asyncio.Future[None] = loop.create_future()
        if not self._enqueue(row, future, tag):
            raise RecordFull("the log is closed")
        return future

    def post(self, row: bytes, tag: bytes) -> None:
        """Append without waiting, beyond the limit; `lost(tag)` is called if that came to nothing."""
        if self._ended:
            self.lost(tag)
        elif self.durability == "process":
            with contextlib.suppress(RecordFull):
                self._put_now(row, tag)
        elif not self._enqueue(row, None, tag):
            self.lost(tag)

    def write(self, rows: list[bytes]) -> None:
        """Append now, in this thread, all or none. Raises RecordFull."""
        if rows:
            self._commit(_Batch(rows, []), raising=True)

    async def turn(self) -> None:
        """Close the segment that is written to, if anything is in it: its reader may have it. Raises nothing."""
        self._loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = self._loop.create_future()
        if self._ask_turn(future):
            with contextlib.suppress(RecordFull):
                await future

    def close(self) -> None:
        """Write what waits, close the segment, give the folder back. Doing it again is no error. A disk that does not
        answer is not waited for longer than CLOSE_SECONDS: then the folder stays this process's, and what was written
        is read by who opens it next."""
        with self._mutex:
            if self._ended:
                return
            self._ended = True
        self._bell.put(None)
        self._thread.join(timeout=CLOSE_SECONDS)
        if self._thread.is_alive():
            log.error("the log in %s is not closed in order: its disk does not answer", self.folder)
        else:
            os.close(self._lock)

    # Taking rows in: the loop's side.

    def _admit(self, length: int, beyond: bool) -> None:
        if self._ended:
            raise RecordFull("the log is closed")
        if not beyond and (self._committing is not None or self._scarce):
            if self._scarce:
                self.look()
            if (trouble := self.trouble) != self._refusal:
                raise RecordFull(str(trouble))
        if self._backlog > BACKLOG_BYTES:
            raise RecordFull(f"{show_size(self._backlog)} wait to be written: the disk is slower than what arrives")
        need = length + FRAME_BYTES
        if not beyond and self.size + need > self.limit_bytes and self._look() + need > self.limit_bytes:
            raise RecordFull(
                f"{show_size(self.size)} are not put into tables yet, {show_size(self.limit_bytes)} may be"
            )

    def _look(self) -> int:
        self.look()
        return self.size

    def _enqueue(self, row: bytes, future: asyncio.Future[None] | None, tag: bytes | None) -> bool:
        """Whether it will be written, or refused, at all: a log may be closed by another thread at any moment."""
        loop = self._loop
        with self._mutex:
            if self._ended:
                return False
            batch = self._batch
            batch.rows.append(row)
            batch.waiters.append((future, tag))
            self._backlog += len(row)
            if self._busy or (self._flushing is not None and self._flushing is loop):
                return True
            here = self._paced >= STEADY and self._pace < QUICK_SECONDS and loop is not None
            self._busy, self._flushing = not here, loop if here else None
        if here and loop is not None:
            loop.call_soon(self._flush)  # with what else arrives in this turn of the loop
        else:
            self._bell.put(None)
        return True

    def _flush(self) -> None:
        with self._mutex:
            batch, self._batch = self._batch, _Batch()
            self._flushing = None
        if batch.waiters:
            self._commit(batch, here=True)

    def _ask_turn(self, future: asyncio.Future[None] | None) -> bool:
        with self._mutex:
            if self._ended:
                return False
            self._batch.turn = True
            self._batch.waiters.append((future, None))
            ring, self._busy = not self._busy, True
        if ring:
            self._bell.put(None)
        return True

    def _put_now(self, row: bytes, tag: bytes | None) -> None:
        try:
            self._commit(_Batch([row], []), raising=True)
        except RecordFull:
            if tag is not None:
                self.lost(tag)
            raise

    # Writing: the thread's side.

    def _run(self) -> None:
        self._write_on()
        with self._writing, contextlib.suppress(OSError):
            self._shut = True
            self._file.close()

    def _write_on(self) -> None:
        while True:
            try:
                self._bell.get(timeout=RETRY_SECONDS if self._refusal else None)
            except queue.Empty:
                self._commit(_Batch([b""], []))  # may it be written again?
            while True:
                with self._mutex:
                    batch = self._batch
                    if not batch.waiters:
                        if self._ended:  # under the mutex: nothing is taken in any more
                            return
                        self._busy = False
                        break
                    self._batch = _Batch()
                self._commit(batch)

    def _commit(self, batch: _Batch, raising: bool = False, here: bool = False) -> None:
        """`raising`: in the caller's thread. `here`: in the loop's."""
        refusal, was, turn = None, self._refusal, batch.turn
        self._committing = started = self._clock.monotonic()
        try:
            with self._writing:
                if self._shut:  # its file's number may be another file's by now
                    raise ValueError("it is closed")
                if batch.rows:
                    self._file.write(batch.rows)
                    self.commits += 1
                    self.rows += len(batch.rows)
                    self._refusal = None
                turn = turn or self._file.due
                if turn and not (here or raising):
                    with contextlib.suppress(OSError):
                        self._file.turn()  # else a segment grows longer than planned
                    self._turning = False
        except Exception as error:  # noqa: BLE001 - whatever it is, those who wait have to be told
            why = getattr(error, "strerror", None) or error or type(error).__name__
            refusal = self._refusal = f"the log in {self.folder} cannot be written: {why}"
        took, self._committing = self._clock.monotonic() - started, None
        self.slowest = max(self.slowest, took)
        if batch.rows:
            self._paced = 0 if refusal else self._paced + 1
            self._pace += (took - self._pace) / 16
        self._unseen += sum(map(len, batch.rows))
        if self._unseen > LOOK_BYTES:
            with contextlib.suppress(OSError):
                self._scarce, self._unseen = scarce(self.folder), 0
        if not (here or raising):
            self._file.tidy()
        elif turn and not self._turning:
            self._turning = True
            self._ask_turn(None)
        if here:
            self._settle(batch, refusal)
        elif batch.waiters:
            self._tell(self._settle, batch, refusal)
        if was and not refusal and batch.rows:
            self._tell(self.healed)
        if refusal and not was:
            self._bell.put(None)  # so that the thread begins to try again
        if refusal and raising:
            raise RecordFull(refusal)

    def _settle(self, batch: _Batch, refusal: str | None) -> None:
        self._backlog -= sum(map(len, batch.rows))
        for future, tag in batch.waiters:
            if refusal is not None and tag is not None:
                self.lost(tag)
            if future is None or future.done():
                continue
            if refusal is None:
                future.set_result(None)
            else:
                future.set_exception(RecordFull(refusal))

    def _tell(self, what: Callable[..., None], *args: object) -> None:
        """Call it in the loop; whose loop is closed waits for nothing any more."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(what, *args)


def replay(folder: Path) -> Iterator[bytes]:
    """The rows of all segments in `folder`, oldest first. Raises OSError."""
    for path in sorted([*listed(folder, CLOSED), *listed(folder, OPEN)]):
        segment = read(path)
        yield from map(bytes, segment.rows if segment is not None else ())
