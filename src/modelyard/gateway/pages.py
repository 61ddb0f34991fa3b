"""Pictures of cited pages, and the chat page with its files. The files are read once, when the gateway starts."""

from __future__ import annotations

import base64
import re
from pathlib import Path

from starlette.convertors import Convertor, register_url_convertor
from starlette.requests import Request
from starlette.responses import Response

from modelyard.errors import NotFound, RequestError
from modelyard.gateway.body import read_json, whole
from modelyard.gateway.replies import openai_error, replying
from modelyard.gateway.service import unrecorded

_WEB = Path(__file__).parent.parent / "web"
_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_FILES = {path.name: path.read_bytes() for path in sorted(_WEB.iterdir()) if path.suffix in _TYPES}
FILES = tuple(_FILES)
"""The names of the files."""
_ID = re.compile(r"[0-9a-f]{64}\Z")
MOST_QUOTE = 20_000

SAFE = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


class _Document(Convertor[str]):
    """A path in the documents folder. Names may hold anything, line breaks too."""

    regex = "(?s:.+)"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("document", _Document())


def web_file(name: str) -> bytes:
    """A file of the pages. Raises NotFound."""
    if name not in _FILES:
        raise NotFound("there is no such page")
    return _FILES[name]


def _file(name: str) -> Response:
    data = web_file(name)
    kind = _TYPES[Path(name).suffix]
    return Response(data, headers={**SAFE, "cache-control": "no-cache"}, media_type=f"{kind}; charset=utf-8")


@replying(openai_error)
async def chat_page(request: Request) -> Response:
    """GET /"""
    return _file("chat.html")


@replying(openai_error)
async def static(request: Request) -> Response:
    """GET /static/{name}"""
    return _file(request.path_params["name"])


@replying(openai_error)
async def favicon(request: Request) -> Response:
    """GET /favicon.ico"""
    return _file("icon.svg")


@replying(openai_error)
async def picture(request: Request) -> Response:
    """GET /pages/{document}/{page}.png?quote=&release=: a page of a release's snapshot, with the quote marked."""
    document, page = request.path_params["document"], request.path_params["page"]
    return await _picture(
        request, document, page, request.query_params.get("quote", ""), request.query_params.get("release") or None
    )


@replying(openai_error)
async def picture_of(request: Request) -> Response:
    """POST /pages/picture {"document", "page", "quote"?, "release"?}: the same, with nothing of it in an address."""
    _, body = await read_json(request)
    document, page = body.get("document"), whole(body.get("page"))
    quote, release = body.get("quote", ""), body.get("release")
    if not isinstance(document, str) or not document:
        raise RequestError("document: a name is expected")
    if page is None or page < 0:
        raise RequestError("page: a whole number is expected")
    if not isinstance(quote, str) or not isinstance(release, str | None):
        raise RequestError("quote and release are texts")
    return await _picture(request, document, page, quote, release or None)


async def _picture(request: Request, document: str, page: int, quote: str, release: str | None) -> Response:
    if len(quote) > MOST_QUOTE:
        raise RequestError(f"quote: at most {MOST_QUOTE:,} characters")
    if release is not None and not _ID.match(release):
        raise RequestError("release: the whole id of a release is expected")
    job = {"do": "picture", "document": document, "page": page, "quote": quote}
    with unrecorded(request, job, release) as exchange:
        png = base64.b64decode(await exchange.result())
    # A release never changes, so neither does its picture; private, because documents are.
    cache = "private, max-age=86400, immutable" if release else "no-store"
    return Response(png, headers={**SAFE, "cache-control": cache}, media_type="image/png")
