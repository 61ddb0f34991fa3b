"""Health, readiness, version, search."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from modelyard.errors import RequestError
from modelyard.gateway.body import read_json, whole
from modelyard.gateway.replies import openai_error, released, replying
from modelyard.gateway.service import service, unrecorded

MOST_HITS = 1000


async def health(request: Request) -> Response:
    """GET /health: the process is up. As an MLflow scoring server has it, but that a line break is called text."""
    return PlainTextResponse("\n")


async def ready(request: Request) -> Response:
    """GET /ready: 200 when a request would be answered, by which release, and whether that is the champion; else 503
    and why."""
    here = service(request)
    standing, unrecordable = here.fleet.standing(), here.record.refuses
    up, trusted = standing.ready and unrecordable is None, request.scope["modelyard.trusted"]
    value = {
        "ready": up,
        "endpoint": here.name,
        "release": standing.release,
        "champion": standing.champion,
        "generation": standing.generation,
        "state": standing.state,
        "version": standing.version,
        "reason": (unrecordable or standing.reason) if trusted else None,
    }
    if trusted:
        cold = {"release": standing.cold, "start_seconds": standing.cold_start_seconds} if standing.cold else None
        value |= {"warm": dict(standing.warm), "cold": cold, "stopping": standing.stopping}
    return JSONResponse(value, 200 if up else 503, {"cache-control": "no-store"})


async def ping(request: Request) -> Response:
    """GET /ping: a request would be answered. As an MLflow scoring server has it, but that not yet is 503, not 404."""
    up = service(request).fleet.standing().ready
    return PlainTextResponse("\n", 200 if up else 503)


async def show_version(request: Request) -> Response:
    """GET /version: of MLflow, as its scoring server has it; that of modelyard is in a header."""
    return PlainTextResponse(_version("mlflow"), headers={"modelyard-version": _version("modelyard")})


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"


@replying(openai_error)
async def search(request: Request) -> Response:
    """POST /search {query, k}: what retrieval alone finds, {"results": [...], "release"}."""
    _, body = await read_json(request)
    query, k = body.get("query"), whole(body.get("k", 10))
    if not isinstance(query, str) or not query.strip():
        raise RequestError("query: a text that is not empty is expected")
    if k is None or not 1 <= k <= MOST_HITS:
        raise RequestError(f"k: a whole number from 1 to {MOST_HITS} is expected")
    with unrecorded(request, {"do": "search", "query": query, "k": k}) as exchange:
        return released({"results": await exchange.result(), "release": exchange.release}, exchange.release)
