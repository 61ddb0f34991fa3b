"""Who may come in, and what for. A token where one is asked for; on loopback without any, only what the gateway's own
page, or a program on this machine, would send."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol
from urllib.parse import urlsplit

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from modelyard.errors import ModelyardError, RateLimited, RefusedByPolicy, RequestError, Unauthorized
from modelyard.gateway.limits import Allowance
from modelyard.gateway.replies import refusal, shape_of
from modelyard.ports.tokens import SECRET
from modelyard.ports.tokens import Scope as May
from modelyard.serving.meter import Meter

OPEN = frozenset({"/health", "/ready", "/v2/health/live", "/v2/health/ready", "/.well-known/databricks-config"})
PAGE = ("/", "/ops", "/favicon.ico", "/static/")
"""The pages themselves: files of the package, alike for everybody. What they show they ask for with the token."""
OPERATE = ("/ops", "/api/")
"""What moves or tells what is served: for tokens that may operate."""
METRICS = "/metrics"
BESIDE = ("/feedback", "/pages/")
"""What is no question to a model, and costs something: limits by the minute count it, budgets by the day do not."""


@dataclass(frozen=True)
class Caller:
    """Who asks: the id of a token, "serve" (the token of the configuration), "local" (a process of the same user) or
    "anonymous" (on loopback, where no token is asked for). Nothing else of a request can give it groups. `name` is the
    token's, where it has one."""

    id: str
    scope: May = "operate"
    groups: frozenset[str] = frozenset()
    allowance: Allowance | None = None
    name: str = ""

    def spend(self, tokens: int) -> None:
        """Count what a model read and wrote for this caller, prompt and answer together."""
        if self.allowance is not None:
            self.allowance.spend(tokens)


ANONYMOUS = Caller("anonymous")


class Callers(Protocol):
    """Whose secrets are known, and whether one is needed: `gateway.keyring` keeps it up to date."""

    @property
    def required(self) -> bool: ...

    def find(self, secret: str) -> Caller | None:
        """Who has this secret, now."""
        ...


class Door:
    """Says who comes in. Where `callers.required` is False the gateway listens on loopback only, and then the Host must
    be of loopback, so that no name of somebody else's that resolves to 127.0.0.1 (DNS rebinding) gets in. `metrics` is
    who may read /metrics."""

    def __init__(self, callers: Callers, metrics: str = "operate") -> None:
        self._callers, self._metrics = callers, metrics

    def admit(self, path: str, host: str, authorization: str, origin: str | None) -> tuple[Caller, bool]:
        """Who asks, and whether they may come in at all. Raises Unauthorized, Forbidden, RequestError."""
        kind, _, secret = authorization.partition(" ")
        secret = secret.strip() if kind.lower() == "bearer" else ""
        caller = self._callers.find(secret) if secret else None
        required = self._callers.required
        if not required:
            if not is_loopback(_name(host)):
                raise RequestError(
                    "this gateway is for its own machine: the Host header must be localhost or 127.0.0.1"
                )
            if origin is not None and _netloc(origin) != host.lower():
                raise Forbidden("a page of another site may not use this gateway")
        if path in OPEN or path in PAGE or path.startswith(PAGE[-1]):
            return caller or Caller("anonymous", "query"), not required or caller is not None
        if caller is None:
            # A secret of ours that is good no more is refused even where none is needed: it was revoked for a reason.
            if not (required or SECRET.fullmatch(secret)) or (path == METRICS and self._metrics == "open"):
                return ANONYMOUS, True
            raise Unauthorized("a valid token is needed: send Authorization: Bearer TOKEN")
        operate = path.startswith(OPERATE) or (path == METRICS and self._metrics == "operate")
        if operate and caller.scope != "operate":
            raise Forbidden("this token may ask for answers only; this needs one of scope operate")
        return caller, True


def turned_away(error: ModelyardError, path: str, meter: Meter) -> Response:
    """The reply to a request that does not come in, which is counted."""
    meter.count("modelyard_refused_total", error.code)
    reply = refusal(error, shape_of(path))
    if isinstance(error, RateLimited) and (error.retry_after or 0) > 60:
        reply.headers["x-should-retry"] = "false"  # longer than any client waits by itself
    return reply


class Auth:
    """Middleware: nobody gets past it whom the door does not admit, or whose allowance is used up.

    It leaves in the scope: "modelyard.caller", "modelyard.groups" (theirs), and "modelyard.trusted": readiness tells
    everybody whether, and only those who may come in why not.
    """

    def __init__(self, app: ASGIApp, door: Door, meter: Meter) -> None:
        self._app, self._door, self._meter = app, door, meter

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path: str = scope["path"]
        try:
            caller, trusted = self._admit(path, scope)
            allowance = caller.allowance
            if allowance is not None:
                if path.startswith(BESIDE):
                    allowance.admit(question=False)
                elif scope["method"] == "POST" and not path.startswith(OPERATE):
                    allowance.admit()
                send = _with_limits(send, allowance)
        except ModelyardError as error:
            await turned_away(error, path, self._meter)(scope, receive, send)
            return
        scope["modelyard.caller"], scope["modelyard.trusted"] = caller, trusted
        scope["modelyard.groups"] = caller.groups
        await self._app(scope, receive, send)

    def _admit(self, path: str, scope: Scope) -> tuple[Caller, bool]:
        host = authorization = ""
        origin = None
        for name, value in scope["headers"]:
            if name == b"authorization":
                authorization = value.decode("latin-1")
            elif name == b"host":
                host = value.decode("latin-1")
            elif name == b"origin":
                origin = value.decode("latin-1")
        return self._door.admit(path, host, authorization, origin)


class Forbidden(RefusedByPolicy):
    """Asked by somebody, or from somewhere, that may not."""

    status = 403
    code = "forbidden"


@lru_cache(maxsize=256)
def is_loopback(host: str) -> bool:
    """Whether `host`, a name or an address, is this machine and only that."""
    if host.lower().rstrip(".") == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.split("%")[0]).is_loopback
    except ValueError:
        return False


def _netloc(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return None


def _name(host: str) -> str:
    """The host of a Host header, without port and brackets."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def _with_limits(send: Send, allowance: Allowance) -> Send:
    """`send`, with what is left of the allowance in the headers of the reply."""
    if not (allowance.limits.requests_per_minute or allowance.limits.tokens_per_minute):
        return send

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", []), *allowance.raw_headers()]}
        await send(message)

    return sending
