"""GET /openapi.json: what this gateway takes and gives, of the release that answers now.

An operation that the release cannot do is not in it. Links say which value of one reply another request takes.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from modelyard.gateway.openapi_bodies import (
    NOT_BLANK,
    Json,
    asked_by_rows,
    bare,
    listed,
    messages,
    plain_chat,
    scoring,
    thing,
)
from modelyard.gateway.openapi_databricks import control_plane, data_plane
from modelyard.gateway.openapi_inference import inference, of_version
from modelyard.gateway.openapi_ops import operations_page
from modelyard.gateway.openapi_parts import (
    ASKED,
    CONVERSATION,
    FREE,
    HEADERS,
    IDEMPOTENCY,
    MAYBE,
    NUMBER,
    OPEN,
    OPINION,
    RELEASE,
    REQUEST_ID,
    TEXT,
    Facts,
    operation,
    parameter,
    reply,
    takes,
)
from modelyard.gateway.ops import MOST_HITS
from modelyard.gateway.pages import FILES, MOST_QUOTE
from modelyard.gateway.replies import openai_error, replying
from modelyard.gateway.service import service
from modelyard.serving.meter import Meter
from modelyard.serving.rows import KINDS


@replying(openai_error)
async def openapi(request: Request) -> Response:
    """GET /openapi.json"""
    here = service(request)
    worker = here.fleet.ready()
    about = worker.about if worker is not None else {}
    facts = Facts(
        here.name,
        here.accepts(),
        here.invokes,
        bool(about.get("search")),
        bool(about.get("picture")),
        about.get("schema"),
        request.app.state.callers.required,
        request.app.state.control is not None,
        tuple(dict.fromkeys(here.fleet.pointers.named())),
    )
    return JSONResponse(document(facts), headers={"cache-control": "no-store"})


def document(facts: Facts) -> Json:
    """OpenAPI 3.1."""
    chat = "messages" in facts.accepts and not facts.invokes
    paths = {**_probes(facts), **_pages(), "/openapi.json": {"get": _itself()}, "/v1/models": {"get": _models(facts)}}
    paths |= {"/feedback": {"post": _feedback()}, "/ops/drill": {"post": _drill(facts, chat)}}
    if chat:
        paths["/v1/chat/completions"] = {"post": _completions(facts)}
    paths |= operations_page()
    if facts.control:
        paths |= data_plane(facts, _completions(facts) if chat else {}) | control_plane(facts)
    if facts.accepts:
        paths["/invocations"] = {"post": _invocations(facts, "invocations")}
        paths["/predict"] = {"post": _invocations(facts, "predict")}
    if facts.search:
        paths["/search"] = {"post": _search()}
    if facts.picture:
        paths |= _picture()
    paths |= inference(facts)
    errors = {
        "openai_error": thing({"error": thing({"message": TEXT, "type": TEXT, "param": MAYBE, "code": TEXT})}),
        "mlflow_error": thing({"error_code": TEXT, "message": TEXT}),
        "inference_error": thing({"error": TEXT}),
    }
    out: Json = {
        "openapi": "3.1.0",
        "info": {"title": facts.endpoint, "version": "1", "description": "One endpoint of modelyard, in its dialects."},
        "paths": paths,
        "components": {"schemas": errors},
    }
    if facts.token:
        out["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        out["security"] = [{"token": []}]
    return out


def _probes(facts: Facts) -> Json:
    line = {"type": "string", "const": "\n"}
    known = {"ready": {"type": "boolean"}, "endpoint": TEXT, "release": MAYBE, "champion": MAYBE, "generation": NUMBER}
    state = thing(
        {**known, "state": MAYBE, "version": {"type": ["integer", "string", "null"]}, "reason": MAYBE},
        {"warm": FREE, "cold": {"type": ["object", "null"]}, "stopping": {"type": "boolean"}},
        closed=False,
    )
    named: Json = {
        "drill": {"operationId": "drill", "requestBody": {"release": "$response.body#/release"}},
    }
    if facts.invokes:
        named["version"] = of_version("$response.body#/endpoint", "$response.body#/release")
    measured = operation(
        "metrics", "Figures for Prometheus", {200: reply("Figures", TEXT, Meter.content_type.partition(";")[0])}
    )
    return {
        "/health": {"get": operation("health", "The process is up", {200: reply("Up", line, "text/plain")}, **OPEN)},
        "/ready": {
            "get": operation(
                "ready",
                "Whether a request would be answered, and by which release",
                {200: reply("Yes", state, links=named), 503: reply("No", state)},
                **OPEN,
            )
        },
        "/ping": {
            "get": operation(
                "ping",
                "Whether a request would be answered",
                {200: reply("Yes", line, "text/plain"), 503: reply("No", line, "text/plain")},
            )
        },
        "/version": {"get": operation("version", "The version of MLflow", {200: reply("It", TEXT, "text/plain")})},
        "/metrics": {"get": measured},
    }


def _pages() -> Json:
    page = operation("page", "The chat page", {200: reply("The page", TEXT, "text/html")}, **OPEN)
    kinds = ("text/html", "text/css", "text/javascript", "image/svg+xml")
    file = {"description": "The file", "content": {kind: {"schema": TEXT} for kind in kinds}}
    name = parameter("name", "path", {"enum": sorted(FILES)})
    return {
        "/": {"get": page},
        "/favicon.ico": {"get": operation("icon", "The icon", {200: reply("It", TEXT, "image/svg+xml")}, **OPEN)},
        "/static/{name}": {
            "get": operation("file", "A file of the pages", {200: file}, (404,), parameters=[name], **OPEN)
        },
    }


def _itself() -> Json:
    return operation("openapi", "This document", {200: reply("The document", FREE)})


def _models(facts: Facts) -> Json:
    beside = thing({"release": MAYBE, "state": MAYBE, "search": {"type": "boolean"}}, closed=False)
    one = thing({"id": TEXT, "object": {"const": "model"}, "created": NUMBER, "owned_by": TEXT, "modelyard": beside})
    found = thing({"object": {"const": "list"}, "data": listed(one)})
    links = {
        "model": {"operationId": "model", "parameters": {"model": "$response.body#/data/0/id"}},
    }
    if "messages" in facts.accepts and not facts.invokes:
        links["completions"] = {"operationId": "completions", "requestBody": {"model": "$response.body#/data/0/id"}}
    return operation("models", "The models of OpenAI's dialect: the endpoint", {200: reply("It", found, links=links)})


def _completions(facts: Facts) -> Json:
    flag = {"type": ["boolean", "null"]}
    tokens = {"anyOf": [{"type": "integer", "minimum": 1}, {"type": "null"}]}
    body = thing(
        {"messages": messages()},
        {
            "model": {"enum": [facts.endpoint, None]},
            "stream": flag,
            "stream_options": {
                "anyOf": [thing({}, {"include_usage": flag}, closed=False), {"type": "null"}],
            },
            "max_tokens": tokens,
            "max_completion_tokens": tokens,
            "n": {"enum": [1, None]},
            "logprobs": {"enum": [False, None]},
            "response_format": {"anyOf": [thing({"type": {"const": "text"}}, closed=False), {"type": "null"}]},
            "tool_choice": {"enum": ["none", "auto", None]},
        },
        closed=False,
    )
    said = thing({"role": {"const": "assistant"}, "content": MAYBE}, closed=False)
    choice = thing({"index": NUMBER, "message": said, "finish_reason": {"enum": ["stop", "length"]}}, closed=False)
    usage = thing(dict.fromkeys(("prompt_tokens", "completion_tokens", "total_tokens"), NUMBER), closed=False)
    whole = thing(
        {
            "id": TEXT,
            "object": {"const": "chat.completion"},
            "created": NUMBER,
            "model": TEXT,
            "choices": listed(choice),
        }
        | {"usage": usage, "modelyard": FREE},
        closed=False,
    )
    answer = reply("The answer, whole or as events that end with [DONE] or an error", whole)
    answer["content"]["text/event-stream"] = {"schema": {}}
    answer |= {"headers": HEADERS, "links": OPINION}
    return operation(
        "completions",
        "Ask, in OpenAI's dialect",
        {200: answer},
        ASKED,
        parameters=[IDEMPOTENCY, CONVERSATION],
        requestBody=takes(body),
    )


def _invocations(facts: Facts, name: str) -> Json:
    if facts.invokes:
        schema = scoring(facts.schema) if name == "invocations" else bare(facts.schema)
        found: Json = thing({"predictions": {}}) if facts.schema is not None else {}
    else:
        schema = asked_by_rows()
        found = {"anyOf": [listed(FREE), thing({"predictions": listed(FREE)})]}
    answer = reply("The answers, one a row", found, links=OPINION) | {"headers": HEADERS}
    return operation(
        name,
        "Ask, in MLflow's dialect" if name == "invocations" else "The same, also for records without a form",
        {200: answer},
        ASKED,
        "mlflow_error",
        parameters=[IDEMPOTENCY, CONVERSATION],
        requestBody=takes(schema),
    )


def _feedback() -> Json:
    identity = {"type": "string", "pattern": "^(chatcmpl-)?[0-9a-f]{32}$"}
    words = {"type": "string", "pattern": NOT_BLANK, "maxLength": 10_000}
    label = {"anyOf": [words, {"type": ["number", "boolean"]}]}
    bodies: Json = {"thumb": {"enum": ["up", "down"]}, "comment": words, "label": label}
    assert bodies.keys() == set(KINDS)
    forms = [thing({"request_id": identity, "kind": {"const": k}, "value": v}) for k, v in bodies.items()]
    taken = reply("It is on record", thing({"request_id": REQUEST_ID, "kind": {"enum": list(KINDS)}}))
    summary = "What somebody said of an answer, or what turned out to be true"
    return operation("feedback", summary, {202: taken}, (503, 507), requestBody=takes({"anyOf": forms}))


def _drill(facts: Facts, chat: bool) -> Json:
    asked = plain_chat() if chat else scoring(facts.schema)
    took = thing({"release": RELEASE, "milliseconds": {"type": "number", "minimum": 0}})
    body = thing({"release": RELEASE, "request": asked}, {"endpoint": {"type": ["string", "null"]}}, closed=False)
    summary = "Ask a release that is kept warm, without effect or record"
    return operation("drill", summary, {200: reply("It answered", took)}, ASKED, requestBody=takes(body))


def _search() -> Json:
    body = thing(
        {"query": {"type": "string", "pattern": NOT_BLANK}},
        {"k": {"type": "integer", "minimum": 1, "maximum": MOST_HITS}},
        closed=False,
    )
    hit = thing({"document": TEXT, "page": NUMBER, "score": {"type": "number"}, "text": TEXT}, closed=False)
    links = {
        "picture": {
            "operationId": "picture",
            "parameters": {
                "document": "$response.body#/results/0/document",
                "page": "$response.body#/results/0/page",
                "release": "$response.body#/release",
            },
        }
    }
    found = reply("What was found, best first", thing({"results": listed(hit, 0), "release": RELEASE}), links=links)
    return operation("search", "What retrieval alone finds", {200: found}, ASKED, requestBody=takes(body))


def _picture() -> Json:
    maybe_release = {"type": "string", "pattern": "^([0-9a-f]{64})?$"}
    parameters = [
        parameter("document", "path", {"type": "string", "minLength": 1}),
        parameter("page", "path", {"type": "integer", "minimum": 0}),
        parameter("quote", "query", TEXT, "What is marked on it"),
        parameter("release", "query", maybe_release),
    ]
    png = reply("PNG", {"type": "string", "contentMediaType": "image/png"}, "image/png")
    named = {"document": {"type": "string", "minLength": 1}, "page": NUMBER}
    quoted = {"quote": {"type": "string", "maxLength": MOST_QUOTE}, "release": {**maybe_release, "type": MAYBE["type"]}}
    body = takes(thing(named, quoted, closed=False))
    summary = "The picture of a page"
    return {
        "/pages/{document}/{page}.png": {
            "get": operation("picture", summary, {200: png}, ASKED, parameters=parameters)
        },
        "/pages/picture": {
            "post": operation(
                "picture_of", f"{summary}, asked for without an address", {200: png}, ASKED, requestBody=body
            )
        },
    }
