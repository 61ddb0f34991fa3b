"""What the document at /openapi.json is put together of: operations, replies, parameters, and what they have in common.
Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from modelyard.gateway.openapi_bodies import Json

JSON = "application/json"
WHY = {
    400: "The request is wrong; the error says what",
    401: "A token is needed, and this is none that is good",
    403: "The token may not do this, or a page of another site asked",
    404: "What the request names is not there",
    408: "The body did not arrive in time",
    409: "It is there already, changes at this moment, or the policy does not allow it",
    413: "The body, or the question, is too long",
    415: "The body is of a content type that is not read",
    429: "The token's limit, or its budget, is used up",
    500: "The model failed, or the gateway did; its log says why",
    502: "A remote model behind the release failed",
    503: "Nothing can answer now; Retry-After says when to ask again",
    504: "The request took longer than its deadline",
    507: "The disk is full",
}
ANYWHERE, WITH_BODY, ASKED = (400, 401, 403, 429), (408, 413, 415, 503), (404, 500, 502, 503, 504, 507)
"""Statuses of any request, of one with a body, and of one that a release answers."""
TEXT: Json = {"type": "string"}
FREE: Json = {"type": "object"}
NUMBER: Json = {"type": "integer", "minimum": 0}
RELEASE: Json = {"type": "string", "pattern": "^[0-9a-f]{64}$", "description": "The id of a release"}
REQUEST_ID: Json = {"type": "string", "pattern": "^[0-9a-f]{32}$"}
MAYBE: Json = {"type": ["string", "null"]}


@dataclass(frozen=True)
class Facts:
    """What the document depends on. `schema` is a `ports.workload.Schema` as JSON, None where the release gives none;
    `token`: whether one is asked for; `control`: whether there is a control plane; `releases`: those kept up."""

    endpoint: str
    accepts: frozenset[str]
    invokes: bool = False
    search: bool = False
    picture: bool = False
    schema: Mapping[str, Any] | None = None
    token: bool = False
    control: bool = False
    releases: tuple[str, ...] = ()


def operation(
    name: str,
    summary: str,
    answers: Mapping[int, Json],
    refusals: Iterable[int] = (),
    error: str = "openai_error",
    **more: Any,
) -> Json:
    """An operation: what it answers, and with what `error` it refuses."""
    why = sorted({*ANYWHERE, *refusals, *((*WITH_BODY,) if "requestBody" in more else ())} - answers.keys())
    responses = {str(status): answer for status, answer in answers.items()}
    responses |= {str(one): reply(WHY[one], {"$ref": f"#/components/schemas/{error}"}) for one in why}
    return {"operationId": name, "summary": summary, **more, "responses": responses}


def reply(description: str, schema: Json | None = None, kind: str = JSON, links: Json | None = None) -> Json:
    """A response with a body."""
    out: Json = {"description": description, "content": {kind: {"schema": schema if schema is not None else {}}}}
    return out | ({"links": links} if links else {})


def takes(schema: Json, **others: Json) -> Json:
    """The body of a request: JSON, and by content type what else is taken."""
    return {"required": True, "content": {JSON: {"schema": schema}, **{k: {"schema": v} for k, v in others.items()}}}


def parameter(name: str, where: str, schema: Json, what: str = "") -> Json:
    """A parameter; one in the path is required."""
    out: Json = {"name": name, "in": where, "schema": schema, "required": where == "path"}
    return out | ({"description": what} if what else {})


IDEMPOTENCY = parameter(
    "Idempotency-Key",
    "header",
    {"type": "string", "pattern": "^ *[!-~]([ -~]{0,198}[!-~])? *$"},
    "The same key for the same request sent again: its effects happen once",
)
CONVERSATION = parameter("X-Conversation-Id", "header", TEXT, "All requests of a conversation go to one release")
OPEN: Json = {"security": []}
_SAID = {"description": "The id of the request, for /feedback", "schema": REQUEST_ID}
_RELEASED = {"description": "The release that answered", "schema": RELEASE}
HEADERS: Json = {"X-Request-Id": _SAID, "Modelyard-Release": _RELEASED}
OPINION: Json = {
    "feedback": {
        "operationId": "feedback",
        "requestBody": {"request_id": "$response.header.X-Request-Id", "kind": "thumb", "value": "up"},
    }
}
