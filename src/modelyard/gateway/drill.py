"""POST /ops/drill: a release that is kept warm answers, whether traffic goes to it or not."""

from __future__ import annotations

import uuid

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from modelyard.errors import RequestError
from modelyard.gateway.body import read_json
from modelyard.gateway.replies import openai_error, replying
from modelyard.gateway.service import service, unrecorded


@replying(openai_error)
async def drill(request: Request) -> Response:
    """{"release", "request"}: {"release", "milliseconds"}. The answer itself is not given out, it is not recorded, and
    what the release does on the side goes where the exam's goes."""
    here = service(request)
    _, body = await read_json(request)
    release, asked = body.get("release"), body.get("request")
    if not isinstance(release, str) or not isinstance(asked, dict):
        raise RequestError("release (an id) and request (an object) are expected")
    job = {"do": "predict", "request": asked, "stream": False, "key": f"drill-{uuid.uuid4().hex}", "effects": "exam"}
    began = here.clock.monotonic()
    with unrecorded(request, job, release) as exchange:
        await exchange.result()
    return JSONResponse({"release": release, "milliseconds": (here.clock.monotonic() - began) * 1000})
