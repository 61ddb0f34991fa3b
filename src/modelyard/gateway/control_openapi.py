"""GET /api/2.0/serving-endpoints/{name}/openapi: what one endpoint takes and gives, at the one path where Databricks'
clients ask it. Made of what /openapi.json says of the same release."""

from __future__ import annotations

import copy
from collections.abc import Iterator

from modelyard.gateway.openapi import document as everything
from modelyard.gateway.openapi_bodies import Json
from modelyard.gateway.openapi_parts import JSON, Facts

_SERVED = {"served-model-name": {"description": "The served entity that answered", "schema": {"type": "string"}}}


def document(facts: Facts) -> Json:
    """OpenAPI 3.1. An endpoint of which no worker is up has no operation in it."""
    whole = copy.deepcopy(everything(facts))
    asked = [
        whole["paths"][path]["post"] for path in ("/v1/chat/completions", "/invocations") if path in whole["paths"]
    ]
    schemas = {name: schema for name, schema in whole["components"]["schemas"].items() if name == "mlflow_error"}
    out = {**whole, "paths": {}, "components": {**whole["components"], "schemas": schemas}}
    if asked:
        out["paths"] = {f"/serving-endpoints/{facts.endpoint}/invocations": {"post": _query(asked)}}
    return out


def _query(asked: list[Json]) -> Json:
    """The operations of two dialects as one: Databricks tells them apart by the body."""
    first = asked[0]
    bodies = [schema for one in asked for schema in _schemas(one["requestBody"]["content"])]
    replies = [schema for one in asked for schema in _schemas(one["responses"]["200"]["content"])]
    for body in bodies:
        # The path says which endpoint it is, whatever the body calls its model.
        body.get("properties", {}).pop("model", None)
    answer = {**first["responses"]["200"], "headers": {**first["responses"]["200"].get("headers", {}), **_SERVED}}
    answer.pop("links", None)
    answer["content"] = {**answer["content"], JSON: {"schema": {"anyOf": replies}}}
    refused = {status: _in_our_shape(reply) for status, reply in first["responses"].items() if status != "200"}
    return {
        "operationId": "query",
        "summary": "Ask, in Databricks' dialect",
        "parameters": first.get("parameters", []),
        "requestBody": {"required": True, "content": {JSON: {"schema": {"anyOf": bodies}}}},
        "responses": {"200": answer, **refused},
    }


def _schemas(content: Json) -> Iterator[Json]:
    yield content[JSON]["schema"]


def _in_our_shape(reply: Json) -> Json:
    return {**reply, "content": {JSON: {"schema": {"$ref": "#/components/schemas/mlflow_error"}}}}
