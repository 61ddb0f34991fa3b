"""Bodies of requests: bounded, alone and together; UTF-8, JSON, one object. Long ones are read beside the loop."""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import dataclass
from typing import Any, Literal, NoReturn

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from modelyard.errors import Busy, Cancelled, RequestError, RequestTooLarge, UnsupportedType
from modelyard.gateway.service import service
from modelyard.serving.aside import ASIDE_BYTES, aside, loads

FREE_BYTES = 64 << 10
"""A body up to that is not counted among those that are held: as much lies in the server's own buffers anyway."""
_READ_ON = 16 << 20
"""How far past the limit a longer body is read before it is refused, so that its sender gets to read the answer."""
_TEXT = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_CHARSET = re.compile(r"""\bcharset\s*=\s*["']?([^\s;"']*)""", re.IGNORECASE)
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_AS_LISTS = bytes.maketrans(b"{}", b"[]")
_HELD = "modelyard.held"

Kind = Literal["chat", "scoring"]


@dataclass(frozen=True)
class Bodies:
    """Most bytes of a body, for chat and for scoring, how deep lists and objects may lie in one another, and most bytes
    of the bodies of all requests `together`."""

    chat: int = 4 * 10**6
    scoring: int = 16 * 10**6
    depth: int = 64
    together: int = 256 * 10**6


class SlowBody(RequestError):
    """A body that did not arrive in time."""

    status = 408
    code = "request_timeout"
    retry = True


class Holding:
    """What the bodies of requests under way take in memory, in bytes, and may. Used from one event loop."""

    def __init__(self, most: int) -> None:
        self.most, self.held = most, 0

    def take(self, scope: Scope, size: int) -> None:
        """A request holds so many bytes more from now on. One that is alone may always. Raises Busy."""
        own: int = scope.get(_HELD, 0)
        if self.held > own and self.held + size > self.most:
            raise Busy("the bodies of requests under way take the memory that there is for them: try again in a moment")
        self.held += size
        scope[_HELD] = own + size

    def give(self, scope: Scope) -> None:
        """The request holds nothing any more."""
        self.held -= scope.pop(_HELD, 0)


class Held:
    """Middleware: what a request holds it holds until it is answered."""

    def __init__(self, app: ASGIApp, holding: Holding) -> None:
        self._app, self._holding = app, holding

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._app(scope, receive, send)
        finally:
            if _HELD in scope:
                self._holding.give(scope)


async def read_json(request: Request, sort: Kind = "chat") -> tuple[bytes, dict[str, Any]]:
    """The body as it came, and as a JSON object. Raises RequestError with one line that says what is wrong, and what
    `read_bytes` raises."""
    raw, value = await read_value(request, sort)
    if not isinstance(value, dict):
        raise RequestError("the body must be a JSON object")
    return raw, value


async def read_value(request: Request, sort: Kind = "chat") -> tuple[bytes, Any]:
    """The body as it came, and as whatever value of JSON it is. Raises what `read_json` raises."""
    kind, _, more = request.headers.get("content-type", "application/json").partition(";")
    if kind.strip().lower() != "application/json":
        # A body without the type is what a page of another site can make a browser send; with it, it has to ask first.
        raise UnsupportedType("the body must be JSON: send it with Content-Type: application/json")
    charset = _CHARSET.search(more)
    if charset is not None and charset[1].lower() not in ("utf-8", "utf8"):
        raise UnsupportedType("the body must be UTF-8: the content type may name no other charset")
    bodies: Bodies = request.app.state.bodies
    raw = await read_bytes(request, bodies.chat if sort == "chat" else bodies.scoring)
    return raw, await aside(len(raw), parsed, raw, bodies.depth)


def parsed(raw: bytes, depth: int) -> Any:
    """A body as the value it is, lists and objects in it at most `depth` deep. Raises RequestError."""
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise RequestError(f"the body is not UTF-8 text (byte {error.start})") from None
    try:
        value = loads(text, constant)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise RequestError(f"the body is not JSON: {error.msg} ({where})" if text else "the body is empty") from None
    except (ValueError, RecursionError) as error:
        deep = isinstance(error, RecursionError)
        raise RequestError(f"the body is not JSON: {'nested too deeply' if deep else error}") from None
    if deeper(raw, depth):
        raise RequestError(f"the body is not accepted: lists and objects in it lie more than {depth} deep")
    return value


def whole(value: Any) -> int | None:
    """A whole number of JSON, 3 or 3.0; None where it is none."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if type(value) is int else None


def deeper(raw: bytes, most: int) -> bool:
    """Whether lists and objects of a valid JSON text lie more than `most` deep in one another.

    Peels the innermost layer off, `most` times: as quick as copying the brackets, however they lie.
    """
    if raw.count(b"[") + raw.count(b"{") <= most:
        return False
    without = b"" if len(raw) <= ASIDE_BYTES else _nothing
    left = _TEXT.sub(without, raw).translate(_AS_LISTS, _NOT_BRACKETS)
    for _ in range(most):
        if not left:
            return False
        left = left.replace(b"[]", b"")
    return bool(left)


async def read_bytes(request: Request, limit: int) -> bytes:
    """The body as it came. Raises RequestTooLarge, Busy where there is no memory for it now, SlowBody, Cancelled."""
    message = await request.receive()
    first = _part(message)
    if not message.get("more_body", False) and len(first) <= FREE_BYTES:  # as most are
        return _within(first, len(first), limit)
    timeout = service(request).timeout
    try:
        async with asyncio.timeout(timeout):
            return await _read_on(request, limit, message)
    except TimeoutError:
        raise SlowBody(f"the body did not arrive within {timeout:g} s") from None
    except Busy:
        service(request).fleet.counts["refused"] += 1
        raise


async def _read_on(request: Request, limit: int, message: Message) -> bytes:
    holding: Holding = request.app.state.holding
    announced = int(request.headers.get("content-length", "0"))
    # Room for all of it before it is read: bodies that are begun are also finished.
    if FREE_BYTES < announced <= limit:
        holding.take(request.scope, announced)
    parts, size, taken = list[bytes](), 0, announced
    while True:
        part = _part(message)
        size += len(part)
        if size > limit + _READ_ON:
            break
        if size > limit or announced > limit:
            parts.clear()
            holding.give(request.scope)
        else:
            if size > max(taken, FREE_BYTES):
                holding.take(request.scope, size - taken)
                taken = size
            parts.append(part)
        if not message.get("more_body", False):
            break
        message = await request.receive()
    return _within(b"".join(parts), size, limit)


def _part(message: Message) -> bytes:
    if message["type"] == "http.disconnect":
        raise Cancelled("the caller went away")
    part: bytes = message.get("body", b"")
    return part


def _within(raw: bytes, size: int, limit: int) -> bytes:
    if size > limit:
        raise RequestTooLarge(f"the body is over the limit of {limit:,} bytes")
    return raw


def _nothing(match: re.Match[bytes]) -> bytes:
    return b""


def constant(name: str) -> NoReturn:
    """NaN and infinities: no values of JSON, though many read them as such."""
    raise ValueError(f"{name} is no JSON value")
