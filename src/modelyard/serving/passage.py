"""One request from arrival to record. A release is chosen for it, it is written down before a model is entered, and
what became of it before the last byte of the reply. Dialects only translate; all of them come through here."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple

from modelyard.calc.price import cost
from modelyard.errors import ModelyardError
from modelyard.serving.assignment import Assignment, outcome
from modelyard.serving.endpoint import Endpoint
from modelyard.serving.exchange import Exchange
from modelyard.serving.recent import Seen
from modelyard.serving.record import Accepted, Finished, request_id
from modelyard.serving.wire import Frame

log = logging.getLogger("modelyard.gateway")

NAMED = "named"
"""The arm of a request that names the release it is for."""


class Arrival(NamedTuple):
    """A request as it came in. `body` is what was sent, `requester` the token's id (never the secret), `key` the
    idempotency key. `unit` is the conversation or entity it belongs to, which a rollout assigns and counts by; `begun`
    says that this is not the first that is heard of it. `release`: the one that was asked for by name answers it,
    whatever a rollout says, and it is no evidence to one."""

    dialect: str
    body: bytes
    key: str
    unit: str
    begun: bool = False
    requester: str = ""
    groups: tuple[str, ...] = ()
    client_request_id: str | None = None
    release: str | None = None


class Passage:
    """`enter` before the model is, `exchange` for what it is asked, `finish` before the reply ends."""

    def __init__(self, endpoint: Endpoint, arrival: Arrival, spend: Callable[[Mapping[str, int]], None]) -> None:
        """`spend` counts for the caller what the model read and wrote: {prompt_tokens, completion_tokens}."""
        self.id = request_id()
        self.endpoint, self.arrival = endpoint, arrival
        self.given = Assignment()
        self.release = self._chosen = ""
        self.usage: dict[str, int] = {}
        self.signals: dict[str, float] = {}
        self.cost: float | None = None
        """As the release says itself (a signal of that name), else by the prices of what it used."""
        self._spend = spend
        self._began = endpoint.clock.monotonic()
        self._exchanges: list[Exchange] = []
        self._job: Frame = {}
        self._response: dict[str, Any] | None = None
        self._first_ms: float | None = None
        self._open = False

    async def enter(self) -> None:
        """Choose the release, and have the request on record. Raises RecordFull: then no model is entered."""
        here, arrival = self.endpoint, self.arrival
        if arrival.release is not None:
            self.given = Assignment(arrival.release, NAMED)
        else:
            self.given = await here.router.assign(arrival.unit, arrival.begun)
        # While no worker of the champion is up, that is whose answer is waited for.
        worker = here.fleet.ready()
        answers = worker.release if worker is not None else here.fleet.pointers.champion
        self.release = self._chosen = self.given.release or answers or ""
        self._open = True
        await here.record.accepted(
            Accepted(
                self.id,
                here.name,
                self.release,
                arrival.dialect,
                time.time_ns(),
                client_id=arrival.client_request_id,
                arm=self.given.arm,
                probability=self.given.probability,
                unit=arrival.unit,
                requester=arrival.requester,
                groups=arrival.groups,
                request=arrival.body,
            )
        )

    @property
    def left(self) -> float:
        """Seconds until its deadline; 0 past it."""
        return max(0.0, self.endpoint.timeout - (self.endpoint.clock.monotonic() - self._began))

    def exchange(self, job: Frame, end: Awaitable[None] | None = None, part: int | None = None) -> Exchange:
        """`job` on its way to a worker of the release; cancelled as soon as `end` is there, or by who has nothing to
        wait for (`Exchange.cancel`). `part` numbers the jobs of
        a request that has several. Close it, and say with `heard` what came of it."""
        key = self.arrival.key if part is None else f"{self.arrival.key}-{part}"
        frame = {**job, "key": key, "groups": list(self.arrival.groups)}
        fleet, release = self.endpoint.fleet, self.given.release
        # It may have been let go since it was chosen (a canary taken back): then whichever answers now does.
        stays = self.arrival.release is not None or (release is not None and fleet.pool(release) is not None)
        pinned = release if stays else None
        exchange = Exchange(fleet, frame, self.left, pinned)
        if end is not None:
            exchange.until(end)
        self._exchanges.append(exchange)
        self._job = frame
        return exchange

    def heard(self, exchange: Exchange, response: dict[str, Any]) -> None:
        """A worker's whole response: its usage adds up, and what it cost; its signals are those of the last."""
        self.release, self._response = exchange.release, response
        usage, signals = response.get("usage"), response.get("signals", {})
        spent = signals.get("cost")
        if usage:
            for kind, count in usage.items():
                self.usage[kind] = self.usage.get(kind, 0) + count
            spent = cost(usage, self.endpoint.prices) if spent is None else spent
        self.signals.update(signals)
        if spent is not None:
            self.cost = spent + (self.cost or 0.0)

    def streams(self) -> None:
        """The first byte of a stream leaves."""
        self._first_ms = round((self.endpoint.clock.monotonic() - self._began) * 1000, 3)

    async def finish(
        self, status: int, body: bytes | None, error: ModelyardError | None = None, *, cut: bool = False
    ) -> None:
        """Have on record what the caller gets to read; the first call counts. `cut`: a stream that had begun. Raises
        RecordFull: then the caller may not get it."""
        if not self._open:
            return
        self._open = False
        here = self.endpoint
        seconds = here.clock.monotonic() - self._began
        # It may be another than was chosen: the pointer moves while a request waits.
        self.release = next((each.release for each in reversed(self._exchanges) if each.release), self.release)
        failure = type(error).__name__ if error is not None else None
        try:
            self._count(status, seconds * 1000, error)
        except Exception:  # whatever it is, it must not keep the request off the record
            log.exception("what became of request %s cannot be counted", self.id)
        await here.record.finished(
            Finished(
                self.id,
                status,
                duration_ms=round(seconds * 1000, 3),
                error=failure,
                attempts=1 + sum(exchange.retries for exchange in self._exchanges),
                usage=self.usage,
                cost=self.cost,
                signals=self.signals,
                first_ms=self._first_ms,
                aborted=status == 499,
                truncated=cut,
                release=self.release if self.release != self._chosen else None,
                response=body,
            )
        )

    def _count(self, status: int, milliseconds: float, error: ModelyardError | None) -> None:
        """Tell those who count in memory: the caller's budget, the rollout, the pages of operations."""
        here, given, arrival = self.endpoint, self.given, self.arrival
        unit, failure = arrival.unit, type(error).__name__ if error is not None else None
        seen = (self.id, time.time(), arrival.dialect, self.release, given.arm, status, milliseconds, unit, failure)
        here.recent.note(Seen(*seen))
        if self.usage:
            self._spend(self.usage)
        # What we end ourselves, because the gateway stops, says nothing of a release.
        if arrival.release is None and not (error is not None and here.fleet.ending):
            spent = self.cost
            values = outcome(error, milliseconds, self.signals if spent is None else {**self.signals, "cost": spent})
            here.router.observe(unit, values, self.release or None)
            if len(self._exchanges) == 1 and status != 499:  # of a request with several jobs nothing is compared
                here.router.mirror(unit, self._job, values, self._response)
