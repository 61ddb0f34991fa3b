"""The data plane of Databricks Model Serving: /serving-endpoints/{name}/invocations, and what its OpenAI clients ask.

What has `messages` is answered as a chat completion, also streaming; MLflow's scoring bodies as /invocations does. Of
what Databricks has beside these, `client_request_id` goes on record, `usage_context` stays in the recorded body, and
`extra_params` count as if they stood beside the messages. The reply says in `served-model-name` who answered.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import Request
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from modelyard.errors import ModelyardError, NotFound, RequestError
from modelyard.gateway.body import Bodies, constant, deeper, read_bytes, read_json
from modelyard.gateway.chat import complete
from modelyard.gateway.control import Control, control
from modelyard.gateway.invocations import TABULAR, handed_through, one_by_one
from modelyard.gateway.replies import mlflow_error, replying
from modelyard.gateway.service import at, enter, service
from modelyard.serving.aside import aside, loads

DIALECT = "databricks"
_BESIDE = ("client_request_id", "usage_context", "databricks_options")
"""What Databricks takes beside any body, and no model needs."""

Answer = Callable[[Request], Awaitable[ASGIApp]]


def _named(answer: Answer) -> Answer:
    """Replies of `answer` with the name of the entity that gave them."""

    async def app(request: Request) -> ASGIApp:
        return _Naming(control(request), request, await answer(request))

    return app


class _Naming:
    """A reply, and in its head which served entity it is from."""

    def __init__(self, here: Control, request: Request, reply: ASGIApp) -> None:
        self._here, self._request, self._reply = here, request, reply

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = list(message.get("headers", []))
                release = next((value.decode() for name, value in headers if name == b"modelyard-release"), "")
                if release:
                    name = await self._name(release)
                    message = {**message, "headers": [*headers, (b"served-model-name", name.encode("latin-1"))]}
            await send(message)

        await self._reply(scope, receive, sending)

    async def _name(self, release: str) -> str:
        try:
            return await self._here.entity_name(service(self._request), release)
        except ModelyardError:
            return release  # it was deleted meanwhile, or the ledger cannot be read: the answer is good all the same


@replying(mlflow_error)
async def _invoked(request: Request) -> ASGIApp:
    here = control(request)
    name, entity = request.path_params["name"], request.path_params.get("entity")
    endpoint = at(request, here.estate.endpoint(name))
    release = await here.estate.aside(here.desk.release_of, name, entity) if entity is not None else None
    bodies: Bodies = request.app.state.bodies
    await endpoint.introduced()
    if endpoint.invokes:
        raw = await read_bytes(request, bodies.scoring)
        kind = request.headers.get("content-type", "")
        body, payload = await aside(len(raw), _without_beside, raw, kind, bodies.depth)
        passage = await enter(request, DIALECT, raw, body, release)
        return await handed_through(request, passage, payload, kind)
    raw, body = await read_json(request, "scoring")
    if "messages" in body and not any(form in body for form in TABULAR):
        return await complete(request, DIALECT, raw, _chat({**body, "model": name}), release)
    asked = {key: value for key, value in body.items() if key not in _BESIDE}
    if asked.pop("extra_params", None):
        raise RequestError("extra_params: only a chat takes them")
    return await one_by_one(request, DIALECT, raw, asked, release, body.get("client_request_id"))


@replying(mlflow_error)
async def _completed(request: Request) -> ASGIApp:
    here = control(request)
    raw, body = await read_json(request)
    name = body.get("model")
    if not isinstance(name, str):
        raise RequestError("model: the name of an endpoint is expected")
    found = here.estate.find(name)
    if found is None:
        raise NotFound("there is no endpoint of that name here")
    at(request, found)
    return await complete(request, DIALECT, raw, _chat(body), None)


invocations = _named(_invoked)
"""POST /serving-endpoints/{name}/invocations, or of one served entity."""
completions = _named(_completed)
"""POST /serving-endpoints/chat/completions: `model` is the endpoint."""


def routes() -> list[Route]:
    """The data plane's routes."""
    one = "/serving-endpoints/{name}"
    return [
        Route("/serving-endpoints/chat/completions", completions, methods=["POST"]),
        Route(f"{one}/invocations", invocations, methods=["POST"]),
        Route(f"{one}/served-models/{{entity}}/invocations", invocations, methods=["POST"]),
    ]


def _chat(body: dict[str, Any]) -> dict[str, Any]:
    """A chat with its `extra_params` beside the rest. Raises RequestError."""
    extra = body.get("extra_params")
    if extra is None:
        return body
    if not isinstance(extra, dict) or set(extra) & {"messages", "model", "stream"}:
        raise RequestError("extra_params: an object of parameters is expected")
    return {**extra, **{key: value for key, value in body.items() if key != "extra_params"}}


def _without_beside(raw: bytes, kind: str, depth: int) -> tuple[dict[str, Any] | None, bytes]:
    """Of a body that goes to a release as it is: what Databricks has beside it, where it has, and the rest. A body that
    is none of ours to read goes on untouched; the release says what is wrong with it."""
    if not any(f'"{name}"'.encode() in raw for name in (*_BESIDE, "extra_params")):
        return None, raw
    if kind.split(";")[0].strip().lower() != "application/json":
        return None, raw
    try:
        body = loads(raw.decode("utf-8-sig"), constant)
    except (ValueError, RecursionError):
        return None, raw
    if not isinstance(body, dict) or deeper(raw, depth):
        return None, raw
    if body.pop("extra_params", None):
        raise RequestError("extra_params: only a chat takes them")
    beside = {name: body.pop(name) for name in _BESIDE if name in body}
    return beside, json.dumps(body, ensure_ascii=False).encode("utf-8", "surrogatepass")
