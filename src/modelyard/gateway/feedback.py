"""POST /feedback: what somebody said of an answer, or what turned out to be true of it. It becomes an outcome."""

from __future__ import annotations

import re
import time
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from modelyard.errors import RequestError
from modelyard.gateway.auth import Caller
from modelyard.gateway.body import read_json
from modelyard.gateway.replies import openai_error, replying
from modelyard.gateway.service import service
from modelyard.serving.record import Outcome
from modelyard.serving.rows import KINDS

_ID = re.compile(r"(?:chatcmpl-)?([0-9a-f]{32})\Z")
MOST_WORDS = 10_000


@replying(openai_error)
async def feedback(request: Request) -> Response:
    """{"request_id", "kind": "thumb"|"comment"|"label", "value"} -> 202. The id is the header X-Request-Id of the
    answer; that of a chat completion does too. What was said is durable before the reply."""
    _, body = await read_json(request)
    identity, kind, value = said(body)
    here, caller = service(request), request.scope["modelyard.caller"]
    assert isinstance(caller, Caller)
    await here.record.outcome(Outcome(identity, kind, value, time.time_ns(), caller.id))
    if kind == "thumb" and (known := here.recent.answered(identity)) is not None:
        unit, release = known
        here.router.observe(unit, {"feedback": float(value == "down")}, release)
    return JSONResponse({"request_id": identity, "kind": kind}, 202)


def said(body: dict[str, Any]) -> tuple[str, str, str]:
    """(request id, kind, value as text). Raises RequestError."""
    found = _ID.match(str(body.get("request_id", "")))
    if found is None:
        raise RequestError("request_id: the X-Request-Id of an answer is expected, 32 hex digits")
    kind, value = body.get("kind"), body.get("value")
    if kind not in KINDS:
        raise RequestError(f"kind: one of {', '.join(KINDS)} is expected")
    unknown = sorted(set(body) - {"request_id", "kind", "value"})
    if unknown:
        raise RequestError(f"unknown {', '.join(unknown[:3])}: request_id, kind and value are expected")
    if kind == "thumb":
        if value not in ("up", "down"):
            raise RequestError("value: up or down is expected of a thumb")
        return found[1], kind, value
    if isinstance(value, bool | int | float) and kind == "label":
        value = str(value).lower() if isinstance(value, bool) else repr(value)
    if not isinstance(value, str) or not value.strip():
        raise RequestError("value: a text that is not empty is expected")
    if len(value) > MOST_WORDS:
        raise RequestError(f"value: at most {MOST_WORDS:,} characters")
    return found[1], kind, value
