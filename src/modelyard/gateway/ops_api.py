"""The routes of the operations page: the page, what it shows as JSON, rollback and drill.

The page itself is open, like that of the chat; what it shows is for who may operate. Where no token is asked for it
comes filled in, and works without a script. Forms carry a secret of this gateway, and must come from its own page.
"""

from __future__ import annotations

import asyncio
import re
from typing import Any, cast
from urllib.parse import parse_qs, urlsplit

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from modelyard.errors import ModelyardError, RequestError
from modelyard.gateway.auth import Caller, Forbidden
from modelyard.gateway.body import read_bytes, read_json
from modelyard.gateway.console import Console
from modelyard.gateway.markup import Html, tag
from modelyard.gateway.ops_page import details, panel
from modelyard.gateway.pages import SAFE, web_file
from modelyard.gateway.replies import openai_error, replying
from modelyard.ids import short
from modelyard.lifecycle.release import Moved

MOST_FORM = 16_384
MOST_WHY = 500
FOLLOWED_SECONDS = 5.0
"""How long a rollback's reply waits for the workers of the release to have the traffic."""
_ID = re.compile(r"[0-9a-f]{32}\Z")
_HEADERS = {
    **SAFE,
    "content-security-policy": SAFE["content-security-policy"].replace("form-action 'none'", "form-action 'self'"),
    # A form that is sent without any referrer says `Origin: null`, and could come from anywhere.
    "referrer-policy": "same-origin",
    "cache-control": "no-store",
}


def console(request: Request) -> Console:
    """The console behind a route."""
    return cast(Console, request.app.state.console)


@replying(openai_error)
async def page(request: Request) -> Response:
    """GET /ops: filled in for who may see it without a token, else the bare page, which asks for one."""
    caller = cast(Caller, request.scope["modelyard.caller"])
    if request.scope["modelyard.trusted"] and (caller.id == "anonymous" or caller.scope == "operate"):
        return await _page(request)
    why = "A token is asked for here, and without scripts a browser cannot send one."
    return HTMLResponse(_filled(tag("noscript", tag("p", why))), headers=_HEADERS)


@replying(openai_error)
async def fragment(request: Request) -> Response:
    """GET /ops/panel: what of the page changes."""
    return HTMLResponse(panel(await console(request).overview(), console(request).guard), headers=_HEADERS)


@replying(openai_error)
async def one_request(request: Request) -> Response:
    """GET /ops/requests/{id}: one of the newest requests, as a page."""
    seen, rows = console(request).request(_identity(request))
    return HTMLResponse(_filled(details(seen, rows)), headers=_HEADERS)


@replying(openai_error)
async def state(request: Request) -> Response:
    """GET /ops/api/state: what the page shows, as JSON."""
    return _json(await console(request).overview())


@replying(openai_error)
async def rollout(request: Request) -> Response:
    """GET /ops/api/rollout?endpoint=: what a rollout waits for."""
    return _json(await console(request).rollout(request.query_params.get("endpoint")))


@replying(openai_error)
async def request_json(request: Request) -> Response:
    """GET /ops/api/requests/{id}: one of the newest requests, as JSON."""
    seen, rows = console(request).request(_identity(request))
    found: dict[str, Any] = {**seen, "request": None, "response": None, "left_out": []}
    if rows is not None:
        found["request"] = _text(rows.accepted.request)
        found["response"] = _text(rows.finished.response) if rows.finished is not None else None
        found["left_out"] = list(rows.left_out)
    return _json(found)


@replying(openai_error)
async def rollback(request: Request) -> Response:
    """POST /ops/api/rollback {"endpoint", "to"?, "why"?, "generation"?}: {"release", "before", "generation",
    "serving", "warnings"}."""
    _same_origin(request)
    _, body = await read_json(request)
    unknown = sorted(set(body) - {"endpoint", "to", "why", "generation"})
    if unknown:
        raise RequestError("endpoint, to, why and generation are expected, and nothing else")
    endpoint, to, why, at = body.get("endpoint"), body.get("to"), body.get("why", ""), body.get("generation")
    if not isinstance(endpoint, str) or not isinstance(why, str) or not isinstance(to, str | None):
        raise RequestError("endpoint, to and why are texts")
    if at is not None and (not isinstance(at, int) or isinstance(at, bool)):
        raise RequestError("generation is a whole number")
    return _json(await _roll_back(request, endpoint, to, why, at))


@replying(openai_error)
async def drill(request: Request) -> Response:
    """POST /ops/api/drill {"endpoint"?}: what `modelyard release rollback --drill` measures."""
    _same_origin(request)
    _, body = await read_json(request)
    endpoint = body.get("endpoint")
    if set(body) - {"endpoint"} or not isinstance(endpoint, str | None):
        raise RequestError("endpoint is expected, a text, and nothing else")
    return _json(await console(request).drill(endpoint))


async def act(request: Request) -> Response:
    """POST /ops/do: a form of the page, for browsers without scripts."""
    try:
        _same_origin(request)
        form = await _form(request)
        if form.get("act") == "drill":
            return await _page(request, _drilled(await console(request).drill(form.get("endpoint"))))
        if form.get("act") != "rollback":
            raise RequestError("there is no such action")
        generation = int(form["generation"]) if form.get("generation", "").isdecimal() else None
        await _roll_back(request, form.get("endpoint", ""), None, form.get("why", ""), generation)
        return RedirectResponse("/ops", 303, _HEADERS)
    except ModelyardError as error:
        return await _page(request, str(error), error.status)


ROUTES = [
    Route("/ops", page),
    Route("/ops/panel", fragment),
    Route("/ops/do", act, methods=["POST"]),
    Route("/ops/requests/{id}", one_request),
    Route("/ops/api/state", state),
    Route("/ops/api/rollout", rollout),
    Route("/ops/api/requests/{id}", request_json),
    Route("/ops/api/rollback", rollback, methods=["POST"]),
    Route("/ops/api/drill", drill, methods=["POST"]),
]


async def _page(request: Request, said: Html | str = "", status: int = 200) -> Response:
    here = console(request)
    shown = panel(await here.overview(), here.guard, said)
    return HTMLResponse(_filled(shown), status, _HEADERS)


def _filled(shown: Html) -> str:
    return web_file("ops.html").decode().replace("<!-- panel -->", shown, 1)


async def _roll_back(
    request: Request, endpoint: str, to: str | None, why: str, generation: int | None
) -> dict[str, Any]:
    if len(why) > MOST_WHY:
        raise RequestError(f"why: at most {MOST_WHY} characters")
    here = console(request)
    caller = cast(Caller, request.scope["modelyard.caller"])
    reason = " ".join(why.split()) or "rolled back on the operations page"
    moved = await here.roll_back(_who(caller), endpoint, to, reason, generation)
    return {
        "release": moved.release.id,
        "before": moved.before,
        "generation": moved.generation,
        "serving": await _followed(here, endpoint, moved),
        "warnings": list(moved.warnings),
    }


async def _followed(here: Console, endpoint: str, moved: Moved) -> bool:
    """Whether the traffic has followed the pointer."""
    until = asyncio.get_running_loop().time() + FOLLOWED_SECONDS
    while asyncio.get_running_loop().time() < until:
        if here.serves(endpoint, moved.release.id, moved.generation):
            return True
        await asyncio.sleep(0.01)
    return False


def _who(caller: Caller) -> str:
    """The name of the token, for the history."""
    named = {"anonymous": "operations page", "local": "operations page", "serve": "token of the configuration"}
    return named.get(caller.id) or (f"{caller.name} (token {caller.id})" if caller.name else f"token {caller.id}")


def _drilled(found: dict[str, Any]) -> str:
    if found["failures"]:
        return f"Release {short(found['release'])} did not answer a question of the exam: {found['failures'][0]}"
    return (
        f"A rollback to {short(found['release'])} would move the pointer in {found['pointer_ms']:.1f} ms; it is warm, "
        f"and answered {found['answered']} of {found['probes']} questions. Nothing was changed."
    )


def _same_origin(request: Request) -> None:
    """Raises Forbidden for what a page of another site sent."""
    origin, site = request.headers.get("origin"), request.headers.get("sec-fetch-site")
    foreign = origin is not None and urlsplit(origin).netloc.lower() != request.headers.get("host", "").lower()
    if foreign or site not in (None, "same-origin", "none"):
        raise Forbidden("a page of another site may not do this")


async def _form(request: Request) -> dict[str, str]:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise RequestError("a form of the page is expected")
    raw = await read_bytes(request, MOST_FORM)
    try:
        fields = parse_qs(raw.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=20)
    except ValueError:
        raise RequestError("a form of the page is expected") from None
    form = {name: values[-1] for name, values in fields.items()}
    if not console(request).guards(form.get("guard", "")):
        raise Forbidden("this form is of another page, or of before the gateway was started again: load the page anew")
    return form


def _identity(request: Request) -> str:
    identity = str(request.path_params["id"])
    if not _ID.match(identity):
        raise RequestError("the id of a request has 32 hex digits")
    return identity


def _text(body: bytes | None) -> str | None:
    return None if body is None else body.decode("utf-8", "replace")


def _json(value: dict[str, Any]) -> Response:
    return JSONResponse(value, headers={"cache-control": "no-store"})
