"""The worker processes of one release: kept up, counted, and handed out to requests, the least loaded first.

A worker that dies is started anew, at once where it had answered something, else after a pause that doubles. Where
several in a row ended in one seat without an answer, that seat is given up; where that is so of all seats and none is
up, the pool is out of traffic until one is.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from modelyard.errors import Busy
from modelyard.ids import short
from modelyard.serving.line import Asker, Line
from modelyard.serving.process import Limits, Worker, WorkerFailed

STEADY_SECONDS = 30.0
"""A worker that lived that long starts with a clean slate when it dies."""
STARTS = 3
"""Workers in a row that did not answer anything, the last of which did not even start, until a seat is given up."""
CRASHES = 5
"""The same where the last one did start: more than one request can kill (serving/exchange.py)."""
SLOWEST_SECONDS = 30.0
"""The longest pause before a worker is started again."""
_LAST_SECONDS = 1.0
"""How long a process may go on whose connection is gone: nobody can reach it any more."""

log = logging.getLogger("modelyard.gateway")


class Request(Asker, Protocol):
    """What a pool gives workers to."""

    def go(self, worker: Worker) -> None:
        """It is its turn."""


class Home(Protocol):
    """Whom a pool belongs to."""

    @property
    def counts(self) -> Counter[str]: ...

    def command(self, release: str, sock: Path) -> Sequence[str]: ...

    def socket(self, name: str) -> Path: ...

    async def report(self, release: str, failure: str | None) -> None:
        """A release is warm, or does not start."""

    def settle(self) -> None:
        """Something changed: bring traffic in line."""


class Pool:
    """`limits.workers` processes of one release.

    `reason` is why the last worker that ended did, `start_seconds` how long the last start took.
    """

    def __init__(self, release: str, limits: Limits, home: Home) -> None:
        self.release, self.limits = release, limits
        self.reason: str | None = None
        self.start_seconds: float | None = None
        self.under_way = self.held = 0
        self.begun = asyncio.Event()
        self.idle = asyncio.Event()
        self.idle.set()
        self.stopped = self.told = False
        self._home = home
        self._pace = 0.0
        self._line: Line[Request] = Line(limits.threads)
        self._seats = [_Seat(self, home, first=number == 0) for number in range(limits.workers)]

    @property
    def workers(self) -> list[Worker]:
        """Those that are ready."""
        return [seat.worker for seat in self._seats if seat.worker is not None and seat.worker.alive]

    @property
    def waiting(self) -> int:
        """Requests that wait for a worker."""
        return len(self._line)

    @property
    def out(self) -> bool:
        """Whether none is up, and none is expected to come up now."""
        return self.ready() is None and all(seat.given_up for seat in self._seats)

    def ready(self) -> Worker | None:
        """One of those that are ready."""
        for seat in self._seats:
            if seat.worker is not None and seat.worker.alive:
                return seat.worker
        return None

    def take(self, request: Request, again: bool) -> None:
        """A request that entered wants a worker: it gets one, now or later. `again`: it had one before."""
        self._line.join(request, again)
        self.dispatch()

    def withdraw(self, request: Request) -> None:
        """It does not want one any more."""
        self._line.leave(request)

    def dispatch(self) -> None:
        """Hand out workers as far as they go."""
        if not self._line:
            return
        workers = self.workers
        while (found := self._line.next(workers)) is not None:
            request, worker = found
            request.go(worker)

    def turn_away(self) -> None:
        """Those that wait here look for another place."""
        for request in self._line.clear():
            request.moved()

    def enter(self, size: int = 0) -> None:
        """A request with a body of `size` bytes begins, to wait or to be answered. Raises Busy past the bounds."""
        held = self.held + size
        if self.under_way >= self.limits.most or (self.under_way and held > self.limits.payloads):
            self._home.counts["refused"] += 1
            busy = Busy(f"{self.under_way:,} requests are under way or wait already: try again in a moment")
            busy.retry_after = self._wait()
            raise busy
        self.under_way, self.held = self.under_way + 1, held
        self.idle.clear()

    def leave(self, size: int = 0, seconds: float | None = None) -> None:
        """A request that entered ends, for whatever reason; answered, it took so many `seconds` in all."""
        self.under_way, self.held = self.under_way - 1, self.held - size
        if seconds is not None:
            self._pace += (seconds - self._pace) / 8 if self._pace else seconds
        if not self.under_way:
            self.idle.set()

    def _wait(self) -> int:
        """Whole seconds until half of those before are through, as far as can be told."""
        return max(1, min(30, math.ceil(self._pace / 2)))

    def end_all(self, error: Exception) -> None:
        """Whoever waits for an answer hears `error` instead of it."""
        for request in self._line.clear():
            request.hear(error)
        for worker in self.workers:
            worker.end_all(error)

    async def tell_warm(self) -> None:
        """Say that the release is warm, once no more workers are to be expected: who waits to move traffic here waits
        for all of them."""
        up = [seat.worker is not None for seat in self._seats]
        if any(up) and not self.told and all(here or seat.given_up for here, seat in zip(up, self._seats, strict=True)):
            self.told = True
            await self._home.report(self.release, None)

    async def stop(self) -> None:
        """Stop all workers. What is under way is not waited for long: see `idle`."""
        self.stopped = True
        self.turn_away()
        await asyncio.gather(*(seat.stop() for seat in self._seats))


class _Seat:
    """Keeps one worker up until told to stop. All but the first wait until that one is up, or did not start: whoever
    waits for the release waits for one worker only."""

    _sockets = itertools.count(1)

    def __init__(self, pool: Pool, home: Home, first: bool) -> None:
        self.worker: Worker | None = None
        self.given_up = False
        self._pool, self._home, self._first = pool, home, first
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        if self.worker is not None:
            await self.worker.stop()
            self.worker = None

    async def _run(self) -> None:
        failures, release = 0, self._pool.release
        loop = asyncio.get_running_loop()
        if not self._first:
            await self._pool.begun.wait()
        while True:
            began, final, good, most = loop.time(), False, False, STARTS
            try:
                worker = await self._begin()
                most = CRASHES
                reason = await self._live(worker)
                good = worker.answered > 0 or loop.time() - began > STEADY_SECONDS
            except WorkerFailed as error:
                reason, final = str(error), error.final
            except Exception as error:
                log.exception("a worker of release %s", short(release))
                reason = str(error)
            self._pool.begun.set()
            failures = 0 if good else failures + 1
            log.error("release %s: %s", short(release), reason)
            self._pool.reason = reason
            self._home.counts["restarts"] += 1
            if not self._pool.workers:
                self._pool.told = False
            if final or failures >= most:
                self.given_up = True
                if self._pool.out:
                    self._pool.turn_away()
                    await self._home.report(release, reason)
                await self._pool.tell_warm()
            self._home.settle()
            self._pool.dispatch()  # to others than the worker that was left to a suspect
            if failures > 1 or final:
                await asyncio.sleep(min(SLOWEST_SECONDS, 0.1 * 2**failures))

    async def _begin(self) -> Worker:
        pool, loop = self._pool, asyncio.get_running_loop()
        began = loop.time()
        sock = self._home.socket(f"{next(self._sockets)}.sock")
        command = self._home.command(pool.release, sock)
        worker = await Worker.start(pool.release, command, sock, pool.limits.start)
        pool.start_seconds = loop.time() - began
        return worker

    async def _live(self, worker: Worker) -> str:
        """Hand the worker out, and be there until it ends: why it did."""
        self.worker, self.given_up, self._pool.reason = worker, False, None
        self._pool.begun.set()
        worker.freed = self._pool.dispatch
        self._home.settle()
        self._pool.dispatch()
        await self._pool.tell_warm()
        reason = await self._watch(worker)
        self.worker = None  # where this is cancelled it stays, so that it can be stopped in order
        return reason

    async def _watch(self, worker: Worker) -> str:
        limits, ended = self._pool.limits, asyncio.ensure_future(worker.wait())
        try:
            while True:
                await asyncio.wait({ended}, timeout=limits.ping)
                if not ended.done() and not worker.connected:
                    await asyncio.wait({ended}, timeout=_LAST_SECONDS)  # one that ends is cut off first
                if ended.done():
                    return ended.result()
                lost = not worker.connected
                if lost or not await worker.answers(limits.ping, limits.hung):
                    await worker.kill()
                    with contextlib.suppress(asyncio.CancelledError):
                        await ended
                    why = "broke off" if lost else f"did not answer for {limits.hung:g} s"
                    return f"its worker {why} and was ended"
        finally:
            ended.cancel()
