"""Databricks Model Serving in the document at /openapi.json: data plane and control plane. Pure."""

from __future__ import annotations

from modelyard.gateway.openapi_bodies import Json, listed, scoring, thing
from modelyard.gateway.openapi_parts import (
    ASKED,
    CONVERSATION,
    FREE,
    HEADERS,
    IDEMPOTENCY,
    NUMBER,
    OPEN,
    OPINION,
    TEXT,
    Facts,
    operation,
    parameter,
    reply,
    takes,
)

API = "/api/2.0/serving-endpoints"
ERROR = "mlflow_error"
_ENTITY = parameter("entity", "path", TEXT, "A served entity of it")
_ENDPOINT_NAME: Json = {"type": "string", "pattern": "^[A-Za-z0-9]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?$"}
_WORD: Json = {"type": "string", "pattern": "^[A-Za-z0-9_.-]{1,100}$"}
_SAID: Json = {"type": ["string", "null"], "pattern": "^[ -~]{0,250}$"}
_TAGS: Json = {**listed(thing({"key": _WORD}, {"value": _SAID}, closed=False), 0), "type": ["array", "null"]}


def data_plane(facts: Facts, chat: Json) -> Json:
    """/serving-endpoints. `chat` is the operation of OpenAI's dialect, where the release takes chats."""
    one, at = "/serving-endpoints/{name}", _name(facts)
    named = {**HEADERS, "Served-Model-Name": {"description": "The served entity that answered", "schema": TEXT}}
    more: Json = {"client_request_id": {}, "usage_context": {}}
    answer = reply("The answer", thing({"predictions": {}}) if facts.schema is not None else {}, links=OPINION)
    body = scoring(facts.schema) if facts.invokes else {}
    paths: Json = {}
    if chat:
        asked = chat["requestBody"]["content"]["application/json"]["schema"]
        others = {key: value for key, value in asked["properties"].items() if key not in ("model", "messages")}
        body = thing({"messages": asked["properties"]["messages"]}, {**others, **more}, closed=False)
        answer = dict(chat["responses"]["200"])
        to = thing({**body["properties"], "model": {"const": facts.endpoint}}, closed=False)
        to["required"] = ["messages", "model"]
        paths["/serving-endpoints/chat/completions"] = {
            "post": operation(
                "serving_completions",
                "Ask the endpoint that `model` names, in OpenAI's dialect",
                {200: {**answer, "headers": named}},
                ASKED,
                ERROR,
                parameters=[IDEMPOTENCY, CONVERSATION],
                requestBody=takes(to),
            )
        }
    for path, identity, where in (
        (f"{one}/invocations", "query", [at]),
        (f"{one}/served-models/{{entity}}/invocations", "query_entity", [at, _ENTITY]),
    ):
        paths[path] = {
            "post": operation(
                identity,
                "Ask an endpoint" if identity == "query" else "Ask one release of an endpoint",
                {200: {**answer, "headers": named}},
                ASKED,
                ERROR,
                parameters=[*where, IDEMPOTENCY, CONVERSATION],
                requestBody=takes(body),
            )
        }
    return paths


def control_plane(facts: Facts) -> Json:
    """/api/2.0/serving-endpoints, for tokens that may operate."""
    one, at = f"{API}/{{name}}", _name(facts)
    described, listing = _described()
    tagged = thing({}, {"add_tags": _TAGS, "delete_tags": {**listed(TEXT, 0), "type": ["array", "null"]}})
    tracking = thing({}, {"usage_tracking_config": {}})
    entity = f"{one}/served-models/{{entity}}"
    said = reply("What they say", thing({"logs": TEXT}))
    return {
        API: {"get": _operation("endpoints", "All endpoints", {200: listing}), "post": _create(facts, described)},
        f"{API}/": {
            "get": _operation("endpoints_too", "All endpoints", {200: listing}),
            "post": {**_create(facts, described), "operationId": "create_too"},
        },
        one: {
            "get": _operation("endpoint", "An endpoint", {200: described}, at),
            "delete": _operation("delete", "Let an endpoint go", {200: reply("Done", thing({}))}, at),
        },
        f"{one}/config": {"put": _configure(facts, described)},
        f"{one}/tags": {
            "patch": _operation(
                "tag",
                "Change an endpoint's tags",
                {200: reply("The tags", thing({"tags": listed(thing({"key": TEXT, "value": TEXT}), 0)}))},
                at,
                requestBody=takes(tagged),
            )
        },
        f"{one}/ai-gateway": {
            "put": _operation(
                "ai_gateway", "Settings of the gateway", {200: reply("They", FREE)}, at, requestBody=takes(tracking)
            )
        },
        f"{one}/openapi": {
            "get": _operation("endpoint_openapi", "What an endpoint takes", {200: reply("It", FREE)}, at)
        },
        f"{one}/metrics": {
            "get": _operation("endpoint_metrics", "Its figures", {200: reply("They", TEXT, "text/plain")}, at)
        },
        f"{entity}/logs": {"get": _operation("logs", "How its workers are", {200: said}, at, _ENTITY)},
        f"{entity}/build-logs": {"get": _operation("build_logs", "The same", {200: said}, at, _ENTITY)},
        "/.well-known/databricks-config": {
            "get": operation("databricks_config", "There is none", {}, (404,), ERROR, **OPEN)
        },
    }


def _name(facts: Facts) -> Json:
    return {**parameter("name", "path", TEXT, "An endpoint"), "example": facts.endpoint}


def _operation(name: str, summary: str, answers: dict[int, Json], *where: Json, **more: Json) -> Json:
    return operation(name, summary, answers, (404, 409, 503, 507), ERROR, parameters=list(where), **more)


def _described() -> tuple[Json, Json]:
    """Replies that describe one endpoint, and all."""
    state = thing({"ready": {"enum": ["READY", "NOT_READY"]}, "config_update": TEXT})
    known: Json = {"name": _ENDPOINT_NAME, "id": TEXT, "creator": TEXT, "state": state, "creation_timestamp": NUMBER}
    known |= {"last_updated_timestamp": NUMBER}
    endpoint = thing(known, {"config": FREE, "pending_config": FREE}, closed=False)
    links: Json = {
        "query": {"operationId": "query", "parameters": {"name": "$response.body#/name"}},
        "logs": {
            "operationId": "logs",
            "parameters": {
                "name": "$response.body#/name",
                "entity": "$response.body#/config/served_entities/0/name",
            },
        },
        "query_entity": {
            "operationId": "query_entity",
            "parameters": {
                "name": "$response.body#/name",
                "entity": "$response.body#/config/served_entities/0/name",
            },
        },
    }
    links |= {
        name: {"operationId": name, "parameters": {"name": "$response.body#/name"}}
        for name in ("tag", "endpoint_openapi", "endpoint_metrics")
    }
    first = {"name": "$response.body#/endpoints/0/name"}
    listing = reply(
        "All of them",
        thing({"endpoints": listed(endpoint, 0)}),
        links={"endpoint": {"operationId": "endpoint", "parameters": first}},
    )
    return reply("The endpoint", endpoint, links=links), listing


def _entities(facts: Facts) -> Json:
    entity = thing(
        {"entity_name": {"const": facts.endpoint}, "entity_version": {"enum": sorted(facts.releases)}},
        {"scale_to_zero_enabled": {"type": ["boolean", "null"]}},
    )
    return {
        **listed(entity, 1, 1),
        "description": "A served entity is a release; here are those that are kept warm. With several, traffic_config "
        "says who gets how much.",
    }


def _create(facts: Facts, described: Json) -> Json:
    config = thing({"served_entities": _entities(facts)})
    body = thing({"name": _ENDPOINT_NAME, "config": config}, {"tags": _TAGS})
    return _operation("create", "Another endpoint", {200: described}, requestBody=takes(body))


def _configure(facts: Facts, described: Json) -> Json:
    body = thing({}, {"served_entities": {**_entities(facts), "minItems": 0, "type": ["array", "null"]}})
    summary = "What an endpoint serves, and to how much of the traffic"
    return _operation("configure", summary, {200: described}, _name(facts), requestBody=takes(body))
