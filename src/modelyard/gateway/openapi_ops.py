"""The operations page in the document at /openapi.json: for tokens that may operate. Pure."""

from __future__ import annotations

from modelyard.gateway.openapi_bodies import Json, thing
from modelyard.gateway.openapi_parts import (
    FREE,
    MAYBE,
    NUMBER,
    OPEN,
    RELEASE,
    REQUEST_ID,
    TEXT,
    operation,
    parameter,
    reply,
    takes,
)

HTML = "text/html"
_ID = parameter("id", "path", REQUEST_ID, "One of the newest requests")


def operations_page() -> Json:
    """/ops: the page and its parts, what it shows as JSON, and what it does."""
    page = reply("A page", TEXT, HTML)
    endpoint = parameter("endpoint", "query", TEXT, "Without it, the project's own")
    optional: Json = {"to": MAYBE, "why": {"type": "string", "maxLength": 500}}
    back = thing({"endpoint": TEXT}, {**optional, "generation": {"type": ["integer", "null"]}})
    moved = thing({"release": RELEASE, "before": MAYBE, "generation": NUMBER}, closed=False)
    late = (404, 409, 500, 503, 504, 507)
    roll = operation("rollback", "Send the traffic back", {200: reply("Done", moved)}, late, requestBody=takes(back))
    return {
        "/ops": {"get": operation("ops", "The operations page", {200: page}, (503,), **OPEN)},
        "/ops/panel": {"get": operation("ops_panel", "What of it changes", {200: page}, (503,))},
        "/ops/requests/{id}": {
            "get": operation("ops_request", "One request, as a page", {200: page}, (404,), parameters=[_ID])
        },
        "/ops/api/state": {"get": operation("ops_state", "What it shows", {200: reply("It", FREE)}, (503,))},
        "/ops/api/rollout": {
            "get": operation(
                "ops_rollout",
                "What a rollout waits for",
                {200: reply("It", {"type": ["object", "null"]})},
                (404, 503),
                parameters=[endpoint],
            )
        },
        "/ops/api/requests/{id}": {
            "get": operation("ops_request_json", "One request", {200: reply("It", FREE)}, (404,), parameters=[_ID])
        },
        "/ops/api/rollback": {"post": roll},
        "/ops/api/drill": {
            "post": operation(
                "ops_drill",
                "What `modelyard release rollback --drill` measures",
                {200: reply("It", FREE)},
                late,
                requestBody=takes(thing({}, {"endpoint": MAYBE})),
            )
        },
    }
