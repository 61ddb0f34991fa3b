"""MLflow's dialect: POST /invocations, as `mlflow models serve` of a logged release answers it.

`{"messages": [...]}` gets a bare list with one object; `inputs`, `dataframe_records` and `dataframe_split` get
{"predictions": [...]}, one object per row. Unlike there, what is not understood is refused and never dropped, and a
reply to a bad request is one sentence without a traceback.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from modelyard.errors import Cancelled, ModelyardError, RequestError
from modelyard.gateway.auth import Caller, Door, turned_away
from modelyard.gateway.body import FREE_BYTES, Bodies, SlowBody, read_bytes, read_json
from modelyard.gateway.edge import Headers, Leaving, Reply
from modelyard.gateway.replies import internal, mlflow_error, refusal, released, replying
from modelyard.gateway.service import begin, enter, gone, idempotency_key, service
from modelyard.ids import short
from modelyard.serving.answer import prediction
from modelyard.serving.assignment import unit_of
from modelyard.serving.endpoint import Endpoint
from modelyard.serving.passage import Arrival, Passage

MOST_ROWS = 256
AT_ONCE = 8
TABULAR = ("inputs", "instances", "dataframe_records", "dataframe_split")
WITHOUT_EFFECT = frozenset(
    {
        "model",
        "temperature",
        "top_p",
        "top_k",
        "seed",
        "stop",
        "max_tokens",
        "max_completion_tokens",
        "user",
        "metadata",
    }
    | {
        "presence_penalty",
        "frequency_penalty",
        "logit_bias",
        "client_request_id",
        "usage_context",
        "databricks_options",
    }
)
"""Fields that chat clients of MLflow and Databricks send along; a release answers the same whatever they say."""


PATH, _PATH = "/invocations", b"/invocations"


@replying(mlflow_error)
async def invocations(request: Request) -> Response:
    """POST /invocations"""
    here = service(request)
    await here.introduced()
    if here.invokes:
        bodies: Bodies = request.app.state.bodies
        raw = await read_bytes(request, bodies.scoring)
        passage = await enter(request, "mlflow", raw)
        return await handed_through(request, passage, raw, request.headers.get("content-type", ""))
    raw, body = await read_json(request, "scoring")
    return await one_by_one(request, "mlflow", raw, body)


async def one_by_one(
    request: Request,
    dialect: str,
    raw: bytes,
    body: dict[str, Any],
    release: str | None = None,
    client_request_id: Any = None,
) -> Response:
    """The answers to a body for a release that reads none itself: it is asked row by row. `release` is the one that the
    caller names, `client_request_id` the caller's name for the request where it does not stand in `body`."""
    rows, bare = requests(body, service(request).accepts())
    beside = {"client_request_id": client_request_id} if client_request_id is not None else {}
    passage = await enter(request, dialect, raw, {**(body if bare else {**rows[0], **body}), **beside}, release)
    left = gone(request)
    jobs = [{"do": "predict", "request": row, "stream": False} for row in rows]
    predictions = [await _one(passage, left, jobs[0], None)] if len(jobs) == 1 else await _all(passage, left, jobs)
    return released(predictions if bare else {"predictions": predictions}, passage.release)


async def handed_through(request: Request, passage: Passage, raw: bytes, kind: str) -> Response:
    """The body, of content type `kind`, goes to the release as it is, and its reply is passed on as it is: nobody
    parses either on the way."""
    with passage.exchange(_invoke(raw, kind), gone(request)) as exchange:
        reply = await exchange.result()
        passage.heard(exchange, reply)
    headers = {"content-type": reply["content_type"], "modelyard-release": exchange.release}
    return Response(reply["body"], headers=headers)


def _invoke(raw: bytes, kind: str) -> dict[str, Any]:
    return {"do": "invoke", "content_type": kind, "payload": raw}


class Scoring:
    """The same for the common case, without a Request, a route and middleware (`gateway.edge`): a request to the
    project's own endpoint while the release that answers there reads bodies itself."""

    def __init__(self, endpoint: Endpoint, door: Door, bodies: Bodies) -> None:
        self.most, self.patience = min(FREE_BYTES, bodies.scoring), endpoint.timeout
        self._endpoint, self._door = endpoint, door

    def takes(self, url: bytes, headers: Headers) -> bool:
        return url == _PATH and self._endpoint.invokes

    def late(self) -> Reply:
        slow = SlowBody(f"the body did not arrive within {self.patience:g} s")
        here = self._endpoint
        return Reply(
            *_parts(refusal(slow, mlflow_error)),
            lambda _: here.meter.answered(here.name, "none", "champion", "mlflow", slow.status, self.patience),
        )

    async def answer(self, headers: Headers, body: bytes, leaving: Leaving) -> Reply:
        here, began = self._endpoint, time.monotonic()
        authorization, origin = headers.get(b"authorization", b""), headers.get(b"origin")
        more: list[tuple[bytes, bytes]] = []
        try:
            caller, _ = self._door.admit(
                PATH,
                headers.get(b"host", b"").decode("latin-1"),
                authorization.decode("latin-1"),
                None if origin is None else origin.decode("latin-1"),
            )
            if caller.allowance is not None:
                caller.allowance.admit()
                more = caller.allowance.raw_headers()
        except ModelyardError as error:
            refused = turned_away(error, PATH, here.meter)
            return Reply(*_parts(refused), lambda _: None)
        passage: Passage | None = None
        failure: ModelyardError | None = None
        release = ""
        try:
            passage = await begin(here, caller, self._arrival(headers, body, caller))
            with passage.exchange(_invoke(body, headers.get(b"content-type", b"").decode("latin-1"))) as exchange:
                leaving.then(exchange.cancel)
                said = await exchange.result()
                passage.heard(exchange, said)
            release = exchange.release
            kept = [(b"content-type", said["content_type"].encode()), (b"modelyard-release", release.encode())]
            status, head, whole = 200, kept, said["body"]
        except Cancelled as error:  # read by nobody
            failure = error
            status, head, whole = error.status, [], b""
        except ModelyardError as error:
            failure = error
            status, head, whole = _parts(refusal(error, mlflow_error))
        except Exception as error:  # noqa: BLE001 - whatever it is, the caller gets a sentence and the log the traceback
            failure = ModelyardError(type(error).__name__)
            status, head, whole = _parts(internal(mlflow_error))
        if passage is not None:
            head.append((b"x-request-id", passage.id.encode()))
            try:
                await passage.finish(status, whole, failure)
            except ModelyardError as error:
                status, head, whole = _parts(refusal(error, mlflow_error))
        arm = passage.given.arm if passage is not None else "champion"
        named = short(release or (passage.release if passage is not None else "")) or "none"

        def sent(there: bool) -> None:
            seen = status if there or status >= 400 else 499
            here.meter.answered(here.name, named, arm, "mlflow", seen, time.monotonic() - began)

        return Reply(status, head + more, whole, sent)

    def _arrival(self, headers: Headers, body: bytes, caller: Caller) -> Arrival:
        name, key = headers.get(b"x-conversation-id"), headers.get(b"idempotency-key")
        return Arrival(
            "mlflow",
            body,
            idempotency_key(None if key is None else key.decode("latin-1"), caller),
            unit_of(caller.id, name.decode("latin-1") if name else None, body),
            False,
            caller.id,
            tuple(sorted(caller.groups)),
        )


def _parts(reply: Response) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """Of a refusal."""
    beside = (b"content-length", b"connection")
    return reply.status_code, [pair for pair in reply.raw_headers if pair[0] not in beside], bytes(reply.body)


def requests(body: dict[str, Any], accepts: frozenset[str]) -> tuple[list[dict[str, Any]], bool]:
    """The requests in a body, and whether they came bare. With nothing known of what the release accepts, all keys
    pass. Raises RequestError."""
    tables = [name for name in TABULAR if name in body]
    if not tables:
        request = {k: v for k, v in body.items() if k not in WITHOUT_EFFECT}
        if request.pop("stream", False):
            raise RequestError("stream: /invocations answers whole; /v1/chat/completions streams")
        if not request:
            raise RequestError("the body needs messages, or one of " + ", ".join(TABULAR))
        _known(request, accepts, "the body")
        return [request], True
    if len(tables) > 1 or set(body) - {tables[0], "params"}:
        raise RequestError(f"the body needs exactly one of {', '.join(TABULAR)}, and nothing else")
    if body.get("params") not in (None, {}):
        raise RequestError("params: a release takes none")
    rows = _rows(tables[0], body[tables[0]])
    if not 1 <= len(rows) <= MOST_ROWS:
        raise RequestError(f"{tables[0]}: 1 to {MOST_ROWS} rows are expected, here are {len(rows)}")
    for i, row in enumerate(rows):
        _known(row, accepts, f"row {i} of {tables[0]}")
    return rows, False


def _rows(name: str, value: Any) -> list[dict[str, Any]]:
    if name == "dataframe_split":
        value = _split(value)
    elif isinstance(value, dict) and name == "inputs":
        value = [value]
    if not isinstance(value, list) or not all(isinstance(row, dict) for row in value):
        raise RequestError(f"{name}: a list of objects is expected")
    return value


def _split(value: Any) -> list[dict[str, Any]]:
    if isinstance(value, dict) and value.keys() - {"columns", "data", "index"}:
        raise RequestError("dataframe_split: columns, data and (optionally) index are expected, and nothing else")
    columns = value.get("columns") if isinstance(value, dict) else None
    data = value.get("data") if isinstance(value, dict) else None
    if not isinstance(columns, list) or not all(isinstance(column, str) for column in columns):
        raise RequestError("dataframe_split: columns, a list of names, and data, a list of rows, are expected")
    if not isinstance(data, list) or not all(isinstance(row, list) and len(row) == len(columns) for row in data):
        raise RequestError("dataframe_split: data must be a list of rows as long as columns")
    return [dict(zip(columns, row, strict=True)) for row in data]


def _known(request: dict[str, Any], accepts: frozenset[str], where: str) -> None:
    unknown = sorted(set(request) - accepts) if accepts else []
    if unknown:
        raise RequestError(
            f"{where}: unknown {', '.join(unknown[:5])}; this endpoint takes {', '.join(sorted(accepts))}"
        )


async def _all(passage: Passage, end: Awaitable[None], jobs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Answers in the order of the jobs; the first failure ends them all."""
    left = asyncio.ensure_future(end)
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(job: dict[str, Any], number: int) -> dict[str, Any]:
        async with gate:
            return await _one(passage, asyncio.shield(left), job, number)

    tasks = [asyncio.ensure_future(one(job, number)) for number, job in enumerate(jobs)]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in (*tasks, left):
            task.cancel()


async def _one(passage: Passage, end: Awaitable[None], job: dict[str, Any], part: int | None) -> dict[str, Any]:
    with passage.exchange(job, end, part) as exchange:
        response = await exchange.result()
        passage.heard(exchange, response)
        return prediction(exchange.release, response["text"], response["output"])
