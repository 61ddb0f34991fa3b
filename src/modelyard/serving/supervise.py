"""Which worker gets the traffic. Follows the pointer of record, keeps workers up, switches without losing a request.

One worker each for champion, challenger and previous. New requests go to the champion as soon as *its worker is
ready*, and to the release before until then; what is under way ends where it began. Runs on one event loop; the ledger
is asked in a thread of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import shutil
import tempfile
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from modelyard.errors import Busy, ModelyardError, NotFound, Unavailable
from modelyard.ids import short
from modelyard.ports.ledger import Ledger
from modelyard.ports.records import Pointers, Release
from modelyard.serving.process import Command, Worker, WorkerFailed

POLL_SECONDS = 0.05
REFRESH_SECONDS = 2.0
"""How often the champion's state and version are read again though the pointer did not move."""
PATIENCE_SECONDS = 10.0
"""How long a request waits for a champion's worker that is on its way up."""
STEADY_SECONDS = 30.0
"""A worker that lived that long starts with a clean slate when it dies."""
CRASHES = 3
"""Failures in a row after which a release counts as one that does not start."""
SLOWEST_SECONDS = 10.0
MOST_UNDER_WAY = 1024
"""Requests of one worker at a time; more are refused as busy."""

T = TypeVar("T")
log = logging.getLogger("modelyard.gateway")


@dataclass(frozen=True)
class Standing:
    """What is served now. `release` gets the traffic (None: nothing can be answered); `champion` is what the ledger
    says; `state` and `version` are the served release's; `reason` says why the two differ, or nothing is served."""

    release: str | None
    champion: str | None
    generation: int
    state: str | None = None
    version: int | None = None
    reason: str | None = None


class Fleet:
    """The workers of one endpoint. `ledger` is called in the thread that will use what it gives."""

    def __init__(self, endpoint: str, gateway: str, ledger: Callable[[], Ledger], command: Command) -> None:
        self.endpoint = endpoint
        self._gateway, self._open_ledger, self._command = gateway, ledger, command
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ledger")
        self._ledger: Ledger | None = None
        self._pointers = Pointers()
        self._releases: dict[str, Release] = {}
        self._keepers: dict[str, _Keeper] = {}
        self._leaving: set[_Keeper] = set()
        self._routed: _Keeper | None = None
        self._changed = asyncio.Event()
        self._stopping = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._folder = Path("/nonexistent")

    async def start(self) -> None:
        """Open the ledger and begin to follow it. Raises what opening it raises."""
        # Not TMPDIR: the path of a socket must stay below some 100 bytes, and macOS has 60 of them in TMPDIR.
        self._folder = Path(tempfile.mkdtemp(prefix="modelyard-", dir="/tmp"))
        self._ledger = await self._aside(self._open_ledger)
        await self._look(refresh=True)
        self._spawn(self._follow())

    async def stop(self) -> None:
        """Stop all workers; they finish what they do first."""
        self._stopping = True
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(keeper.stop() for keeper in {*self._keepers.values(), *self._leaving}))
        if self._ledger is not None:
            await self._aside(self._ledger.close)
        self._thread.shutdown()
        shutil.rmtree(self._folder, ignore_errors=True)

    def standing(self) -> Standing:
        """What is served now, and why not where nothing is."""
        worker, champion = self.ready(), self._pointers.champion
        release = worker.release if worker is not None else None
        known = self._releases.get(release) if release else None
        return Standing(
            release,
            champion,
            self._pointers.generation,
            known.state if known else None,
            known.version if known else None,
            None if release is not None and release == champion else self._why(champion, release),
        )

    def ready(self) -> Worker | None:
        """The worker that new requests go to, where there is one."""
        worker = self._routed.worker if self._routed is not None else None
        return worker if worker is not None and worker.alive else None

    def warm(self, release: str) -> Worker:
        """The worker of a release that is kept up. Raises NotFound."""
        keeper = self._keepers.get(release)
        if keeper is None or keeper.worker is None:
            raise NotFound(f"release {short(release)} is not served here now")
        return keeper.worker

    async def pick(self, until: float) -> Worker:
        """The worker for a new request, waited for while it is on its way up, at most until loop time `until`.
        Raises Unavailable, Busy."""
        loop = asyncio.get_running_loop()
        until = min(until, loop.time() + PATIENCE_SECONDS)
        while True:
            if (worker := self.ready()) is not None:
                if worker.load >= MOST_UNDER_WAY:
                    raise Busy("too many requests are under way: try again in a moment")
                return worker
            champion = self._pointers.champion
            keeper = self._keepers.get(champion) if champion else None
            hopeless = keeper is None or keeper.given_up
            if hopeless or loop.time() >= until:
                raise Unavailable(self._why(champion, None) or "no worker is ready")
            self._changed.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(until):
                    await self._changed.wait()

    def _why(self, champion: str | None, release: str | None) -> str | None:
        if champion is None:
            return None if release else f"nothing is deployed as {self.endpoint} yet: `modelyard run` does it"
        keeper = self._keepers.get(champion)
        if keeper is not None and keeper.reason is not None:
            what = f"release {short(champion)} is not up: {keeper.reason}"
        else:
            what = f"release {short(champion)} is starting"
        return f"{what}; {short(release)} answers meanwhile" if release else what

    # following the pointer

    async def _follow(self) -> None:
        loop = asyncio.get_running_loop()
        refreshed, broken = loop.time(), ""
        while True:
            await asyncio.sleep(POLL_SECONDS)
            refresh = loop.time() - refreshed >= REFRESH_SECONDS
            try:
                await self._look(refresh)
                broken = ""
            except ModelyardError as error:
                # Traffic stays where it is while the ledger cannot be read.
                if str(error) != broken:
                    log.error("the ledger cannot be read: %s", error)
                broken = str(error)
            if refresh:
                refreshed = loop.time()

    async def _look(self, refresh: bool) -> None:
        pointers, releases = await self._aside(self._read, self._pointers, refresh)
        if releases is not None:
            self._releases = releases
        if pointers != self._pointers:
            self._pointers = pointers
            self.settle()

    def _read(self, before: Pointers, refresh: bool) -> tuple[Pointers, dict[str, Release] | None]:
        assert self._ledger is not None
        pointers = self._ledger.pointers(self.endpoint)
        if pointers == before and not refresh:
            return pointers, None
        names = {*_named(pointers), *_named(before)}
        return pointers, {name: self._ledger.release(name) for name in names}

    def settle(self) -> None:
        """Bring workers and traffic in line with the pointers and with what is ready. Never waits."""
        champion = self._keep(self._pointers.champion)
        self._keep(self._pointers.challenger)
        if champion is None:
            self._routed = None
        elif champion.worker is not None and self._routed is not champion:
            self._routed = champion
            log.info("release %s answers now", short(champion.release))
        elif self._routed is None:
            self._routed = champion
        if champion is None or champion.worker is not None or champion.given_up:
            # Last, so that what is kept warm for a rollback does not slow the start of what answers.
            self._keep(self._pointers.previous)
        kept = set(_named(self._pointers))
        for release, keeper in list(self._keepers.items()):
            if release not in kept and keeper is not self._routed:
                del self._keepers[release]
                self._leaving.add(keeper)
                self._spawn(self._retire(keeper))
        self._changed.set()

    async def _retire(self, keeper: _Keeper) -> None:
        # First, so that whoever promotes this release again waits for the worker that is started then.
        await self._tell(lambda ledger: ledger.report_gone(self.endpoint, keeper.release, self._gateway))
        if keeper.worker is not None:
            await keeper.worker.idle.wait()  # nothing new comes
        await keeper.stop()
        self._leaving.discard(keeper)

    def _keep(self, release: str | None) -> _Keeper | None:
        if release is None:
            return None
        if release not in self._keepers:
            self._keepers[release] = _Keeper(release, self)
        return self._keepers[release]

    # for keepers

    def command(self, release: str, sock: Path) -> list[str]:
        return list(self._command(release, sock))

    def socket(self, name: str) -> Path:
        return self._folder / name

    async def report(self, release: str, failure: str | None) -> None:
        """Tell the ledger that a release is warm, or why it does not start."""
        if failure is None:
            await self._tell(lambda ledger: ledger.report_warm(self.endpoint, release, self._gateway))
        else:
            await self._tell(lambda ledger: ledger.report_failed(self.endpoint, release, self._gateway, failure))

    async def _tell(self, say: Callable[[Ledger], None]) -> None:
        assert self._ledger is not None
        try:
            await self._aside(say, self._ledger)
        except ModelyardError as error:
            log.error("the ledger cannot be written: %s", error)

    async def _aside(self, call: Callable[..., T], *args: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call, *args)

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        if self._stopping:
            work.close()
            return
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _named(pointers: Pointers) -> list[str]:
    return [name for name in (pointers.champion, pointers.challenger, pointers.previous) if name is not None]


class _Keeper:
    """Keeps one worker of one release up until told to stop."""

    _sockets = itertools.count(1)

    def __init__(self, release: str, fleet: Fleet) -> None:
        self.release = release
        self.worker: Worker | None = None
        self.reason: str | None = None
        self.given_up = False
        self._fleet = fleet
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        if self.worker is not None:
            await self.worker.stop()
            self.worker = None

    async def _run(self) -> None:
        failures = 0
        while True:
            began = asyncio.get_running_loop().time()
            final = False
            try:
                reason = await self._live()
            except WorkerFailed as error:
                reason, final = str(error), error.final
            except ModelyardError as error:
                reason = str(error)
            lived = asyncio.get_running_loop().time() - began
            failures = 1 if lived > STEADY_SECONDS else failures + 1
            log.error("release %s: %s", short(self.release), reason)
            self.reason = reason
            if final or failures >= CRASHES:
                self.given_up = True
                await self._fleet.report(self.release, reason)
                self._fleet.settle()
            await asyncio.sleep(min(SLOWEST_SECONDS, 0.1 * 2**failures) if failures > 1 else 0.0)

    async def _live(self) -> str:
        """Start a worker, and be there until it ends: why it did."""
        sock = self._fleet.socket(f"{next(self._sockets)}.sock")
        worker = await Worker.start(self.release, self._fleet.command(self.release, sock), sock)
        self.worker, self.reason, self.given_up = worker, None, False
        self._fleet.settle()
        await self._fleet.report(self.release, None)
        reason = await worker.wait()
        self.worker = None
        return reason
