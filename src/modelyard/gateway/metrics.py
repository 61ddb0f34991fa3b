"""What is measured at the gateway's edge, and GET /metrics."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from modelyard.ids import short
from modelyard.serving.endpoint import Endpoint
from modelyard.serving.meter import Meter, Reading
from modelyard.serving.pool import Pool
from modelyard.serving.record import Record
from modelyard.serving.segment import CLOSED, listed
from modelyard.serving.supervise import Fleet

DIALECTS = (
    ("/v1/", "openai"),
    ("/invocations", "mlflow"),
    ("/serving-endpoints/", "databricks"),
    ("/v2/", "oip"),
    ("/predict", "predict"),
    ("/search", "search"),
)
"""What a path begins with, and the dialect spoken there."""
COUNTS = {
    "modelyard_worker_restarts_total": "restarts",
    "modelyard_retries_total": "retries",
    "modelyard_given_up_total": "given_up",
    "modelyard_overloaded_total": "refused",
    "modelyard_streams_cut_total": "streams_cut",
}
"""What the fleet counts itself."""


async def metrics(request: Request) -> Response:
    """GET /metrics, in Prometheus' text format."""
    meter: Meter = request.app.state.meter
    return Response(meter.text(), headers={"content-type": Meter.content_type, "cache-control": "no-store"})


class Metered:
    """Middleware: every request to a model is counted once it is answered, and how long it took.

    Which release answered is what the reply's header says, else the one that the route chose: it left that in
    scope["modelyard.release"], and its arm in scope["modelyard.arm"]. A client that went away is status 499.
    """

    def __init__(self, app: ASGIApp, meter: Meter, endpoint: str) -> None:
        self._app, self._meter, self._endpoint = app, meter, endpoint

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        dialect = _dialect(scope["path"]) if scope["type"] == "http" and scope["method"] == "POST" else None
        if dialect is None:
            await self._app(scope, receive, send)
            return
        began, status, release, whole = time.monotonic(), 500, "", False

        async def sending(message: Message) -> None:
            nonlocal status, release, whole
            if message["type"] == "http.response.start":
                status = message["status"]
                for name, value in message.get("headers", ()):
                    if name == b"modelyard-release":
                        release = value.decode("latin-1")
            await send(message)
            whole = message["type"] == "http.response.body" and not message.get("more_body", False)

        try:
            await self._app(scope, receive, sending)
        finally:
            chosen: Endpoint | None = scope.get("modelyard.endpoint")
            self._meter.answered(
                chosen.name if chosen is not None else self._endpoint,
                short(release or scope.get("modelyard.release", "")) or "none",
                scope.get("modelyard.arm", "champion"),
                dialect,
                status if whole or status >= 400 else 499,
                time.monotonic() - began,
            )


def _dialect(path: str) -> str | None:
    return next((dialect for prefix, dialect in DIALECTS if path.startswith(prefix)), None)


def measure(own: Endpoint, served: Callable[[], Iterable[Endpoint]]) -> None:
    """Let the meter read what is read only when somebody asks: of all endpoints that are `served` then, and of the
    record that they share under the name of the project's `own`."""
    meter, record, name = own.meter, own.record, own.name

    def each(figure: Callable[[Fleet], Iterable[Reading]]) -> Callable[[], Iterator[Reading]]:
        def read() -> Iterator[Reading]:
            for endpoint in served():
                yield from figure(endpoint.fleet)

        return read

    def by_pool(figure: Callable[[Pool], float]) -> Callable[[], Iterator[Reading]]:
        def read(fleet: Fleet) -> Iterator[Reading]:
            for release in fleet.pointers.named():
                if (pool := fleet.pool(release)) is not None:
                    yield (fleet.endpoint, short(release)), figure(pool)

        return each(read)

    def counted(count: str) -> Callable[[], Iterator[Reading]]:
        return each(lambda fleet: [((fleet.endpoint,), float(fleet.counts[count]))])

    meter.live("modelyard_ready", each(lambda fleet: [((fleet.endpoint,), float(fleet.standing().ready))]))
    meter.live("modelyard_workers", by_pool(lambda pool: len(pool.workers)))
    meter.live("modelyard_requests_in_flight", by_pool(lambda pool: pool.under_way))
    meter.live("modelyard_requests_waiting", by_pool(_waiting))
    meter.live(
        "modelyard_traffic_percent",
        each(lambda fleet: [((fleet.endpoint, short(release)), share) for release, share in fleet.pointers.split]),
    )
    meter.live("modelyard_unlogged_total", lambda: [((name,), float(record.counts.unlogged))])
    meter.live("modelyard_rollout_percent", each(_challenger))
    meter.live("modelyard_record_bytes", lambda: [((name,), float(record.log.size))])
    meter.live("modelyard_record_lag_seconds", lambda: [((name,), record_lag(record))])
    meter.live("modelyard_record_unreadable", lambda: [((name,), float(record.unreadable))])
    meter.live(
        "modelyard_record_refused_total",
        lambda: [((name,), float(record.counts.refused + record.counts.unwritten))],
    )
    for measured, count in COUNTS.items():
        meter.live(measured, counted(count))


def _waiting(pool: Pool) -> float:
    return max(0, pool.under_way - sum(worker.load for worker in pool.workers))


def _challenger(fleet: Fleet) -> Iterator[Reading]:
    challenger = fleet.pointers.challenger
    if challenger is not None:
        yield (fleet.endpoint, short(challenger)), float(dict(fleet.pointers.split).get(challenger, 0))


def record_lag(record: Record) -> float:
    """Seconds since the oldest segment was closed that nobody has folded; 0 where none waits."""
    closed = []
    for path in listed(record.log.folder, CLOSED):
        with contextlib.suppress(FileNotFoundError):  # folded just now
            closed.append(path.stat().st_mtime)
    return max(0.0, time.time() - min(closed)) if closed else 0.0
