"""The control plane of Databricks Model Serving: /api/2.0/serving-endpoints, for tokens that may operate.

What is written here is a row and moves in the ledger; the workers follow those, and every reply says what is, not what
was wished for.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, cast

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from modelyard.clock import Clock
from modelyard.errors import Judged, ModelyardError, RefusedByPolicy, RequestError
from modelyard.gateway.auth import Caller, Forbidden
from modelyard.gateway.body import read_json
from modelyard.gateway.control_desk import Desk, View
from modelyard.gateway.control_openapi import document
from modelyard.gateway.control_shape import deployment, detailed, summary
from modelyard.gateway.control_updates import Updates
from modelyard.gateway.openapi_parts import Facts
from modelyard.gateway.replies import mlflow_error, replying
from modelyard.ids import short
from modelyard.lifecycle.canary import GATEWAY
from modelyard.ports.endpoints import EndpointRow
from modelyard.serving.endpoint import Endpoint
from modelyard.serving.estate import Estate, Member
from modelyard.serving.meter import Meter

API = "/api/2.0/serving-endpoints"
_OWN_CODES = {"resource_already_exists": "RESOURCE_ALREADY_EXISTS", "resource_conflict": "RESOURCE_CONFLICT"}

Answer = Callable[[Request], Awaitable[Response]]


class Control:
    """The endpoints of a gateway, and what configures them. `begin` makes an endpoint beside the project's own."""

    def __init__(self, own: Endpoint, desk: Callable[[], Desk], begin: Callable[[str], Member], clock: Clock) -> None:
        self._open_desk, self._desk = desk, cast(Desk, None)
        self._updates = Updates(self._bring_on, clock)
        self.estate = Estate(own, self._opened, begin, self._told)
        self._names: dict[tuple[str, str, int], str] = {}
        self._called: dict[tuple[str, str], str] = {}

    async def start(self) -> None:
        """Serve what the ledger names. Raises what opening it raises."""
        await self.estate.start()

    async def stop(self) -> None:
        """Updates under way are left as far as they came."""
        try:
            await self._updates.stop()
        finally:
            await self.estate.stop()

    @property
    def desk(self) -> Desk:
        """To be used `aside`."""
        return self._desk

    async def view(self, name: str) -> View:
        """Raises NotFound."""
        return await self.estate.aside(self._desk.view, name)

    async def entity_name(self, endpoint: Endpoint, release: str) -> str:
        """The name that a release has under an endpoint."""
        key = endpoint.name, release, endpoint.generation
        if (known := self._names.get(key)) is not None:
            return known
        view = await self.view(endpoint.name)
        names = {one.release: one.name for one in view.served}
        # One that answered when shares had just moved is called as it was last.
        name = names.get(release) or self._called.get(key[:2])
        if name is None:
            name = await self.estate.aside(self._desk.usual_name, release)
        if len(self._names) > 1000:
            self._names.clear()
        self._names[key] = self._called[key[:2]] = name
        return name

    def _opened(self) -> Desk:
        self._desk = self._open_desk()
        return self._desk

    def _told(self, rows: Sequence[EndpointRow]) -> None:
        self._names.clear()
        self._updates.told(rows)

    async def _bring_on(self, name: str, since: float) -> bool:
        return await self.estate.aside(self._desk.bring_on, name, since, _up(self.estate.find(name)))


def _up(served: Endpoint | None) -> dict[str, str]:
    """Releases with workers, and those that get none with the reason; not those that are starting."""
    found = {}
    for release in served.fleet.pointers.named() if served is not None else ():
        pool = served.fleet.pool(release) if served is not None else None
        if pool is not None and pool.workers:
            found[release] = ""
        elif pool is not None and pool.out:
            found[release] = pool.reason or "its workers end"
    return found


def control(request: Request) -> Control:
    """The control plane behind a route."""
    return cast(Control, request.app.state.control)


def control_error(error: ModelyardError) -> dict[str, Any]:
    """Databricks' error object, with its own codes."""
    body = mlflow_error(error)
    return {**body, "error_code": _OWN_CODES.get(error.code, body["error_code"])}


def _controlled(route: Answer) -> Answer:
    """Errors as Databricks has them: what the policy refuses is PERMISSION_DENIED, 403."""

    @functools.wraps(route)
    async def answer(request: Request) -> Response:
        try:
            return await route(request)
        except (RefusedByPolicy, Judged) as error:
            raise Forbidden(str(error)) from None

    return cast(Answer, replying(control_error)(answer))


@_controlled
async def listed(request: Request) -> Response:
    """GET: {"endpoints": [...]}, the project's own first."""
    here = control(request)
    views = await here.estate.aside(here.desk.views)
    return _json({"endpoints": [summary(view, here.estate.find(view.row.name)) for view in views]})


@_controlled
async def create(request: Request) -> Response:
    """POST: an endpoint, and its configuration on its way."""
    here = control(request)
    _, body = await read_json(request)
    await here.estate.aside(here.desk.create, body, _who(request))
    return await _described(here, body["name"])


@_controlled
async def found(request: Request) -> Response:
    """GET {name}"""
    return await _described(control(request), request.path_params["name"])


@_controlled
async def configure(request: Request) -> Response:
    """PUT {name}/config: releases and shares of traffic, on their way. Ends a rollout that is under way there."""
    here, name = control(request), request.path_params["name"]
    _, body = await read_json(request)
    await here.estate.aside(here.desk.configure, name, body, _who(request))
    return await _described(here, name)


@_controlled
async def tag(request: Request) -> Response:
    """PATCH {name}/tags {add_tags, delete_tags}: {"tags": [...]}"""
    here = control(request)
    _, body = await read_json(request)
    row = await here.estate.aside(here.desk.tag, request.path_params["name"], body)
    return _json({"tags": [{"key": key, "value": value} for key, value in row.tags]})


@_controlled
async def gateway_settings(request: Request) -> Response:
    """PUT {name}/ai-gateway: what is done here anyway is kept and given back, anything else refused."""
    here = control(request)
    _, body = await read_json(request)
    return _json(await here.estate.aside(here.desk.ai_gateway, request.path_params["name"], body))


@_controlled
async def rate_limits(request: Request) -> Response:
    """PUT {name}/rate-limits"""
    raise RequestError("rate_limits: limits are those of tokens (`modelyard token create`)")


@_controlled
async def delete(request: Request) -> Response:
    """DELETE {name}: what is under way there is answered still."""
    here = control(request)
    await here.estate.aside(here.desk.delete, request.path_params["name"], _who(request))
    await here.estate.look()
    return _json({})


@_controlled
async def openapi(request: Request) -> Response:
    """GET {name}/openapi: what the endpoint takes and gives."""
    here, name = control(request), request.path_params["name"]
    await here.view(name)
    served, required = here.estate.find(name), request.app.state.callers.required
    facts = Facts(name, frozenset(), token=required)
    if served is not None:
        facts = Facts(name, served.accepts(), served.invokes, schema=served.schema(), token=required)
    return _json(document(facts))


@_controlled
async def measures(request: Request) -> Response:
    """GET {name}/metrics: those of the endpoint, in Prometheus' text format."""
    here, name = control(request), request.path_params["name"]
    await here.view(name)
    meter: Meter = request.app.state.meter
    label = f'endpoint="{name}"'
    lines = [line for line in meter.text().decode().splitlines() if line.startswith("# ") or label in line]
    named = {line.partition("{")[0] for line in lines if not line.startswith("# ")}
    kept = [line for line in lines if not line.startswith("# ") or _of(line.split(" ")[2], named)]
    return Response("\n".join(kept) + "\n", headers={"content-type": Meter.content_type, "cache-control": "no-store"})


@_controlled
async def logs(request: Request) -> Response:
    """GET {name}/served-models/{entity}/logs, or build-logs: {"logs": how its workers are, and what
    they wrote lately}."""
    here, name, entity = control(request), request.path_params["name"], request.path_params["entity"]
    view = await here.view(name)
    update = view.row.update
    wanted = (*view.served, *(update.served if update is not None else ()))
    one = next((one for one in wanted if one.name == entity), None)
    if one is None:
        release = await here.estate.aside(here.desk.release_of, name, entity)  # says that there is none
    else:
        release = one.release
    served = here.estate.find(name)
    state = deployment(release, served, view.failed.reason if view.failed else "")
    pool = served.fleet.pool(release) if served is not None else None
    said = [f"release {short(release)}: {state['deployment_state_message']}"]
    for worker in pool.workers if pool is not None else ():
        said += [f"worker {worker.pid}: {line}" for line in worker.said.splitlines()]
    return _json({"logs": "\n".join(said) + "\n"})


async def nothing(request: Request) -> Response:
    """GET /.well-known/databricks-config: asked for by clients that look for more of Databricks than there is here."""
    return JSONResponse({"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "there is no such document here"}, 404)


def routes() -> list[Route]:
    """The control plane's routes."""
    one = f"{API}/{{name}}"
    return [
        *(Route(path, listed, methods=["GET"]) for path in (API, f"{API}/")),
        *(Route(path, create, methods=["POST"]) for path in (API, f"{API}/")),
        Route(one, found, methods=["GET"]),
        Route(one, delete, methods=["DELETE"]),
        Route(f"{one}/config", configure, methods=["PUT"]),
        Route(f"{one}/tags", tag, methods=["PATCH"]),
        Route(f"{one}/ai-gateway", gateway_settings, methods=["PUT"]),
        Route(f"{one}/rate-limits", rate_limits, methods=["PUT"]),
        Route(f"{one}/openapi", openapi, methods=["GET"]),
        Route(f"{one}/metrics", measures, methods=["GET"]),
        Route(f"{one}/served-models/{{entity}}/logs", logs, methods=["GET"]),
        Route(f"{one}/served-models/{{entity}}/build-logs", logs, methods=["GET"]),
        Route("/.well-known/databricks-config", nothing, methods=["GET"]),
    ]


async def _described(here: Control, name: str) -> Response:
    await here.estate.look()
    view = await here.view(name)
    return _json(detailed(view, here.estate.find(name)))


def _who(request: Request) -> str:
    caller: Caller = request.scope["modelyard.caller"]
    return caller.id if caller.name in ("", GATEWAY) else caller.name  # nobody signs as the gateway


def _of(family: str, named: set[str]) -> bool:
    return any(name == family or name.removeprefix(family) in _SUFFIXES for name in named)


_SUFFIXES = ("_total", "_bucket", "_count", "_sum", "_created")


def _json(value: Any) -> Response:
    # Bytes made here, so that what is no JSON is an error of ours and not of the client's.
    data = json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    return Response(data, headers={"content-type": "application/json", "cache-control": "no-store"})
