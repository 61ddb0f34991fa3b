"""What the routes work with, and how a request of theirs becomes one to a worker."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from starlette.requests import Request

from modelyard.clock import Clock
from modelyard.errors import RequestError
from modelyard.gateway.auth import Caller
from modelyard.serving.exchange import Exchange
from modelyard.serving.meter import Meter
from modelyard.serving.supervise import Fleet
from modelyard.serving.wire import Frame

_KEY_LENGTH = 200


@dataclass(frozen=True)
class Service:
    """One endpoint. `timeout` in seconds bounds every request."""

    fleet: Fleet
    timeout: float
    clock: Clock

    @property
    def endpoint(self) -> str:
        return self.fleet.endpoint

    def exchange(self, request: Request, job: Frame, release: str | None = None) -> Exchange:
        """`job`, asked for by `request`, on its way to a worker; cancelled as soon as its client goes. Close it."""
        return self.asked(gone(request), {**job, "groups": groups_of(request)}, release)

    def asked(self, end: Awaitable[None], job: Frame, release: str | None = None) -> Exchange:
        """`job`, groups and all, on its way to a worker; cancelled as soon as `end` is there. Close it."""
        exchange = Exchange(self.fleet, job, self.timeout, release)
        exchange.until(end)
        return exchange

    def accepts(self) -> frozenset[str]:
        """Keys of a request that the release understands which answers now."""
        worker = self.fleet.ready()
        return frozenset(worker.about["accepts"]) if worker is not None else frozenset()


def service(request: Request) -> Service:
    """The service behind a route."""
    return cast(Service, request.app.state.service)


def spent(request: Request, usage: Mapping[str, Any]) -> None:
    """Count what a model read and wrote, as it says, for the caller whose request it was."""
    caller: Caller = request.scope["modelyard.caller"]
    meter: Meter = request.app.state.meter
    used = {kind: int(usage.get(f"{kind}_tokens", 0)) for kind in ("prompt", "completion")}
    for kind, tokens in used.items():
        if tokens > 0:
            meter.count("modelyard_usage_tokens_total", caller.id, kind, by=tokens)
    caller.spend(sum(used.values()))


def groups_of(request: Request) -> list[str]:
    """The groups of the caller, as the authentication found them: nothing that a client sends can add one."""
    groups: frozenset[str] = request.scope["modelyard.groups"]
    return sorted(groups)


async def gone(request: Request) -> None:
    """Returns when the client went away. To be awaited once the body is read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def idempotency_key(request: Request) -> str:
    """The caller's, or one of our own. Raises RequestError."""
    key = request.headers.get("idempotency-key")
    if key is None:
        return uuid.uuid4().hex
    if not key.strip() or len(key) > _KEY_LENGTH or not key.isascii() or not key.isprintable():
        raise RequestError(f"Idempotency-Key: 1 to {_KEY_LENGTH} printable ASCII characters are expected")
    return key
