"""The record of an endpoint: no request is answered that is not written down, before and after.

`await record.accepted(...)` before the model is entered, `await record.finished(...)` before the last byte of the
answer: when they return, the row is durable. Where either is refused, refuse the request. What was accepted and not
finished when a process ended is closed as aborted by the next one. Rows go into a log of their own folder, and from
there into tables by another process (`python -m modelyard.fold`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from modelyard.clock import Clock, SystemClock
from modelyard.errors import RecordFull
from modelyard.serving.aside import ASIDE_BYTES, aside
from modelyard.serving.log import SEGMENT_BYTES, Durability, Log
from modelyard.serving.recall import Recall
from modelyard.serving.redact import Redaction
from modelyard.serving.rows import (
    ACCEPTED,
    FINISHED,
    Accepted,
    Finished,
    Outcome,
    encode,
    encode_outcome,
    kind_and_key,
    request_id,
)
from modelyard.serving.segment import CLOSED, DAMAGED, listed, read

__all__ = ["Accepted", "Counts", "Finished", "Outcome", "Record", "Redaction", "WhenFull", "request_id"]

R = TypeVar("R", Accepted, Finished)
WhenFull = Literal["refuse", "unlogged"]

MAX_PAYLOAD = 1 << 20
"""Bytes of a request, or of a response, that are kept; a longer one is left out, and a code says so."""
MAX_OPEN_SECONDS = 3600.0
"""A request that was accepted longer ago than that is closed as aborted: nobody is going to finish it."""
PATIENCE_SECONDS = 60.0
REQUEST_LEFT_OUT = "MAX_REQUEST_SIZE_EXCEEDED"
RESPONSE_LEFT_OUT = "MAX_RESPONSE_SIZE_EXCEEDED"


@dataclass
class Counts:
    """Since the record was opened. `aborted`: closed for a process that ended, or a client that went away while its
    row was written. `refused`: not accepted, as nothing could be recorded. `unlogged`: let through all the same.
    `unwritten`: answered with an error, as their end could not be recorded in time. `strays`: ends of requests that
    were not open."""

    accepted: int = 0
    finished: int = 0
    outcomes: int = 0
    aborted: int = 0
    refused: int = 0
    unlogged: int = 0
    unwritten: int = 0
    strays: int = 0


class _Late(RecordFull):
    """A row that is not on the disk in time, and may be some time."""


class Record:
    """Opened by `Record.open`; used from one event loop."""

    def __init__(
        self,
        log: Log,
        clock: Clock,
        when_full: WhenFull,
        redaction: Redaction,
        most: tuple[int, int],
        max_open: float,
        patience: float,
    ) -> None:
        """Use `Record.open`."""
        self.log, self.counts, self.recall = log, Counts(), Recall()
        self._when_full, self._redaction, self._clock = when_full, redaction, clock
        self._max_request, self._max_response = most
        self._max_open = max_open
        self._patience = patience
        self._waiting: dict[asyncio.Future[None], float] = {}
        """What a disk has to write before something begins, and since when."""
        self._open: dict[bytes, float] = {}
        self._owed: dict[bytes, None] = {}
        """Requests whose end could not be written. It is as soon as something can be again."""
        log.lost, log.healed = self._owe, self._pay

    @classmethod
    def open(
        cls,
        folder: Path,
        *,
        durability: Durability = "disk",
        limit_bytes: int = 1 << 30,
        when_full: WhenFull = "refuse",
        redaction: Redaction | None = None,
        max_request: int = MAX_PAYLOAD,
        max_response: int = MAX_PAYLOAD,
        max_open: float = MAX_OPEN_SECONDS,
        patience: float = PATIENCE_SECONDS,
        segment_bytes: int = SEGMENT_BYTES,
        clock: Clock | None = None,
    ) -> Record:
        """The record in `folder`; what another process left open is closed as aborted. Sizes in bytes, times in
        seconds; `max_open` must be more than any request may take, `patience` is how long one waits for the disk before
        it is refused (`sweep` looks). Raises Busy when another process has the folder,
        StorageError.
        """
        clock = clock or SystemClock()
        log = Log.open(folder, durability=durability, segment_bytes=segment_bytes, limit_bytes=limit_bytes, clock=clock)
        try:
            record = cls(
                log, clock, when_full, redaction or Redaction(), (max_request, max_response), max_open, patience
            )
            record._close_orphans(_open_in(folder))
        except BaseException:
            log.close()
            raise
        return record

    @property
    def full(self) -> bool:
        """Whether hardly a request can be recorded for want of space."""
        return self.log.full

    @property
    def trouble(self) -> str | None:
        """In one line why nothing can be recorded now; None where it can."""
        if self.log.trouble is None and self.full:
            return "the record is full: what it holds has to be put into tables first"
        return self.log.trouble

    @property
    def refuses(self) -> str | None:
        """Why requests are refused now for want of a record; None where they are not."""
        return self.trouble if self._when_full == "refuse" else None

    @property
    def open_requests(self) -> int:
        """How many were accepted and are not finished."""
        return len(self._open)

    @property
    def unreadable(self) -> int:
        """Files of the record that were damaged, in part or whole, and are kept aside."""
        return len(listed(self.log.folder, DAMAGED))

    async def accepted(self, row: Accepted) -> bool:
        """Write that a request is going to be answered. True: it must be `finished`, whatever becomes of it. False:
        it goes unrecorded, by policy.

        Raises RecordFull. A caller that is cancelled meanwhile needs no `finished`.
        """
        key = bytes.fromhex(row.id)
        data = self._accepted(row) if self._quick(row.request) else await self._aside(self._accepted, row)
        try:
            await self._durable(data)
        except _Late as late:
            self._abort(key, 503, "RecordFull")  # it may be written yet
            self.counts.refused += 1
            raise RecordFull(str(late)) from None
        except RecordFull:
            if self._when_full == "refuse":
                self.counts.refused += 1
                raise
            self.counts.unlogged += 1
            return False
        except asyncio.CancelledError:
            self._abort(key, 499, "Cancelled")
            raise
        self._open[key] = self._clock.monotonic()
        self.counts.accepted += 1
        self.recall.keep(key, data)
        return True

    async def finished(self, row: Finished) -> None:
        """Write how a request ended. What is not open is only counted.

        Raises RecordFull: then nobody may get the answer, and the row says so as soon as it can be written.
        """
        key = bytes.fromhex(row.id)
        try:
            data = self._finished(row) if self._quick(row.response) else await self._aside(self._finished, row)
        except asyncio.CancelledError:
            if self._open.pop(key, None) is not None:
                self._abort(key, 499, "Cancelled")
            raise
        if self._open.pop(key, None) is None:
            self.counts.strays += 1
            return
        try:
            await self.log.append(data, tag=key, beyond=True)
        except RecordFull:
            self._owe(key)
            self.counts.unwritten += 1
            raise
        self.counts.finished += 1
        self.recall.keep(key, data)
        if self._owed:
            self._pay()

    async def outcome(self, row: Outcome) -> None:
        """Write what turned out true of a request. Raises RecordFull."""
        value = self._redaction.comment(row.value) if row.kind == "comment" else row.value
        try:
            await self._durable(encode_outcome(row._replace(value=value)))
        except _Late as late:
            raise RecordFull(str(late)) from None
        self.counts.outcomes += 1

    def sweep(self) -> None:
        """Close as aborted what nobody finished in time, write what is owed, and see what is in tables by now. To be
        called every second or so."""
        self.log.look()
        now = self._clock.monotonic()
        for waiting in [waiting for waiting, since in self._waiting.items() if since < now - self._patience]:
            if not waiting.done():
                waiting.set_exception(_Late(f"the disk of {self.log.folder} did not answer in time"))
        before = now - self._max_open
        for key in [key for key, since in self._open.items() if since < before]:
            del self._open[key]
            self._abort(key, 504, "DeadlineExceeded")
        if self._owed:
            self._pay()

    async def turn(self) -> None:
        """Let what was written so far be put into tables."""
        await self.log.turn()

    def close(self) -> None:
        """Give the folder back. What is still open is closed as aborted by who opens it next."""
        self.log.close()

    async def _durable(self, row: bytes) -> None:
        """Raises _Late where the disk takes longer than any request may: the row may be written afterwards."""
        waiting = self.log.append(row)
        if not isinstance(waiting, asyncio.Future):
            await waiting
            return
        self._waiting[waiting] = self._clock.monotonic()
        try:
            await waiting
        finally:
            del self._waiting[waiting]

    def _quick(self, body: bytes | None) -> bool:
        return body is None or len(body) <= ASIDE_BYTES or self._redaction.policy != "patterns"

    async def _aside(self, encoded: Callable[[R], bytes], row: R) -> bytes:
        return await aside(len(row[-1] or b""), encoded, row)

    def _accepted(self, row: Accepted) -> bytes:
        codes: tuple[str, ...] = ()
        body = row.request
        if body is not None and len(body) > self._max_request:
            row, codes = row._replace(request=None), (REQUEST_LEFT_OUT,)
        elif (kept := self._redaction.body(body)) is not body:
            row = row._replace(request=kept)
        if self._redaction.policy == "patterns":
            name = self._redaction.name
            row = row._replace(unit=name(row.unit), client_id=None if row.client_id is None else name(row.client_id))
        return encode(ACCEPTED, row, codes)

    def _finished(self, row: Finished) -> bytes:
        codes: tuple[str, ...] = ()
        body = row.response
        if body is not None and len(body) > self._max_response:
            row, codes = row._replace(response=None), (RESPONSE_LEFT_OUT,)
        elif (kept := self._redaction.body(body)) is not body:
            row = row._replace(response=kept)
        return encode(FINISHED, row, codes)

    def _abort(self, key: bytes, status: int, error: str) -> None:
        self.counts.aborted += 1
        self.log.post(_aborted(key, status, error), key)

    def _owe(self, key: bytes) -> None:
        self._owed[key] = None

    def _pay(self) -> None:
        owed, self._owed = self._owed, {}
        for key in owed:
            self.log.post(_aborted(key, 503, "RecordFull"), key)

    def _close_orphans(self, orphans: list[bytes]) -> None:
        try:
            self.log.write([_aborted(key, 500, "Aborted") for key in orphans])
        except RecordFull:
            self._owed.update(dict.fromkeys(orphans))
        self.counts.aborted += len(orphans)


def _aborted(key: bytes, status: int, error: str) -> bytes:
    return encode(FINISHED, Finished(key.hex(), status, error=error, aborted=True))


def _open_in(folder: Path) -> list[bytes]:
    """The requests that were accepted and never finished, oldest first."""
    found: dict[bytes, None] = {}
    for path in listed(folder, CLOSED):
        try:
            segment = read(path)
        except FileNotFoundError:
            continue  # its rows are in tables by now
        for raw in segment.rows if segment is not None else ():
            try:
                kind, key = kind_and_key(raw)
            except ValueError:
                continue  # of a newer version: whoever puts it into tables says so
            if kind == ACCEPTED:
                found[key] = None
            elif kind == FINISHED:
                found.pop(key, None)
    return list(found)
