"""Updates of endpoints that are under way: each is brought on until it is over, also those that a gateway before this
one began."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from modelyard.clock import Clock
from modelyard.errors import Busy, ModelyardError
from modelyard.ports.endpoints import EndpointRow

POLL_SECONDS = 0.05
log = logging.getLogger("modelyard.gateway")


class Updates:
    """`bring_on(name, since)` makes one step, and says whether that was the last one."""

    def __init__(self, bring_on: Callable[[str, float], Awaitable[bool]], clock: Clock) -> None:
        self._bring_on, self._clock = bring_on, clock
        self._stopped = False
        self._tasks: dict[tuple[str, str], asyncio.Task[None]] = {}

    def told(self, rows: Sequence[EndpointRow]) -> None:
        """Take up what is under way."""
        if self._stopped:
            return
        running = {(row.name, row.update.started) for row in rows if row.update and row.update.state == "running"}
        for key in running - set(self._tasks):
            self._tasks[key] = asyncio.get_running_loop().create_task(self._run(key[0]))
        for key in set(self._tasks) - running:
            if self._tasks[key].done():
                del self._tasks[key]

    async def stop(self) -> None:
        """Leave them as far as they came."""
        self._stopped = True
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _run(self, name: str) -> None:
        since, broken = self._clock.monotonic(), ""
        while True:
            try:
                if await self._bring_on(name, since):
                    return
            except Busy:
                pass  # somebody moved something meanwhile: look again
            except ModelyardError as error:
                if str(error) != broken:
                    log.error("the configuration of %s cannot be brought on: %s", name, error)
                broken = str(error)
            except Exception:
                if not broken:
                    log.exception("the configuration of %s cannot be brought on", name)
                broken = "a defect"
            await asyncio.sleep(POLL_SECONDS)
