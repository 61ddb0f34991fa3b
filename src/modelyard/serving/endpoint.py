"""A served name: who answers it, which release a conversation gets, and where all of it is written down. No HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from modelyard.clock import Clock
from modelyard.errors import Unavailable
from modelyard.serving.assignment import Assignment, Values
from modelyard.serving.exchange import Exchange
from modelyard.serving.meter import Meter
from modelyard.serving.recent import Recent
from modelyard.serving.record import Record
from modelyard.serving.supervise import Fleet


class Router(Protocol):
    """Chooses a release for a unit, keeps to the choice, and learns how it went."""

    @property
    def generation(self) -> int | None:
        """The move of the endpoint that it routes by; None where it follows none."""
        ...

    async def assign(self, unit: str, begun: bool) -> Assignment:
        """The release of the unit; the choice is durable when it returns. `begun`: the request shows that its
        conversation is under way."""
        ...

    def observe(self, unit: str, values: Values, release: str | None = None) -> None:
        """What became of a request of the unit (see `assignment.outcome`), and which release answered it."""
        ...

    def mirror(self, unit: str, job: Mapping[str, Any], values: Values, response: Any) -> None:
        """Have a release in the shadow asked the same, once the answer is given. Returns at once."""
        ...


class Straight:
    """The router of an endpoint where nothing is split: whatever answers now answers everybody."""

    generation = None

    async def assign(self, unit: str, begun: bool) -> Assignment:
        return Assignment()

    def observe(self, unit: str, values: Values, release: str | None = None) -> None:
        """Nobody asks."""

    def mirror(self, unit: str, job: Mapping[str, Any], values: Values, response: Any) -> None:
        """Nobody is in the shadow."""


@dataclass(frozen=True)
class Endpoint:
    """One endpoint. `timeout` in seconds bounds every request."""

    fleet: Fleet
    record: Record
    meter: Meter
    timeout: float
    clock: Clock
    router: Router = field(default_factory=Straight)
    recent: Recent = field(default_factory=Recent)
    _schemas: dict[str, Mapping[str, Any] | None] = field(default_factory=dict, init=False, repr=False)

    @property
    def name(self) -> str:
        return self.fleet.endpoint

    @property
    def generation(self) -> int:
        """The move of the endpoint that requests meet here by now."""
        followed, routed = self.fleet.pointers.generation, self.router.generation
        return followed if routed is None else min(followed, routed)

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
