"""OpenAI's dialect: chat completions, whole or as server-sent events, and the list of models.

Of the body `messages`, `stream`, `stream_options.include_usage`, `max_tokens` and `max_completion_tokens` are honoured.
`n` other than 1, `logprobs`, a `response_format` other than text and a forced `tool_choice` are refused. Everything
else (temperature, top_p, seed, penalties, stop, tools, user, ...) is accepted and has no effect: what a release answers
is fixed by the release. Tokens of `max_tokens` are words and punctuation marks.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from modelyard.errors import Cancelled, ModelyardError, NotFound, RequestError
from modelyard.gateway.body import read_json, whole
from modelyard.gateway.replies import citing, log, openai_error, released, replying
from modelyard.gateway.sending import InTime
from modelyard.gateway.service import enter, for_model, gone, served, service
from modelyard.ids import short
from modelyard.serving.endpoint import Endpoint
from modelyard.serving.exchange import Exchange
from modelyard.serving.passage import Passage
from modelyard.serving.wire import Frame

ROLES = ("system", "developer", "user", "assistant", "tool", "function")
_TOKEN = re.compile(r"\s*(?:\w+|[^\w\s])\s*")


@dataclass(frozen=True)
class Asked:
    """A chat completion as it was asked for."""

    messages: list[dict[str, str]]
    stream: bool
    include_usage: bool
    most_tokens: int | None


@replying(openai_error)
async def completions(request: Request) -> ASGIApp:
    """POST /v1/chat/completions"""
    raw, body = await read_json(request)
    for_model(request, body.get("model"))
    return await complete(request, "openai", raw, body)


async def complete(
    request: Request, dialect: str, raw: bytes, body: dict[str, Any], release: str | None = None
) -> ASGIApp:
    """The completion of a chat, whole or as a stream. `release` is the one that the caller names."""
    here = service(request)
    asked = parse(body, here.name)
    accepts = here.accepts()
    if accepts and "messages" not in accepts:
        raise RequestError(f"{here.name} is no chat model: it takes {', '.join(sorted(accepts))} at /invocations")
    passage = await enter(request, dialect, raw, body, release)
    job = {"do": "predict", "request": {"messages": asked.messages}, "stream": asked.stream}
    exchange = passage.exchange(job, gone(request))
    reply = _Reply(passage, asked, exchange)
    if asked.stream:
        try:
            return EventStream(reply, await exchange.next())
        except BaseException:
            exchange.close()
            raise
    with exchange:
        response = await exchange.result()
        passage.heard(exchange, response)
        return released(reply.whole(response, reply.cut(response["text"])), exchange.release)


@replying(openai_error)
async def models(request: Request) -> Response:
    """GET /v1/models: the endpoints, the project's own first, and which release stands behind each."""
    return JSONResponse({"object": "list", "data": [_model(here) for here in served(request)]})


def _model(here: Endpoint) -> dict[str, Any]:
    standing, worker = here.fleet.standing(), here.fleet.ready()
    about = worker.about if worker is not None else {}
    return {
        "id": here.name,
        "object": "model",
        "created": 0,
        "owned_by": "modelyard",
        "modelyard": {
            "release": standing.release,
            "state": standing.state,
            "version": standing.version,
            "search": about.get("search", False),
            "picture": about.get("picture", False),
        },
    }


def parse(body: dict[str, Any], endpoint: str) -> Asked:
    """Raises RequestError, NotFound for the model of another endpoint."""
    model = body.get("model")
    if model is not None and model != endpoint:
        raise _at("model", NotFound(f"there is no such model here; this endpoint is {endpoint!r}"))
    if body.get("n") is not None and (type(body["n"]) is not int or body["n"] != 1):
        raise _at("n", RequestError("n: one answer is given to a request"))
    if body.get("logprobs") is not None and body["logprobs"] is not False:
        raise _at("logprobs", RequestError("logprobs: there are none"))
    kind = body.get("response_format")
    if kind is not None and (not isinstance(kind, dict) or kind.get("type") != "text"):
        raise _at("response_format", RequestError("response_format: only text is given"))
    if body.get("tool_choice") not in (None, "none", "auto"):
        raise _at("tool_choice", RequestError("tool_choice: no tool is ever called here"))
    stream, options = body.get("stream"), body.get("stream_options")
    if not isinstance(stream, bool | None):
        raise _at("stream", RequestError("stream: true or false is expected"))
    if not isinstance(options, dict | None) or not isinstance((options or {}).get("include_usage"), bool | None):
        raise _at("stream_options", RequestError("stream_options: an object with include_usage is expected"))
    return Asked(_messages(body), bool(stream), bool((options or {}).get("include_usage")), _most(body))


def _messages(body: dict[str, Any]) -> list[dict[str, str]]:
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise _at("messages", RequestError("messages: a list of {role, content} is expected, the question last"))
    return [_message(message, i) for i, message in enumerate(messages)]


def _message(message: Any, at: int) -> dict[str, str]:
    where = f"messages[{at}]"
    if not isinstance(message, dict) or not isinstance(message.get("role"), str):
        raise _at(where, RequestError(f"{where}: an object with role and content is expected"))
    role, content = message["role"], message.get("content")
    if role not in ROLES:
        raise _at(where, RequestError(f"{where}: role must be one of {', '.join(ROLES)}"))
    if isinstance(content, list) and content:
        parts = [p.get("text") if isinstance(p, dict) and p.get("type") == "text" else None for p in content]
        if not all(isinstance(part, str) for part in parts):
            raise _at(where, RequestError(f"{where}: content may have parts of type text only"))
        content = "\n".join(str(part) for part in parts)
    if content is None and role in ("assistant", "tool", "function"):
        content = ""  # a turn that only called a tool
    if not isinstance(content, str):
        raise _at(where, RequestError(f"{where}: content must be text"))
    return {"role": "system" if role == "developer" else role, "content": content}


def _most(body: dict[str, Any]) -> int | None:
    found = {}
    for name in ("max_completion_tokens", "max_tokens"):
        if body.get(name) is not None:
            most = whole(body[name])
            if most is None or most < 1:
                raise _at(name, RequestError(f"{name}: a whole number of at least 1 is expected"))
            found[name] = most
    return found.get("max_completion_tokens", found.get("max_tokens"))


def _at(param: str, error: ModelyardError) -> ModelyardError:
    error.param = param  # type: ignore[attr-defined]
    return error


class Cut:
    """Lets `most` tokens through, then nothing."""

    def __init__(self, most: int | None) -> None:
        self._left = most
        self.reached = False

    def __call__(self, text: str) -> str:
        if self._left is None:
            return text
        if self.reached:
            return ""
        end = 0
        for match in _TOKEN.finditer(text):
            if self._left == 0:
                self.reached = True
                return text[:end].rstrip()
            self._left -= 1
            end = match.end()
        return text


class _Reply:
    """One reply's constants, and its two forms."""

    def __init__(self, passage: Passage, asked: Asked, exchange: Exchange) -> None:
        self.passage, self.asked, self.exchange = passage, asked, exchange
        self.cut = Cut(asked.most_tokens)
        self._endpoint = passage.endpoint.name
        self._id, self._created = f"chatcmpl-{passage.id}", int(passage.endpoint.clock.now().timestamp())

    def whole(self, response: dict[str, Any], said: str) -> dict[str, Any]:
        message = {"role": "assistant", "content": said, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": self.finish}
        return {
            **self._head("chat.completion"),
            "choices": [choice],
            "usage": self.usage(response),
            "modelyard": citing(response["output"], self.exchange.release),
        }

    def chunk(self, delta: dict[str, str], **more: Any) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}
        return {**self._head("chat.completion.chunk"), "choices": [choice], **more}

    def last_chunks(self, response: dict[str, Any]) -> list[dict[str, Any]]:
        more = {"modelyard": citing(response["output"], self.exchange.release)}
        last = self.chunk({}, **more)
        last["choices"][0]["finish_reason"] = self.finish
        if not self.asked.include_usage:
            return [last]
        return [last, {**self.chunk({}), "choices": [], "usage": self.usage(response), **more}]

    @property
    def finish(self) -> str:
        return "length" if self.cut.reached else "stop"

    def usage(self, response: dict[str, Any]) -> dict[str, int]:
        usage = response["usage"]
        before, after = int(usage.get("prompt_tokens", 0)), int(usage.get("completion_tokens", 0))
        if self.cut.reached and self.asked.most_tokens is not None:
            after = min(after, self.asked.most_tokens)
        return {"prompt_tokens": before, "completion_tokens": after, "total_tokens": before + after}

    def _head(self, kind: str) -> dict[str, Any]:
        fingerprint = f"fp_{short(self.exchange.release)}"
        return {
            "id": self._id,
            "object": kind,
            "created": self._created,
            "model": self._endpoint,
            "system_fingerprint": fingerprint,
        }


class EventStream:
    """The reply as server-sent events. It ends with [DONE] or with an error, never just so, and is on record, as the
    whole reply that it adds up to, before its last event leaves."""

    def __init__(self, reply: _Reply, first: Frame) -> None:
        self._reply, self._first = reply, first

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        passage = self._reply.passage
        headers = {
            "content-type": "text/event-stream; charset=utf-8",
            "cache-control": "no-store",
            "x-accel-buffering": "no",
            "x-request-id": passage.id,
            "modelyard-release": self._reply.exchange.release,
        }
        raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
        sending = InTime(send, passage.left)
        with self._reply.exchange, contextlib.closing(sending):
            try:
                passage.streams()
                await sending({"type": "http.response.start", "status": 200, "headers": raw})
                async for event in self._events():
                    data = f"data: {event}\n\n".encode()
                    await sending({"type": "http.response.body", "body": data, "more_body": True})
                await sending({"type": "http.response.body", "body": b"", "more_body": False})
            except Cancelled as error:
                with contextlib.suppress(ModelyardError):
                    await passage.finish(error.status, None, error, cut=True)

    async def _events(self) -> AsyncIterator[str]:
        try:
            async for event in self._answer():
                yield event
        except Cancelled:
            raise
        except ModelyardError as error:
            yield await self._failed(error)
        except Exception:  # noqa: BLE001 - the stream has begun: an error event is the only reply that is left
            log.exception("a stream failed in the gateway")
            yield await self._failed(ModelyardError("the gateway failed on this request; its log says why"))

    async def _answer(self) -> AsyncIterator[str]:
        reply, frame = self._reply, self._first
        yield _json(reply.chunk({"role": "assistant", "content": ""}))
        said = ""
        while "delta" in frame:
            if text := reply.cut(frame["delta"]):
                said += text
                yield _json(reply.chunk({"content": text}))
            frame = await reply.exchange.next()
        response = frame["response"]
        reply.passage.heard(reply.exchange, response)
        if not said and (text := reply.cut(response["text"])):
            said = text
            yield _json(reply.chunk({"content": text}))
        await reply.passage.finish(200, _json(reply.whole(response, said)).encode())
        for chunk in reply.last_chunks(response):
            yield _json(chunk)
        yield "[DONE]"

    async def _failed(self, error: ModelyardError) -> str:
        event = _json(openai_error(error))
        with contextlib.suppress(ModelyardError):  # its caller is told that it failed: that is true either way
            await self._reply.passage.finish(error.status, event.encode(), error, cut=True)
        return event


def _json(value: dict[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
