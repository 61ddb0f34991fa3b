"""POST /ops/drill: a release that is kept warm answers, whether traffic goes to it or not."""

from __future__ import annotations

import uuid

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from modelyard.errors import NotFound, RequestError
from modelyard.gateway.body import read_json
from modelyard.gateway.replies import openai_error, replying
from modelyard.gateway.service import at, served, service, unrecorded
from modelyard.serving.endpoint import Endpoint


@replying(openai_error)
async def drill(request: Request) -> Response:
    """{"release", "request", "endpoint"?}: {"release", "milliseconds"}. The answer itself is not given out, it is not
    recorded, and what the release does on the side goes where the exam's goes."""
    _, body = await read_json(request)
    release, asked, endpoint = body.get("release"), body.get("request"), body.get("endpoint")
    if not isinstance(release, str) or not isinstance(asked, dict) or not isinstance(endpoint, str | None):
        raise RequestError("release (an id), request (an object) and endpoint (a name) are expected")
    here = service(request) if endpoint is None else _named(request, endpoint)
    job = {"do": "predict", "request": asked, "stream": False, "key": f"drill-{uuid.uuid4().hex}", "effects": "exam"}
    began = here.clock.monotonic()
    with unrecorded(request, job, release) as exchange:
        await exchange.result()
    return JSONResponse({"release": release, "milliseconds": (here.clock.monotonic() - began) * 1000})


def _named(request: Request, name: str) -> Endpoint:
    """From now on the request is for the endpoint of that name. Raises NotFound."""
    found = next((one for one in served(request) if one.name == name), None)
    if found is None:
        raise NotFound("there is no endpoint of this name here")
    return at(request, found)
