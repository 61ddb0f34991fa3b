"""Bodies of requests: bounded, UTF-8, JSON, one object."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, Literal, NoReturn

from starlette.requests import ClientDisconnect, Request

from modelyard.errors import Cancelled, RequestError, RequestTooLarge, UnsupportedType

_READ_ON = 16 << 20
"""How far past the limit a longer body is read before it is refused, so that its sender gets to read the answer."""
_TEXT = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_CHARSET = re.compile(r"""\bcharset\s*=\s*["']?([^\s;"']*)""", re.IGNORECASE)
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_AS_LISTS = bytes.maketrans(b"{}", b"[]")

Kind = Literal["chat", "scoring"]


@dataclass(frozen=True)
class Bodies:
    """Most bytes of a body, for chat and for scoring, and how deep lists and objects may lie in one another."""

    chat: int = 4 * 10**6
    scoring: int = 16 * 10**6
    depth: int = 64


async def read_json(request: Request, sort: Kind = "chat") -> tuple[bytes, dict[str, Any]]:
    """The body as it came, and as a JSON object. Raises RequestTooLarge, UnsupportedType, RequestError with one line
    that says what is wrong."""
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
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise RequestError(f"the body is not UTF-8 text (byte {error.start})") from None
    try:
        value = json.loads(text, parse_constant=_constant)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise RequestError(f"the body is not JSON: {error.msg} ({where})" if text else "the body is empty") from None
    except (ValueError, RecursionError) as error:
        deep = isinstance(error, RecursionError)
        raise RequestError(f"the body is not JSON: {'nested too deeply' if deep else error}") from None
    if deeper(raw, bodies.depth):
        raise RequestError(f"the body is not accepted: lists and objects in it lie more than {bodies.depth} deep")
    return raw, value


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
    left = _TEXT.sub(b"", raw).translate(_AS_LISTS, _NOT_BRACKETS)
    for _ in range(most):
        if not left:
            return False
        left = left.replace(b"[]", b"")
    return bool(left)


async def read_bytes(request: Request, limit: int) -> bytes:
    """The body as it came. Raises RequestTooLarge, Cancelled."""
    parts, size = [], 0
    try:
        async for part in request.stream():
            size += len(part)
            if size > limit + _READ_ON:
                break
            if size <= limit:
                parts.append(part)
    except ClientDisconnect:
        raise Cancelled("the caller went away") from None
    if size > limit:
        raise RequestTooLarge(f"the body is over the limit of {limit:,} bytes")
    return b"".join(parts)


def _constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON value")
