"""How a request of a client becomes one to a release: whose it is, which conversation it belongs to, who answers it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast

from starlette.requests import Request

from modelyard.errors import RequestError
from modelyard.gateway.auth import Caller
from modelyard.gateway.replies import PASSAGE
from modelyard.serving.aside import aside
from modelyard.serving.assignment import unit_of
from modelyard.serving.endpoint import Endpoint
from modelyard.serving.estate import Estate
from modelyard.serving.exchange import Exchange
from modelyard.serving.meter import Meter
from modelyard.serving.passage import Arrival, Passage
from modelyard.serving.rows import request_id
from modelyard.serving.wire import Frame

CONVERSATION = "x-conversation-id"
_KEY_LENGTH = 200
_CHOSEN = "modelyard.endpoint"


def service(request: Request) -> Endpoint:
    """The endpoint behind a route: the one that was chosen with `at`, else the project's own."""
    return cast(Endpoint, request.scope.get(_CHOSEN) or request.app.state.service)


def at(request: Request, endpoint: Endpoint) -> Endpoint:
    """From now on the request is for this endpoint."""
    request.scope[_CHOSEN] = endpoint
    return endpoint


def served(request: Request) -> list[Endpoint]:
    """All endpoints of the gateway, the project's own first."""
    estate: Estate | None = request.app.state.estate
    return list(estate) if estate is not None else [service(request)]


def for_model(request: Request, model: Any) -> Endpoint:
    """From now on the request is for the endpoint of that name, where there is one; else for the project's own."""
    estate: Estate | None = request.app.state.estate
    found = estate.find(model) if estate is not None and isinstance(model, str) else None
    return at(request, found) if found is not None else service(request)


async def enter(
    request: Request,
    dialect: str,
    raw: bytes,
    body: Mapping[str, Any] | None = None,
    release: str | None = None,
) -> Passage:
    """The request on record, and its way to a release. `raw` is its body, `body` the same parsed, where it was;
    `release` is the one that the caller names.

    The reply of the route ends it (`replies.replying`). Raises RequestError, RecordFull.
    """
    here = service(request)
    fields = body if body is not None else {}
    client = fields.get("client_request_id")
    caller: Caller = request.scope["modelyard.caller"]
    conversation, first, begun = _conversation(request, raw, fields)
    arrival = Arrival(
        dialect,
        raw,
        idempotency_key(request.headers.get("idempotency-key"), caller),
        await aside(len(first), unit_of, caller.id, conversation, first),
        begun,
        caller.id,
        tuple(sorted(caller.groups)),
        client if isinstance(client, str) else None,
        release,
    )
    passage = await begin(here, caller, arrival)
    request.scope[PASSAGE] = passage
    request.scope["modelyard.release"], request.scope["modelyard.arm"] = passage.release, passage.given.arm
    return passage


async def begin(here: Endpoint, caller: Caller, arrival: Arrival) -> Passage:
    """What arrived from `caller`, on record. Raises RecordFull."""
    passage = Passage(here, arrival, lambda usage: _spent(here.meter, caller, usage))
    await passage.enter()
    return passage


def _conversation(request: Request, raw: bytes, body: Mapping[str, Any]) -> tuple[str | None, bytes, bool]:
    """The name that the caller gives the conversation or entity (the header X-Conversation-Id, else the body's
    `conversation_id` or `user`); the first thing that was said in it, which is there in every request of it; and
    whether it has gone on since."""
    named = (request.headers.get(CONVERSATION), body.get("conversation_id"), body.get("user"))
    name = next((each for each in named if isinstance(each, str) and each), None)
    messages = body.get("messages")
    if not isinstance(messages, list):
        return name, raw, False
    said = [m.get("content") for m in messages if isinstance(m, Mapping) and m.get("role") == "user"]
    return name, json.dumps(said[:1]).encode(), len(said) > 1


def _spent(meter: Meter, caller: Caller, usage: Mapping[str, int]) -> None:
    """Count what a model read and wrote, as it says, for the caller whose request it was."""
    used = {kind: int(usage.get(f"{kind}_tokens", 0)) for kind in ("prompt", "completion")}
    for kind, tokens in used.items():
        if tokens > 0:
            meter.count("modelyard_usage_tokens_total", caller.id, kind, by=tokens)
    caller.spend(sum(used.values()))


def unrecorded(request: Request, job: Frame, release: str | None = None) -> Exchange:
    """`job` on its way to a worker: what is no question to a model (a search, the picture of a page). Close it."""
    here = service(request)
    exchange = Exchange(here.fleet, {**job, "groups": sorted(groups_of(request))}, here.timeout, release)
    exchange.until(gone(request))
    return exchange


def groups_of(request: Request) -> frozenset[str]:
    """The groups of the caller, as the authentication found them: nothing that a client sends can add one."""
    groups: frozenset[str] = request.scope["modelyard.groups"]
    return groups


async def gone(request: Request) -> None:
    """Returns when the client went away. To be awaited once the body is read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def idempotency_key(key: str | None, caller: Caller) -> str:
    """The caller's, as the header of that name has it, told from the same key of another caller, or one of our own.
    Raises RequestError."""
    if key is None:
        return request_id()
    if not key.strip() or len(key) > _KEY_LENGTH or not key.isascii() or not key.isprintable():
        raise RequestError(f"Idempotency-Key: 1 to {_KEY_LENGTH} printable ASCII characters are expected")
    return f"{caller.id}:{key}"
