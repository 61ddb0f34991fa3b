"""The routes, put together."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from modelyard.errors import NotFound, RequestError
from modelyard.gateway import chat, invocations, ops, pages
from modelyard.gateway.auth import Auth
from modelyard.gateway.replies import internal, mlflow_error, openai_error, refusal
from modelyard.gateway.service import Service


def build(service: Service, bearers: Mapping[str, frozenset[str]] | None = None) -> ASGIApp:
    """The gateway's application. `bearers` are the tokens let in, and the groups of who has one; with none it must be
    on loopback only."""
    routes = [
        Route("/", pages.chat_page),
        Route("/favicon.ico", pages.favicon),
        Route("/static/{name}", pages.static),
        Route("/pages/{document:document}/{page:int}.png", pages.picture),
        Route("/v1/chat/completions", chat.completions, methods=["POST"]),
        Route("/v1/models", chat.models),
        Route("/invocations", invocations.invocations, methods=["POST"]),
        Route("/search", ops.search, methods=["POST"]),
        Route("/health", ops.health),
        Route("/ready", ops.ready),
        Route("/ping", ops.ping),
        Route("/version", ops.show_version),
    ]
    app = Starlette(
        routes=routes,
        middleware=[Middleware(Auth, bearers or {})],
        exception_handlers={HTTPException: _http, Exception: _bug},
    )
    app.router.redirect_slashes = False
    app.state.service = service
    return app


def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    shape = mlflow_error if request.url.path == "/invocations" else openai_error
    if error.status_code == 404:
        return refusal(NotFound("there is nothing at this path"), shape)
    if error.status_code == 405:
        reply = refusal(
            _MethodNotAllowed(f"this path takes {(error.headers or {}).get('Allow', 'another method')}"), shape
        )
        reply.headers.update(error.headers or {})
        return reply
    return refusal(RequestError(error.detail), shape)


class _MethodNotAllowed(RequestError):
    status = 405
    code = "method_not_allowed"


def _bug(request: Request, error: Exception) -> Response:
    return internal(openai_error)
