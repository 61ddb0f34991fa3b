"""The Open Inference Protocol, version 2, for models of tables and tensors: /v2, its probes, metadata and infer.

A version is a release: its id, or the beginning of it, as long as it is kept warm here; without one whichever answers.
Binary tensors (an extension of some servers) are refused, and so is any parameter that neither the model nor this
protocol has.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from modelyard.errors import NotFound, RequestError, UnsupportedType
from modelyard.gateway.body import read_json
from modelyard.gateway.replies import inference_error, replying
from modelyard.gateway.service import at, enter, gone, served, service
from modelyard.gateway.tensors import Asked, asked, given, metadata, scored
from modelyard.serving.aside import aside
from modelyard.serving.endpoint import Endpoint

_SHORTEST = 8
_NO_CACHE = {"cache-control": "no-store"}


@replying(inference_error)
async def server(request: Request) -> Response:
    """GET /v2"""
    try:
        found = version("modelyard")
    except PackageNotFoundError:
        found = "unknown"
    return JSONResponse({"name": "modelyard", "version": found, "extensions": []})


@replying(inference_error)
async def live(request: Request) -> Response:
    """GET /v2/health/live"""
    return JSONResponse({"live": True}, headers=_NO_CACHE)


@replying(inference_error)
async def ready(request: Request) -> Response:
    """GET /v2/health/ready: as /ready, without the reasons."""
    here = service(request)
    up = here.fleet.standing().ready and here.record.refuses is None
    return JSONResponse({"ready": up}, 200 if up else 503, _NO_CACHE)


@replying(inference_error)
async def model(request: Request) -> Response:
    """GET /v2/models/{model}[/versions/{version}]"""
    here, release = _named(request)
    schema = here.schema(release) or {}
    warm = [name for name in dict.fromkeys(here.fleet.pointers.named()) if _warm(here, name)]
    value = {"name": here.name, "versions": warm, "platform": schema.get("runtime", "modelyard")}
    value |= {side: [metadata(one) for one in schema.get(side, ())] for side in ("inputs", "outputs")}
    return JSONResponse(value)


@replying(inference_error)
async def model_ready(request: Request) -> Response:
    """GET /v2/models/{model}[/versions/{version}]/ready"""
    here, release = _named(request)
    up = here.fleet.standing().ready and (release is None or _warm(here, release))
    return JSONResponse({"name": here.name, "ready": up}, 200 if up else 503, _NO_CACHE)


@replying(inference_error)
async def infer(request: Request) -> Response:
    """POST /v2/models/{model}[/versions/{version}]/infer"""
    here, release = _named(request)
    if request.headers.get("inference-header-content-length") is not None:
        raise UnsupportedType("binary tensors are not read: send data as JSON")
    await here.introduced()
    if not here.invokes:
        raise RequestError(
            f"{here.name} takes no tensors: it takes {', '.join(sorted(here.accepts()))} at /invocations"
        )
    raw, body = await read_json(request, "scoring")
    wanted = await aside(len(raw), asked, body)
    passage = await enter(request, "oip", raw, release=release)
    # Of the release that was chosen: in a rollout there are two, and the columns of one may not be those of the other.
    schema: Mapping[str, Any] | None = here.schema(passage.release)
    payload = await aside(len(raw), _payload, wanted, schema)
    job = {"do": "invoke", "content_type": "application/json", "payload": payload}
    with passage.exchange(job, gone(request)) as exchange:
        reply = await exchange.result()
        passage.heard(exchange, reply)
    value: dict[str, Any] = {"model_name": here.name, "model_version": exchange.release}
    if wanted.id is not None:
        value["id"] = wanted.id
    value["outputs"] = await aside(len(reply["body"]), _outputs, reply["body"], schema, wanted.outputs)
    return JSONResponse(value, headers={"modelyard-release": exchange.release})


def _payload(wanted: Asked, schema: Mapping[str, Any] | None) -> bytes:
    return json.dumps(given(wanted, schema)).encode()


def _outputs(body: bytes, schema: Mapping[str, Any] | None, names: tuple[str, ...] | None) -> list[dict[str, Any]]:
    return scored(json.loads(body)["predictions"], schema, names)


def _named(request: Request) -> tuple[Endpoint, str | None]:
    """The endpoint and the release that the path names. Raises NotFound."""
    name = request.path_params["model"]
    own = next((one for one in served(request) if one.name == name), None)
    if own is None:
        raise NotFound("there is no such model here; GET /v1/models names those that are")
    here = at(request, own)
    wanted: str | None = request.path_params.get("version")
    if wanted is None:
        return here, None
    known = dict.fromkeys(here.fleet.pointers.named())
    found = [name for name in known if name.startswith(wanted)] if len(wanted) >= _SHORTEST else []
    if len(found) != 1:
        raise NotFound(f"there is no such version of {here.name} here now")
    return here, found[0]


def _warm(here: Endpoint, release: str) -> bool:
    pool = here.fleet.pool(release)
    return pool is not None and bool(pool.workers)
