"""What lives as long as a gateway serves an endpoint: workers, record, routing, rollouts, and the way into tables."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelyard.clock import Clock
from modelyard.gateway.folding import Folding
from modelyard.gateway.rollouts import Runner
from modelyard.ports.ledger import Ledger
from modelyard.ports.rollouts import Rollouts
from modelyard.project.model import Recording
from modelyard.serving.endpoint import Endpoint
from modelyard.serving.exchange import Exchange
from modelyard.serving.meter import Meter
from modelyard.serving.record import MAX_OPEN_SECONDS, Record, Redaction
from modelyard.serving.rollout import RolloutRouter
from modelyard.serving.shadow import Shadow
from modelyard.serving.supervise import Fleet


@dataclass(frozen=True)
class Stores:
    """Where an endpoint keeps what it needs: the ledger, the rollouts in it, the folders of its record, of the logs of
    its rollouts, and of the tables. `traced`: the project and target some of whose answers are traced."""

    ledger: Callable[[], Ledger]
    rollouts: Callable[[], Rollouts]
    record: Path
    trials: Path
    tables: Path
    traced: tuple[Path, str] | None = None


class Live:
    """Use from one event loop: `start`, serve `endpoint`, `stop`."""

    def __init__(self, fleet: Fleet, gateway: str, stores: Stores, recording: Recording, timeout: float, clock: Clock):
        """Raises Busy where another process has the record, StorageError, UserError for patterns that are none."""
        self._fleet = fleet
        router = RolloutRouter(fleet.endpoint, self._is_up)
        record = _record(stores.record, recording, timeout)
        self.endpoint = Endpoint(fleet, record, Meter(), timeout, clock, router)
        self.runner = Runner(
            fleet.endpoint,
            gateway,
            router,
            lambda: fleet.pointers,
            stores.ledger,
            stores.rollouts,
            stores.trials,
            clock,
            recording.durability,
        )
        self._shadow = router.shadow = Shadow(self._ask)
        self.folding = Folding(record, stores.record, stores.tables, recording.fold_every, stores.traced)
        self._tidying: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Raises what opening the ledger raises."""
        await self._fleet.start()
        await self.runner.start()
        self.folding.start()
        self._tidying = asyncio.get_running_loop().create_task(self._tidy())

    async def stop(self) -> None:
        """End in the order in which one needs the other. What was not started is no error."""
        if self._tidying is not None:
            self._tidying.cancel()
        await self._shadow.close()
        await self.runner.stop()
        await self._fleet.stop()
        await self.folding.stop()
        self.endpoint.record.close()

    async def _tidy(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            self.endpoint.record.sweep()

    def _is_up(self, release: str) -> bool:
        pool = self._fleet.pool(release)
        return pool is not None and not pool.out

    async def _ask(self, release: str, job: Mapping[str, Any]) -> Mapping[str, Any]:
        with Exchange(self._fleet, job, self.endpoint.timeout, release) as exchange:
            found: Mapping[str, Any] = await exchange.result()
            return found


def _record(folder: Path, wanted: Recording, timeout: float) -> Record:
    return Record.open(
        folder,
        durability=wanted.durability,
        limit_bytes=wanted.limit,
        when_full=wanted.when_full,
        redaction=Redaction(wanted.redaction, wanted.patterns),
        max_request=wanted.max_payload,
        max_response=wanted.max_payload,
        max_open=max(MAX_OPEN_SECONDS, 2 * timeout),
    )
