"""Who may come in. A bearer token where one is set; on loopback without one, only what the gateway's own page, or a
program on this machine, would send."""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Mapping
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from modelyard.errors import ModelyardError, RefusedByPolicy, RequestError, Unauthorized
from modelyard.gateway.replies import mlflow_error, openai_error, refusal

OPEN = ("/health", "/ready")
PAGE = ("/", "/favicon.ico", "/static/")
"""The chat page itself: files of the package, alike for everybody. What it shows it asks for with the token."""


class Auth:
    """Middleware. `bearers` are the secrets let in, and the groups of who has one; none means that the gateway listens
    on loopback only, and then the Host must be of loopback, so that no name of somebody else's that resolves to
    127.0.0.1 (DNS rebinding) gets in.

    The groups are in scope["modelyard.groups"]: nothing else of a request can give it any.
    """

    def __init__(self, app: ASGIApp, bearers: Mapping[str, frozenset[str]]) -> None:
        self._app = app
        self._bearers = {secret.encode(): groups for secret, groups in bearers.items()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        error = self._admit(scope["path"], headers)
        if error is None:
            # Readiness tells everybody whether, and only those who may come in why not.
            groups = self.bearer(headers)
            scope["modelyard.trusted"] = not self._bearers or groups is not None
            scope["modelyard.groups"] = groups or frozenset()
            await self._app(scope, receive, send)
        else:
            shape = mlflow_error if scope["path"] == "/invocations" else openai_error
            await refusal(error, shape)(scope, receive, send)

    def _admit(self, path: str, headers: Headers) -> ModelyardError | None:
        if not self._bearers and not is_loopback(_name(headers.get("host", ""))):
            return RequestError("this gateway is for its own machine: the Host header must be localhost or 127.0.0.1")
        if self._foreign(headers):
            return Forbidden("a page of another site may not use this gateway")
        open_to_all = path in OPEN or path in PAGE or path.startswith(PAGE[-1])
        if not self._bearers or open_to_all or self.bearer(headers) is not None:
            return None
        return Unauthorized("a valid token is needed: send Authorization: Bearer TOKEN")

    def bearer(self, headers: Headers) -> frozenset[str] | None:
        """The groups of whoever has the secret that the request carries; None where it carries none of them."""
        kind, _, given = headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer":
            return None
        raw = given.strip().encode("latin-1", "replace")
        # All are compared, whole: how long it takes tells nothing.
        found = [groups for secret, groups in self._bearers.items() if hmac.compare_digest(raw, secret)]
        return found[0] if found else None

    def _foreign(self, headers: Headers) -> bool:
        origin = headers.get("origin")
        if origin is None or self._bearers:  # with a token: a page that has it may come from anywhere
            return False
        return urlsplit(origin).netloc.lower() != headers.get("host", "").lower()


class Forbidden(RefusedByPolicy):
    """Asked from where nobody may ask."""

    status = 403
    code = "forbidden"


def is_loopback(host: str) -> bool:
    """Whether `host`, a name or an address, is this machine and only that."""
    if host.lower().rstrip(".") == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.split("%")[0]).is_loopback
    except ValueError:
        return False


def _name(host: str) -> str:
    """The host of a Host header, without port and brackets."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]
