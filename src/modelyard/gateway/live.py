"""What lives as long as a gateway serves: the project's endpoint, those beside it, their record, and its way into
tables."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from modelyard.clock import Clock
from modelyard.gateway.folding import Folding
from modelyard.gateway.served import ServedEndpoint
from modelyard.ports.ledger import Ledger
from modelyard.ports.rollouts import Rollouts
from modelyard.project.model import Recording
from modelyard.serving.meter import Meter
from modelyard.serving.record import MAX_OPEN_SECONDS, Record, Redaction
from modelyard.serving.supervise import Fleet

TIDY_SECONDS = 1.0
log = logging.getLogger("modelyard.gateway")


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

    def __init__(
        self,
        fleet: Fleet,
        gateway: str,
        stores: Stores,
        recording: Recording,
        timeout: float,
        clock: Clock,
        prices: Mapping[str, float],
    ) -> None:
        """Raises Busy where another process has the record, StorageError, UserError for patterns that are none."""
        self._gateway, self._stores, self._recording = gateway, stores, recording
        self._timeout, self._clock, self._meter, self._prices = timeout, clock, Meter(), prices
        self._record = record = _record(stores.record, recording, timeout)
        self._own = self._serve(fleet, stores.trials)
        self.endpoint, self.runner = self._own.endpoint, self._own.runner
        self.folding = Folding(record, stores.record, stores.tables, recording.fold_every, stores.traced)
        self._tidying: asyncio.Task[None] | None = None

    def another(self, fleet: Fleet) -> ServedEndpoint:
        """An endpoint beside the project's own: on the same record and the same meter, with rollouts of its own. To be
        started and stopped by who asked for it."""
        return self._serve(fleet, self._stores.trials.with_name("rollouts-of") / fleet.endpoint)

    async def start(self) -> None:
        """Raises what opening the ledger raises."""
        await self._own.start()
        self.folding.start()
        self._tidying = asyncio.get_running_loop().create_task(self._tidy())

    async def stop(self) -> None:
        """End in the order in which one needs the other, each also where one before it fails. What was not started is
        no error."""
        async with contextlib.AsyncExitStack() as ending:
            ending.callback(self._record.close)
            if self._tidying is not None:
                ending.callback(self._tidying.cancel)
            ending.push_async_callback(self.folding.stop)
            ending.push_async_callback(self._own.stop)

    async def _tidy(self) -> None:
        broken: str | None = None
        while True:
            await asyncio.sleep(TIDY_SECONDS)
            try:
                self._record.sweep()
                broken = None
            except Exception as error:  # whatever it is: deadlines are kept here
                if repr(error) != broken:
                    log.exception("the record cannot be looked through")
                broken = repr(error)

    def _serve(self, fleet: Fleet, trials: Path) -> ServedEndpoint:
        return ServedEndpoint(
            fleet,
            self._gateway,
            self._stores.ledger,
            self._stores.rollouts,
            trials,
            self._record,
            self._meter,
            self._timeout,
            self._clock,
            self._recording.durability,
            self._prices,
        )


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
        patience=timeout,
    )
