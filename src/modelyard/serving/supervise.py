"""Which release gets the traffic. Follows the pointer of record, keeps pools of workers up, switches without losing a
request.

A pool each for champion, challenger, previous, and all that traffic is split over. Requests that name no release go to
the champion as soon as *one of its workers is ready*, and to the release before until then; what is under way ends
where it began. Runs on one event loop; the ledger is asked in a thread of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from modelyard.errors import ModelyardError, NotFound, Unavailable
from modelyard.ids import short
from modelyard.ports.ledger import Ledger
from modelyard.ports.records import Pointers, Release
from modelyard.serving.memory import Thermostat, resident
from modelyard.serving.pool import Pool
from modelyard.serving.process import Command, Limits, Worker
from modelyard.serving.sockets import SocketFolder

POLL_SECONDS = 0.05
REFRESH_SECONDS = 2.0
"""How often the champion's state and version are read again though the pointer did not move."""
WEIGH_SECONDS = 2.0
"""How often memory is looked at, where it is limited."""

T = TypeVar("T")
log = logging.getLogger("modelyard.gateway")


@dataclass(frozen=True)
class Standing:
    """What is served now. `release` gets the traffic (None: nothing can be answered); `champion` is what the ledger
    says; `state` and `version` are the served release's; `reason` says why the two differ, or nothing is served.

    `warm` are all releases with a worker that is ready, by how many workers. `cold` is the previous release where it
    was stopped for want of memory, and `cold_start_seconds` how long its last start took: what a rollback to it takes.
    `stopping`: nothing new should be sent here any more.
    """

    release: str | None
    champion: str | None
    generation: int
    state: str | None = None
    version: int | None = None
    reason: str | None = None
    warm: tuple[tuple[str, int], ...] = ()
    cold: str | None = None
    cold_start_seconds: float | None = None
    stopping: bool = False

    @property
    def ready(self) -> bool:
        """Whether a request would be answered, and should be sent."""
        return self.release is not None and not self.stopping


@dataclass(frozen=True)
class _Cold:
    release: str
    size: int
    start_seconds: float | None


class Fleet:
    """The workers of one endpoint. `ledger` is called in the thread that will use what it gives.

    `counts` since the start: `retries` (requests run again because a worker died), `given_up` (because too many did),
    `streams_cut`, `restarts` (workers that ended by themselves), `refused` (past the bound).
    """

    def __init__(
        self,
        endpoint: str,
        gateway: str,
        ledger: Callable[[], Ledger],
        command: Command,
        limits: Limits | None = None,
    ) -> None:
        self.endpoint, self.limits = endpoint, limits or Limits()
        self.counts: Counter[str] = Counter()
        self._gateway, self._open_ledger, self._command = gateway, ledger, command
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ledger")
        self._ledger: Ledger | None = None
        self._pointers = Pointers()
        self._releases: dict[str, Release] = {}
        self._pools: dict[str, Pool] = {}
        self._leaving: list[Pool] = []
        self._routed: Pool | None = None
        self._cold: _Cold | None = None
        self._stopping = self._stopped = False
        self._end: ModelyardError | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._sockets: SocketFolder | None = None

    async def start(self) -> None:
        """Open the ledger and begin to follow it. Raises what opening it raises."""
        self._sockets = SocketFolder()
        self._ledger = await self._aside(self._open_ledger)
        await self._look(refresh=True)
        self._spawn(self._follow())
        if self.limits.memory is not None:
            self._spawn(self._weigh(Thermostat(self.limits.memory)))

    def leave(self) -> None:
        """Say from now on that nothing new should be sent here; what comes is answered still."""
        self._stopping = True

    def end_all(self, error: ModelyardError) -> None:
        """Every request under way, and every one to come, ends with `error`."""
        self._end = error
        for pool in (*self._pools.values(), *self._leaving):
            pool.end_all(error)

    async def stop(self) -> None:
        """Stop all workers. Wait before for what is under way, or end it."""
        self._stopping = self._stopped = True
        self._end = self._end or Unavailable("the server is being stopped: try again")
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        async with contextlib.AsyncExitStack() as ending:  # each also where one before it fails
            if self._sockets is not None:
                ending.callback(self._sockets.close)
            ending.callback(self._thread.shutdown)
            if self._ledger is not None:
                ending.push_async_callback(self._aside, self._ledger.close)
            await asyncio.gather(*(pool.stop() for pool in (*self._pools.values(), *self._leaving)))

    @property
    def ending(self) -> bool:
        """Whether requests are being ended, because the gateway stops."""
        return self._end is not None

    @property
    def pointers(self) -> Pointers:
        """Where the endpoint points, as last read."""
        return self._pointers

    def standing(self) -> Standing:
        """What is served now, and why not where nothing is."""
        worker, champion = self.ready(), self._pointers.champion
        release = worker.release if worker is not None else None
        known = self._releases.get(release) if release else None
        cold = self._cold
        return Standing(
            release,
            champion,
            self._pointers.generation,
            known.state if known else None,
            known.version if known else None,
            None if release is not None and release == champion else self._why(champion, release),
            tuple((pool.release, len(pool.workers)) for pool in self._pools.values() if pool.workers),
            cold.release if cold else None,
            cold.start_seconds if cold else None,
            self._stopping,
        )

    def ready(self) -> Worker | None:
        """The worker that the next request goes to which names no release, where there is one."""
        return self._routed.ready() if self._routed is not None else None

    def pool(self, release: str) -> Pool | None:
        """The workers of a release that is kept up, or is about to be let go."""
        here = self._pools.get(release)
        return here or next((p for p in self._leaving if p.release == release and not p.stopped), None)

    def find(self, release: str | None, held: Pool | None = None) -> Pool:
        """The workers for a request: `held` as long as those may answer, else those of `release`, or of whichever
        answers now. Raises NotFound for a release that is not kept up, and Unavailable where no worker is expected to
        come up."""
        if self._end is not None:
            raise self._end
        pool = held if held is not None and not held.stopped and not held.out else None
        if pool is None:
            pool = self.pool(release) if release is not None else self._routed
        if pool is None and release is not None:
            raise NotFound(f"release {short(release)} is not served here now")
        if pool is None or pool.out:
            champion = pool.release if pool is not None else self._pointers.champion
            raise Unavailable(self._why(champion, None) or "no worker is ready")
        return pool

    def _why(self, champion: str | None, release: str | None) -> str | None:
        if champion is None:
            return None if release else f"nothing is deployed as {self.endpoint} yet: `modelyard run` does it"
        pool = self.pool(champion)
        if pool is not None and pool.reason is not None:
            what = f"release {short(champion)} is not up: {pool.reason}"
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
            except Exception as error:
                # Traffic stays where it is while the ledger cannot be read.
                if str(error) != broken:
                    log.error("the ledger cannot be read: %s", error, exc_info=not isinstance(error, ModelyardError))
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
        names = {*pointers.named(), *before.named()}
        return pointers, {name: self._ledger.release(name) for name in names}

    def settle(self) -> None:
        """Bring workers and traffic in line with the pointers and with what is ready. Never waits."""
        pointers = self._pointers
        first = [pointers.champion, *(release for release, _ in pointers.traffic), pointers.challenger]
        kept = [self._keep(release) for release in first if release is not None]
        champion = kept[0] if pointers.champion is not None else None
        if champion is None:
            self._routed = None
        elif champion.workers and self._routed is not champion:
            if self._routed is not None:
                self._routed.turn_away()
            self._routed = champion
            log.info("release %s answers now", short(champion.release))
        elif self._routed is None:
            self._routed = champion
        if self._cold is not None and (self._cold.release != pointers.previous or self._cold.release in first):
            self._cold = None
        if pointers.previous is not None and self._cold is None and (champion is None or self._begun(champion)):
            # Last, so that what is kept warm for a rollback does not slow the start of what answers.
            self._keep(pointers.previous)
        named = {*pointers.named()} - {self._cold.release if self._cold else None}
        for release, pool in list(self._pools.items()):
            if release not in named and pool is not self._routed:
                del self._pools[release]
                self._leaving.append(pool)
                self._spawn(self._retire(pool))

    def _begun(self, champion: Pool) -> bool:
        return bool(champion.workers) or champion.out

    async def _retire(self, pool: Pool) -> None:
        # First, so that whoever promotes this release again waits for the worker that is started then.
        await self._tell(lambda ledger: ledger.report_gone(self.endpoint, pool.release, self._gateway))
        while pool.under_way:  # what was meant for it may come while this wakes up
            await pool.idle.wait()
        await pool.stop()
        self._leaving.remove(pool)

    def _keep(self, release: str) -> Pool:
        if release not in self._pools:
            self._pools[release] = Pool(release, self.limits, self)
        return self._pools[release]

    # memory

    async def _weigh(self, thermostat: Thermostat) -> None:
        broken: str | None = None
        while True:
            await asyncio.sleep(WEIGH_SECONDS)
            try:
                kept = {release: [worker.pid for worker in pool.workers] for release, pool in self._pools.items()}
                leaving = [worker.pid for pool in self._leaving for worker in pool.workers]
                sizes = await asyncio.to_thread(resident, [*leaving, *(pid for some in kept.values() for pid in some)])
                by_release = {release: sum(sizes.get(pid, 0) for pid in some) for release, some in kept.items()}
                self._warm_or_cold(sum(sizes.values()), by_release, thermostat)
                broken = None
            except Exception as error:  # whatever it is: who limits memory must not find it unlimited
                if repr(error) != broken:
                    log.exception("memory cannot be looked at: serve.memory_limit is not kept meanwhile")
                broken = repr(error)

    def _warm_or_cold(self, total: int, sizes: dict[str, int], thermostat: Thermostat) -> None:
        """Stop the previous release's workers where all together are over the limit; start them where there is room."""
        pointers, cold, now = self._pointers, self._cold, asyncio.get_running_loop().time()
        if cold is not None:
            if thermostat.room(total, cold.size, now):
                log.info("there is memory again: release %s is kept warm", short(cold.release))
                self._cold = None
                self.settle()
            return
        previous = pointers.previous
        pool = self._pools.get(previous) if previous is not None else None
        needed = {pointers.champion, pointers.challenger, *(release for release, _ in pointers.traffic)}
        if pool is None or pool is self._routed or pool.release in needed or not pool.workers:
            return
        if not thermostat.too_much(kept := sum(sizes.values()), now):
            return
        self._cold = _Cold(pool.release, sizes.get(pool.release, 0), pool.start_seconds)
        over = f"{kept:,} bytes, over the limit of {thermostat.limit:,}"
        log.warning("workers take %s: release %s goes cold", over, short(pool.release))
        self.settle()

    # for pools

    def command(self, release: str, sock: Path) -> Sequence[str]:
        """The command line of a worker."""
        return self._command(release, sock)

    def socket(self, name: str) -> Path:
        """Where a worker listens."""
        assert self._sockets is not None
        return self._sockets.path / name

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
        except Exception as error:  # whatever it is: workers go on
            log.error("the ledger cannot be written: %s", error, exc_info=not isinstance(error, ModelyardError))

    async def _aside(self, call: Callable[..., T], *args: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call, *args)

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        if self._stopped:
            work.close()
            return
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("endpoint %s: work beside the requests ended: %s", self.endpoint, error, exc_info=error)
