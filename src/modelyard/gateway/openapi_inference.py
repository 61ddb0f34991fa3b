"""The Open Inference Protocol in the document at /openapi.json. Pure."""

from __future__ import annotations

from modelyard.gateway.openapi_bodies import Json, listed, tensors, thing
from modelyard.gateway.openapi_parts import (
    ASKED,
    CONVERSATION,
    HEADERS,
    IDEMPOTENCY,
    OPEN,
    OPINION,
    RELEASE,
    TEXT,
    Facts,
    operation,
    parameter,
    reply,
    takes,
)


def of_version(model: str, version: str) -> Json:
    return {"operationId": "version_infer", "parameters": {"model": model, "version": version}}


def inference(facts: Facts) -> Json:
    """The Open Inference Protocol."""
    error = "inference_error"
    live, up = thing({"live": {"const": True}}), thing({"ready": {"type": "boolean"}})
    server = thing({"name": TEXT, "version": TEXT, "extensions": listed(TEXT, 0)})
    about = operation("server", "The server", {200: reply("It", server)}, error=error)
    paths: Json = {
        "/v2": {"get": about},
        "/v2/": {"get": {**about, "operationId": "server_too"}},
        "/v2/health/live": {"get": operation("live", "Up", {200: reply("Up", live)}, error=error, **OPEN)},
        "/v2/health/ready": {
            "get": operation(
                "v2_ready", "As /ready", {200: reply("Yes", up), 503: reply("No", up)}, error=error, **OPEN
            )
        },
    }
    for place, begins in (("/v2/models/{model}", ""), ("/v2/models/{model}/versions/{version}", "version_")):
        paths |= _of_model(facts, place, begins)
    return paths


def _of_model(facts: Facts, place: str, begins: str) -> Json:
    error = "inference_error"
    shape = listed({"type": "integer"}, 0)
    tensor = thing({"name": TEXT, "datatype": TEXT, "shape": shape})
    metadata = thing(
        {"name": TEXT, "versions": listed(TEXT, 0), "platform": TEXT, "inputs": listed(tensor, 0)}
        | {"outputs": listed(tensor, 0)}
    )
    named, is_ready = (
        [{**parameter("model", "path", TEXT), "example": facts.endpoint}],
        thing({"name": TEXT, "ready": {"type": "boolean"}}),
    )
    if begins:
        named.append(parameter("version", "path", TEXT, "The id of a release that is kept warm, or its beginning"))
    links = {"version": of_version("$response.body#/name", "$response.body#/versions/0")} if facts.invokes else {}
    links |= {
        "ready": {
            "operationId": "version_model_ready",
            "parameters": {"model": "$response.body#/name", "version": "$response.body#/versions/0"},
        }
    }
    described = reply("What it takes and gives", metadata, links=links)
    out: Json = {
        place: {"get": operation(f"{begins}model", "A model", {200: described}, (404, 503), error, parameters=named)},
        f"{place}/ready": {
            "get": operation(
                f"{begins}model_ready",
                "Whether it would answer",
                {200: reply("Yes", is_ready), 503: reply("No", {"anyOf": [is_ready, _ref(error)]})},
                (404,),
                error,
                parameters=named,
            )
        },
    }
    if facts.invokes:
        output = thing({"name": TEXT, "datatype": TEXT, "shape": shape, "data": {"type": "array"}})
        found = thing({"model_name": TEXT, "model_version": RELEASE, "outputs": listed(output, 0)}, {"id": TEXT})
        answer = reply("The outputs", found, links=OPINION) | {"headers": HEADERS}
        more = {"parameters": [*named, IDEMPOTENCY, CONVERSATION], "requestBody": takes(tensors(facts.schema))}
        out[f"{place}/infer"] = {"post": operation(f"{begins}infer", "Score", {200: answer}, ASKED, error, **more)}
    return out


def _ref(error: str) -> Json:
    return {"$ref": f"#/components/schemas/{error}"}
