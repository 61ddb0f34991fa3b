"""Bodies of requests: bounded, UTF-8, JSON, one object."""

from __future__ import annotations

import json
from typing import Any, NoReturn

from starlette.requests import ClientDisconnect, Request

from modelyard.errors import Cancelled, RequestError, RequestTooLarge, UnsupportedType

LIMIT = 4 << 20
"""Most bytes of a body that a chatbot reads."""
_READ_ON = 64 << 20
"""A longer body is read that far before it is refused, so that its sender gets to read the answer."""


async def read_json(request: Request) -> tuple[bytes, dict[str, Any]]:
    """The body as it was sent, and as a JSON object. Raises RequestTooLarge, UnsupportedType, RequestError with one
    line that says what is wrong."""
    kind = request.headers.get("content-type", "application/json").split(";")[0].strip().lower()
    if kind != "application/json":
        # A body without the type is what a page of another site can make a browser send; with it, it has to ask first.
        raise UnsupportedType("the body must be JSON: send it with Content-Type: application/json")
    raw = await read_body(request, LIMIT)
    return raw, parse_object(raw)


def parse_object(raw: bytes) -> dict[str, Any]:
    """JSON text as an object. Raises RequestError."""
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
    if not isinstance(value, dict):
        raise RequestError("the body must be a JSON object")
    return value


async def read_body(request: Request, limit: int) -> bytes:
    """The bytes of the body. Raises RequestTooLarge past `limit`, Cancelled."""
    parts, size = [], 0
    try:
        async for part in request.stream():
            size += len(part)
            if size > _READ_ON:
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
