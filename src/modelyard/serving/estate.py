"""Several endpoints behind one gateway: the project's own, and those that the ledger names beside it.

Follows the ledger: what appears there is served within a second, what goes away is let go once it has answered what it
began, whichever process wrote it. Runs on one event loop; the ledger is asked in a thread of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol, TypeVar

from modelyard.errors import ModelyardError, NotFound
from modelyard.ports.endpoints import EndpointRow
from modelyard.serving.endpoint import Endpoint

POLL_SECONDS = 0.25
LONGEST_SECONDS = 30.0
"""The longest pause before an endpoint is tried again that could not be begun."""

T = TypeVar("T")
log = logging.getLogger("modelyard.gateway")


@dataclass(frozen=True)
class _Failed:
    """An endpoint that could not be begun, when it is tried again, and the pause after that one."""

    why: str
    again: float
    pause: float


class Member(Protocol):
    """An endpoint with all that lives as long as it is served."""

    @property
    def endpoint(self) -> Endpoint: ...

    async def start(self) -> None: ...

    async def stop(self) -> None: ...


class Register(Protocol):
    """Where it is written which endpoints there are."""

    def edition(self) -> int:
        """Another number when they may have changed. Cheap: to be polled."""
        ...

    def rows(self) -> Sequence[EndpointRow]: ...

    def close(self) -> None: ...


class Estate:
    """The endpoints of a gateway. `own` is the project's, whose life is somebody else's; `begin` makes the others.
    `register` is opened and used in a thread of the estate's own. `told` is called with the rows whenever they may
    have changed."""

    def __init__(
        self,
        own: Endpoint,
        register: Callable[[], Register],
        begin: Callable[[str], Member],
        told: Callable[[Sequence[EndpointRow]], None] = lambda rows: None,
    ) -> None:
        self.own = own
        self._open_register, self._begin, self._told = register, begin, told
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="endpoints")
        self._register: Register | None = None
        self._members: dict[str, Member] = {}
        self._named: dict[str, set[str]] = {}
        self._rows: Mapping[str, EndpointRow] = {}
        self._failed: dict[str, _Failed] = {}
        self._seen: int | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._looking = asyncio.Lock()
        self._leaving = False

    async def start(self) -> None:
        """Begin to serve what the ledger names, and to follow it. Raises what opening and reading it raises."""
        self._register = await self.aside(self._open_register)
        await self.look()
        self._spawn(self._follow())

    async def stop(self) -> None:
        """Let go of all but the project's own."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        async with contextlib.AsyncExitStack() as ending:  # each also where one before it fails
            ending.callback(self._thread.shutdown)
            if self._register is not None:
                ending.push_async_callback(self.aside, self._register.close)
            members, self._members = self._members, {}
            for error in await asyncio.gather(*(one.stop() for one in members.values()), return_exceptions=True):
                if error is not None:
                    raise error

    def __iter__(self) -> Iterator[Endpoint]:
        """Those that are served now, the project's own first."""
        yield self.own
        for member in list(self._members.values()):
            yield member.endpoint

    def find(self, name: str) -> Endpoint | None:
        """The endpoint of that name."""
        if name == self.own.name:
            return self.own
        member = self._members.get(name)
        return member.endpoint if member is not None else None

    def endpoint(self, name: str) -> Endpoint:
        """Raises NotFound."""
        found = self.find(name)
        if found is None:
            raise NotFound(f"there is no endpoint {name[:80]!r} here")
        return found

    def row(self, name: str) -> EndpointRow | None:
        """What is written down of it, as last read."""
        return self._rows.get(name)

    def leave(self) -> None:
        """Say from now on that nothing new should be sent here."""
        self._leaving = True
        for member in self._members.values():
            member.endpoint.fleet.leave()

    def end_all(self, error: ModelyardError) -> None:
        """Every request under way ends with `error`, but those of the project's own."""
        for member in self._members.values():
            member.endpoint.fleet.end_all(error)

    async def look(self) -> None:
        """Bring what is served in line with what is written down, now."""
        async with self._looking:
            register = self._register
            if register is None:
                return
            for name, member in self._members.items():
                self._named.setdefault(name, set()).update(member.endpoint.fleet.pointers.named())
            edition = await self.aside(register.edition)
            if edition != self._seen:
                rows = await self.aside(register.rows)
                self._rows = {row.name: row for row in rows}
                self._failed = {}
                for name in [name for name in self._members if name not in self._rows]:
                    self._spawn(self._let_go(self._members.pop(name), self._named.pop(name, set())))
            now = asyncio.get_running_loop().time()
            for name in self._rows:
                failed = self._failed.get(name)
                if name == self.own.name or name in self._members or (failed is not None and now < failed.again):
                    continue
                await self._try_to_take_up(name, failed)
            if edition != self._seen:
                self._seen = edition
                self._told(list(self._rows.values()))

    async def aside(self, call: Callable[..., T], *args: object) -> T:
        """`call` in the thread of the ledger."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, call, *args)

    async def _try_to_take_up(self, name: str, before: _Failed | None) -> None:
        """One that cannot be begun is said to, and tried again later: the others are served all the same."""
        try:
            await self._take_up(name)
        except Exception as error:
            if before is None or before.why != repr(error):
                plain = isinstance(error, ModelyardError)
                log.error("endpoint %s cannot be served: %s", name, error, exc_info=not plain)
            pause = before.pause if before is not None else POLL_SECONDS
            again = asyncio.get_running_loop().time() + pause
            self._failed[name] = _Failed(repr(error), again, min(2 * pause, LONGEST_SECONDS))
        else:
            self._failed.pop(name, None)

    async def _take_up(self, name: str) -> None:
        member = self._begin(name)
        try:
            await member.start()
        except BaseException:
            await member.stop()
            raise
        if self._leaving:
            member.endpoint.fleet.leave()
        self._members[name] = member

    async def _let_go(self, member: Member, named: set[str]) -> None:
        fleet = member.endpoint.fleet
        pools = [pool for release in named if (pool := fleet.pool(release)) is not None]
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(fleet.limits.drain):
                    await asyncio.gather(*(pool.idle.wait() for pool in pools))
        finally:
            await member.stop()

    async def _follow(self) -> None:
        broken = ""
        while True:
            await asyncio.sleep(POLL_SECONDS)
            try:
                await self.look()
                broken = ""
            except Exception as error:
                # What is served stays as it is while the ledger cannot be read.
                if str(error) != broken:
                    log.error("endpoints cannot be read: %s", error, exc_info=not isinstance(error, ModelyardError))
                broken = str(error)

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("an endpoint was not let go in order: %s", error, exc_info=error)
