"""A served name: who answers it, which release a conversation gets, and where all of it is written down. No HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from modelyard.clock import Clock
from modelyard.errors import Unavailable
from modelyard.serving.exchange import Exchange
from modelyard.serving.meter import Meter
from modelyard.serving.recent import Recent
from modelyard.serving.record import Record
from modelyard.serving.rollout import RolloutRouter
from modelyard.serving.supervise import Fleet


@dataclass(frozen=True)
class Endpoint:
    """One endpoint. `timeout` in seconds bounds every request. `prices` are of a million of each count of usage."""

    fleet: Fleet
    record: Record
    meter: Meter
    timeout: float
    clock: Clock
    router: RolloutRouter
    recent: Recent = field(default_factory=Recent)
    prices: Mapping[str, float] = field(default_factory=dict)
    _schemas: dict[str, Mapping[str, Any] | None] = field(default_factory=dict, init=False, repr=False)

    @property
    def name(self) -> str:
        return self.fleet.endpoint

    @property
    def generation(self) -> int:
        """The move of the endpoint that requests meet here by now."""
        return min(self.fleet.pointers.generation, self.router.generation)

    async def introduced(self) -> None:
        """Until a worker is up: what a body has to be, only a release can say. Waiting is bounded as any request's is.
        Raises Busy, Unavailable, DeadlineExceeded."""
        while self.fleet.ready() is None:
            with Exchange(self.fleet, {"do": "ping"}, self.timeout) as exchange:
                await exchange.result()

    def accepts(self) -> frozenset[str]:
        """Keys of a request that the release understands which answers now."""
        worker = self.fleet.ready()
        return frozenset(worker.about["accepts"]) if worker is not None else frozenset()

    def schema(self, release: str | None = None) -> Mapping[str, Any] | None:
        """What `release`, or the one that answers now, says of its bodies: a `ports.workload.Schema` as JSON, None
        where it says nothing. Raises Unavailable where none of its workers is up and none ever was."""
        pool = self.fleet.pool(release) if release else None
        worker = pool.ready() if pool is not None else self.fleet.ready()
        if worker is not None:
            self._schemas[worker.release] = worker.about.get("schema")
            return self._schemas[worker.release]
        if release not in self._schemas:
            raise Unavailable(self.fleet.standing().reason or "no worker is ready")
        return self._schemas[release]

    @property
    def invokes(self) -> bool:
        """Whether the release that answers now reads scoring bodies itself."""
        worker = self.fleet.ready()
        return worker is not None and bool(worker.about["invoke"])
