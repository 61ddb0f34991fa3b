"""The routes, put together."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from modelyard.errors import NotFound, RequestError
from modelyard.gateway import chat, control_data, inference_v2, invocations, ops, ops_api, pages
from modelyard.gateway.auth import Auth, Callers, Door
from modelyard.gateway.body import Bodies, Held, Holding
from modelyard.gateway.console import Console, Watched
from modelyard.gateway.control import Control
from modelyard.gateway.control import routes as control_routes
from modelyard.gateway.drill import drill
from modelyard.gateway.feedback import feedback
from modelyard.gateway.metrics import Metered, measure, metrics
from modelyard.gateway.openapi import openapi
from modelyard.gateway.replies import Endpoint as Handler
from modelyard.gateway.replies import internal, refusal, shape_of
from modelyard.gateway.scoring import predict
from modelyard.serving.endpoint import Endpoint


def build(
    endpoint: Endpoint,
    callers: Callers,
    bodies: Bodies = Bodies(),
    metrics_for: str = "operate",
    control: Control | None = None,
    console: Console | None = None,
) -> ASGIApp:
    """The gateway's application. `callers` says who may come in: where it asks nobody for a token, the gateway must be
    on loopback only. `metrics_for` is who may read /metrics: operate, query, or open. With `control` there are other
    endpoints beside `endpoint`, and Databricks' way to all of them. Without a
    `console` the operations page shows what is in memory, and moves nothing."""
    routes = [
        Route("/", pages.chat_page),
        Route("/favicon.ico", pages.favicon),
        Route("/static/{name}", pages.static),
        Route("/pages/picture", pages.picture_of, methods=["POST"]),
        Route("/pages/{document:document}/{page:int}.png", pages.picture),
        Route("/v1/chat/completions", chat.completions, methods=["POST"]),
        Route("/v1/models", chat.models),
        Route("/invocations", invocations.invocations, methods=["POST"]),
        Route("/predict", predict, methods=["POST"]),
        Route("/v2", inference_v2.server),
        Route("/v2/", inference_v2.server),
        Route("/v2/health/live", inference_v2.live),
        Route("/v2/health/ready", inference_v2.ready),
        *(
            route
            for model in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}")
            for route in (
                Route(model, inference_v2.model),
                Route(f"{model}/ready", inference_v2.model_ready),
                Route(f"{model}/infer", inference_v2.infer, methods=["POST"]),
            )
        ),
        Route("/openapi.json", openapi),
        Route("/feedback", feedback, methods=["POST"]),
        Route("/search", ops.search, methods=["POST"]),
        Route("/health", ops.health),
        Route("/ready", ops.ready),
        Route("/ping", ops.ping),
        Route("/version", ops.show_version),
        Route("/metrics", metrics),
        Route("/ops/drill", drill, methods=["POST"]),
        *ops_api.ROUTES,
        *((*control_routes(), *control_data.routes()) if control is not None else ()),
    ]
    holding = Holding(bodies.together)
    app = Starlette(
        routes=routes,
        middleware=[
            Middleware(Held, holding),
            Middleware(Auth, Door(callers, metrics_for), endpoint.meter),
            Middleware(Metered, endpoint.meter, endpoint.name),
            Middleware(Straight, {"/v1/chat/completions": chat.completions, "/invocations": invocations.invocations}),
        ],
        exception_handlers={HTTPException: _http, Exception: _bug},
    )
    app.router.redirect_slashes = False
    app.state.service, app.state.meter, app.state.bodies = endpoint, endpoint.meter, bodies
    app.state.callers, app.state.holding = callers, holding
    app.state.estate = control.estate if control is not None else None
    app.state.control, app.state.console = control, console or Console(lambda: (Watched(endpoint),))
    measure(endpoint, lambda: control.estate if control is not None else (endpoint,))
    return app


class Straight:
    """Middleware: what is asked most does not go through the table of routes. These answer their own errors."""

    def __init__(self, app: ASGIApp, posts: Mapping[str, Handler]) -> None:
        self._app, self._posts = app, posts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST" or (found := self._posts.get(scope["path"])) is None:
            await self._app(scope, receive, send)
            return
        reply = await found(Request(scope, receive, send))
        await reply(scope, receive, send)


def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    shape = shape_of(request.url.path)
    if error.status_code == 404:
        return refusal(NotFound("there is nothing at this path"), shape)
    if error.status_code == 405:
        # Several routes may be at one path, each for a method of its own.
        here = [route for route in request.app.routes if route.matches(request.scope)[0] is not Match.NONE]
        methods = ", ".join(sorted({method for route in here for method in route.methods or ()}))
        reply = refusal(_MethodNotAllowed(f"this path takes {methods}"), shape)
        reply.headers["allow"] = methods
        return reply
    return refusal(RequestError(error.detail), shape)


class _MethodNotAllowed(RequestError):
    status = 405
    code = "method_not_allowed"


def _bug(request: Request, error: Exception) -> Response:
    return internal(shape_of(request.url.path))
