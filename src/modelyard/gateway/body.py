"""Bodies of requests: bounded, UTF-8, JSON, one object."""

from __future__ import annotations

import json
from typing import Any, NoReturn

from starlette.requests import ClientDisconnect, Request

from modelyard.errors import Cancelled, RequestError, RequestTooLarge

LIMIT = 1 << 20
"""Most bytes of a body."""
_READ_ON = 16 << 20
"""A longer body is read that far before it is refused, so that its sender gets to read the answer."""


async def read_json(request: Request) -> dict[str, Any]:
    """The body as a JSON object. Raises RequestTooLarge, RequestError with one line that says what is wrong."""
    kind = request.headers.get("content-type", "application/json").split(";")[0].strip().lower()
    if kind != "application/json":
        # A body without the type is what a page of another site can make a browser send; with it, it has to ask first.
        raise RequestError("the body must be JSON: send it with Content-Type: application/json")
    raw = await _read(request)
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


async def _read(request: Request) -> bytes:
    parts, size = [], 0
    try:
        async for part in request.stream():
            size += len(part)
            if size > _READ_ON:
                break
            if size <= LIMIT:
                parts.append(part)
    except ClientDisconnect:
        raise Cancelled("the caller went away") from None
    if size > LIMIT:
        raise RequestTooLarge(f"the body is over the limit of {LIMIT:,} bytes")
    return b"".join(parts)


def _constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON value")
