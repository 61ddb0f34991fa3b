"""GET /api/2.0/serving-endpoints/{name}/openapi: what one endpoint takes and gives, by what its release says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modelyard.serving.endpoint import Endpoint

_TYPES: Mapping[str, Mapping[str, Any]] = {
    "boolean": {"type": "boolean"},
    "integer": {"type": "integer", "format": "int32"},
    "long": {"type": "integer", "format": "int64"},
    "float": {"type": "number", "format": "float"},
    "double": {"type": "number", "format": "double"},
    "string": {"type": "string"},
    "datetime": {"type": "string", "format": "date-time"},
}
"""Types of MLflow's columns; of any other nothing is said."""


def document(name: str, served: Endpoint | None) -> dict[str, Any]:
    """An OpenAPI 3.1 document with the one path at which the endpoint answers."""
    chat = served is not None and "messages" in served.accepts()
    schema = served.schema() if served is not None else None
    error = {"$ref": "#/components/responses/error"}
    operation = {
        "operationId": "query",
        "summary": f"Query the endpoint {name}",
        "requestBody": {"required": True, "content": {"application/json": {"schema": _request(chat, schema)}}},
        "responses": {
            "200": {
                "description": "The answer",
                "headers": {"served-model-name": {"schema": {"type": "string"}}},
                "content": {"application/json": {"schema": _reply(chat)}},
            },
            **dict.fromkeys(("400", "401", "403", "404", "413", "415", "429", "500", "503", "504"), error),
        },
    }
    fields = {"error_code": {"type": "string"}, "message": {"type": "string"}}
    body = {"type": "object", "required": sorted(fields), "properties": fields}
    refused = {"description": "One line that says why not", "content": {"application/json": {"schema": body}}}
    return {
        "openapi": "3.1.0",
        "info": {"title": name, "version": "1"},
        "paths": {f"/serving-endpoints/{name}/invocations": {"post": operation}},
        "components": {
            "responses": {"error": refused},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"token": []}],
    }


def _request(chat: bool, schema: Mapping[str, Any] | None) -> dict[str, Any]:
    if chat:
        message = {
            "type": "object",
            "required": ["role", "content"],
            "properties": {"role": {"type": "string"}, "content": {"type": "string"}},
        }
        return {
            "type": "object",
            "required": ["messages"],
            "properties": {
                "messages": {"type": "array", "minItems": 1, "items": message},
                "max_tokens": {"type": "integer", "minimum": 1},
                "stream": {"type": "boolean"},
                "client_request_id": {"type": "string"},
                "usage_context": {"type": "object", "additionalProperties": {"type": "string"}},
            },
        }
    if schema is None or schema.get("tensors"):
        forms = ("dataframe_split", "dataframe_records", "instances", "inputs")
        return {"oneOf": [{"type": "object", "required": [form]} for form in forms]}
    columns = [str(column["name"]) for column in schema["inputs"]]
    record = _record(schema["inputs"])
    split = {
        "type": "object",
        "required": ["columns", "data"],
        "properties": {
            "columns": {"type": "array", "items": {"enum": columns} if all(columns) else {}},
            "data": {"type": "array", "items": {"type": "array"}},
        },
    }
    records = {"type": "array", "items": record}
    return {
        "oneOf": [
            {"type": "object", "required": ["dataframe_split"], "properties": {"dataframe_split": split}},
            {"type": "object", "required": ["dataframe_records"], "properties": {"dataframe_records": records}},
            {"type": "object", "required": ["instances"]},
            {"type": "object", "required": ["inputs"]},
        ]
    }


def _reply(chat: bool) -> dict[str, Any]:
    if chat:
        return {
            "type": "object",
            "required": ["id", "object", "choices"],
            "properties": {"id": {"type": "string"}, "object": {"type": "string"}, "choices": {"type": "array"}},
        }
    return {"type": "object", "required": ["predictions"], "properties": {"predictions": {}}}


def _record(columns: list[Mapping[str, Any]]) -> dict[str, Any]:
    return {
        "type": "object",
        "required": [column["name"] for column in columns if column.get("required", True)],
        "properties": {column["name"]: dict(_TYPES.get(str(column["kind"]), {})) for column in columns},
    }
