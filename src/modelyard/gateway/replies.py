"""Replies and refusals, each dialect in its own form. No traceback and nothing of the request ever stands in one."""

from __future__ import annotations

import functools
import logging
import math
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp

from modelyard.errors import Cancelled, ModelyardError, Unauthorized
from modelyard.serving.passage import Passage

log = logging.getLogger("modelyard.gateway")

PASSAGE = "modelyard.passage"
"""Where a request's passage is in its scope, once it entered a release."""

Endpoint = Callable[[Request], Awaitable[ASGIApp]]
Shape = Callable[[ModelyardError], dict[str, Any]]

_OPENAI = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    429: "rate_limit_error",
}
_MLFLOW = {
    400: "INVALID_PARAMETER_VALUE",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "RESOURCE_DOES_NOT_EXIST",
    405: "INVALID_PARAMETER_VALUE",
    408: "DEADLINE_EXCEEDED",
    409: "PERMISSION_DENIED",
    413: "INVALID_PARAMETER_VALUE",
    429: "REQUEST_LIMIT_EXCEEDED",
    503: "TEMPORARILY_UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}

_DATABRICKS = ("/invocations", "/predict", "/serving-endpoints/", "/api/2.0/")


def openai_error(error: ModelyardError) -> dict[str, Any]:
    """OpenAI's error object."""
    kind = _OPENAI.get(error.status, "invalid_request_error" if error.status < 500 else "server_error")
    param = getattr(error, "param", None)
    return {"error": {"message": str(error), "type": kind, "param": param, "code": error.code}}


def mlflow_error(error: ModelyardError) -> dict[str, Any]:
    """MLflow's and Databricks' error object."""
    return {"error_code": _MLFLOW.get(error.status, "INTERNAL_ERROR"), "message": str(error)}


def inference_error(error: ModelyardError) -> dict[str, Any]:
    """The Open Inference Protocol's error object."""
    return {"error": str(error)}


def shape_of(path: str) -> Shape:
    """The dialect that is spoken at a path, for what is refused before a route is found."""
    if path == "/v2" or path.startswith("/v2/"):
        return inference_error
    return mlflow_error if path.startswith(_DATABRICKS) else openai_error


def refusal(error: ModelyardError, shape: Shape) -> Response:
    """An error as a reply."""
    headers = {
        "modelyard-error": type(error).__name__,
        # Clients that retry by themselves would retry what cannot succeed, too.
        "x-should-retry": "true" if error.retry and error.status != 504 else "false",
    }
    if error.retry_after is not None:
        headers["retry-after"] = str(math.ceil(error.retry_after))
    elif error.status == 503:
        headers["retry-after"] = "1"
    if error.status == 408:
        headers["connection"] = "close"  # what still comes on it is the rest of the body
    if isinstance(error, Unauthorized):
        headers["www-authenticate"] = "Bearer"
    return JSONResponse(shape(error), error.status, headers)


def internal(shape: Shape) -> Response:
    """The reply to a request that met a bug of ours. Called where the exception is handled: it is logged."""
    log.exception("a request failed in the gateway")
    return refusal(ModelyardError("the gateway failed on this request; its log says why"), shape)


def replying(shape: Shape) -> Callable[[Endpoint], Endpoint]:
    """A route whose errors are replies of `shape`. Where it entered a release, what it replies is on record before it
    leaves; a reply that is not a plain one (a stream) sees to that itself."""

    def wrap(endpoint: Endpoint) -> Endpoint:
        @functools.wraps(endpoint)
        async def reply(request: Request) -> ASGIApp:
            answer, failure = await _answered(endpoint, request, shape)
            passage: Passage | None = request.scope.get(PASSAGE)
            if passage is None or not isinstance(answer, Response):
                return answer
            answer.headers["x-request-id"] = passage.id
            try:
                await passage.finish(answer.status_code, bytes(answer.body), failure)
            except ModelyardError as error:
                return refusal(error, shape)
            return answer

        return reply

    return wrap


async def _answered(endpoint: Endpoint, request: Request, shape: Shape) -> tuple[ASGIApp, ModelyardError | None]:
    try:
        return await endpoint(request), None
    except Cancelled as error:
        return Response(status_code=error.status), error  # read by nobody
    except ModelyardError as error:
        return refusal(error, shape), error
    except Exception as error:  # noqa: BLE001 - whatever it is, the caller gets a sentence and the log the traceback
        return internal(shape), ModelyardError(type(error).__name__)


def released(value: Any, release: str, status: int = 200) -> Response:
    """A JSON reply that says in a header which release gave it."""
    return JSONResponse(value, status, {"modelyard-release": release})


def citing(output: Mapping[str, Any], release: str) -> dict[str, Any]:
    """The extra field of OpenAI replies: whether it was refused, what it cites, and the release."""
    return {"refused": bool(output.get("refused")), "citations": output.get("citations", []), "release": release}
