"""What lives as long as one endpoint is served: its workers, its routing, its rollouts, and its shadow."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from modelyard.calc.price import cost
from modelyard.clock import Clock
from modelyard.errors import Cancelled, Unavailable
from modelyard.gateway.rollouts import Runner
from modelyard.ports.ledger import Ledger
from modelyard.ports.rollouts import Rollouts
from modelyard.serving.endpoint import Endpoint
from modelyard.serving.exchange import Exchange
from modelyard.serving.log import Durability
from modelyard.serving.meter import Meter
from modelyard.serving.record import Record
from modelyard.serving.rollout import RolloutRouter
from modelyard.serving.shadow import Shadow
from modelyard.serving.supervise import Fleet


class ServedEndpoint:
    """Use from one event loop: `start`, serve `endpoint`, `stop`. Record and meter are those of the gateway; `trials`
    is the folder of the logs of this endpoint's rollouts."""

    def __init__(
        self,
        fleet: Fleet,
        gateway: str,
        ledger: Callable[[], Ledger],
        rollouts: Callable[[], Rollouts],
        trials: Path,
        record: Record,
        meter: Meter,
        timeout: float,
        clock: Clock,
        durability: Durability,
        prices: Mapping[str, float],
    ) -> None:
        self._fleet = fleet
        router = RolloutRouter(fleet.endpoint, self._is_up)
        self.endpoint = Endpoint(fleet, record, meter, timeout, clock, router, prices=prices)
        self.runner = Runner(
            fleet.endpoint,
            gateway,
            router,
            lambda: fleet.pointers,
            ledger,
            rollouts,
            trials,
            clock,
            durability,
        )
        self._shadow = router.shadow = Shadow(self._ask)

    async def start(self) -> None:
        """Raises what opening the ledger raises."""
        await self._fleet.start()
        await self.runner.start()

    async def stop(self) -> None:
        """End in the order in which one needs the other, each also where one before it fails. What was not started is
        no error."""
        async with contextlib.AsyncExitStack() as ending:
            ending.push_async_callback(self._fleet.stop)
            ending.push_async_callback(self.runner.stop)
            ending.push_async_callback(self._shadow.close)

    def _is_up(self, release: str) -> bool:
        pool = self._fleet.pool(release)
        return pool is not None and not pool.out

    async def _ask(self, release: str, job: Mapping[str, Any]) -> Mapping[str, Any]:
        with Exchange(self._fleet, job, self.endpoint.timeout, release) as exchange:
            try:
                found: dict[str, Any] = await exchange.result()
            except Unavailable:
                if self._fleet.ending:
                    raise Cancelled("the server is being stopped") from None
                raise
            spent = cost(found.get("usage", {}), self.endpoint.prices)
            return found if spent is None else {**found, "signals": {"cost": spent, **found.get("signals", {})}}
