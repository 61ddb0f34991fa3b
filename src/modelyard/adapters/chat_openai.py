"""Any chat model behind an OpenAI-compatible route: OpenAI, Azure, Databricks, vLLM, TGI, Ollama.

Protocol: https://platform.openai.com/docs/api-reference/chat (POST .../chat/completions, server-sent events with
`stream`). Neither the URL nor a key or header ever stands in an error message.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import orjson

from modelyard.adapters.http_post import Failed, Late, Post, Reply, Wrong
from modelyard.adapters.openai_refusal import LONGEST_WAIT, Again, pause, refused, retry_after
from modelyard.clock import Clock, SystemClock
from modelyard.errors import AdapterError, DeadlineExceeded, RefusedByPolicy, Unavailable
from modelyard.ports.chat import ChatChunk

_ROUTE = "/chat/completions"
_ENDPOINT = "the chat endpoint"
_SECRET = ("authorization", "api-key")
_LONG = 12
"""Characters of a header's value that make it too telling to be quoted, whatever the header is called."""


class OpenAIChat:
    """The model `name` at `url`: a base URL that ends in /v1, or the full URL of a chat completions route, its query
    (`?api-version=...`) included.

    key: sent as a bearer token, unless `headers` hold an authorization or api-key of their own (Azure). timeout:
    seconds for a whole reply, where the caller gives none. retries: how often a call is made again before any text has
    come; a reply that breaks off is never begun anew. budget_tokens, budget_requests: what this process may spend.
    """

    def __init__(
        self,
        *,
        name: str,
        url: str,
        key: str | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float = 60.0,
        retries: int = 2,
        budget_tokens: int | None = None,
        budget_requests: int | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.name = name
        sent = dict(headers or {})
        if key and not {h.lower() for h in sent} & {"authorization", "api-key"}:
            sent["Authorization"] = f"Bearer {key}"
        self._secrets = [value for name, value in sent.items() if name.lower() in _SECRET or len(value) >= _LONG]
        self._timeout, self._retries = timeout, retries
        self._budget_tokens, self._budget_requests = budget_tokens, budget_requests
        self._tokens = self._requests = 0
        self._lock = threading.Lock()
        self._clock = clock or SystemClock()
        self._post = Post(_route(url), sent, self._clock)

    def close(self) -> None:
        """Close the connections."""
        self._post.close()

    def stream(
        self, messages: Sequence[Mapping[str, str]], *, max_tokens: int, timeout: float | None
    ) -> Iterator[ChatChunk]:
        """See ports.chat.Chat. Also raises RequestError where the model refuses what it was sent (400, 413, 422)."""
        until = self._clock.monotonic() + (self._timeout if timeout is None else min(timeout, self._timeout))
        body = {
            "model": self.name,
            "messages": [dict(m) for m in messages],
            "max_tokens": max_tokens,
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        for attempt in range(self._retries + 1):
            self._spend(max_tokens)
            said = False
            try:
                for chunk in self._once(body, until):
                    said = said or bool(chunk.text)
                    yield chunk
                return
            except Again as again:
                wait = pause(again, attempt)
                left = until - self._clock.monotonic()
                if said or attempt == self._retries or wait > LONGEST_WAIT or wait >= left:
                    raise Unavailable(f"{self.name}: {again}") from None
                self._clock.sleep(wait)

    def _spend(self, tokens: int) -> None:
        with self._lock:
            if self._budget_requests is not None and self._requests >= self._budget_requests:
                raise RefusedByPolicy(f"{self.name}: the budget of {self._budget_requests:,} requests is spent")
            if self._budget_tokens is not None and self._tokens >= self._budget_tokens:
                raise RefusedByPolicy(f"{self.name}: the budget of {self._budget_tokens:,} tokens is spent")
            self._requests += 1

    def _once(self, body: Mapping[str, Any], until: float) -> Iterator[ChatChunk]:
        seen = _Usage(body)
        sent = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
        try:
            with self._post.send(sent, lambda: until - self._clock.monotonic()) as reply:
                if reply.status != 200:
                    raise self._refused(reply)
                for chunk in _chunks(self.name, reply):
                    if self._clock.monotonic() >= until:
                        raise Late
                    seen.add(chunk)
                    if chunk.finish is None:
                        yield chunk
            yield ChatChunk("", seen.finish or "stop", seen.counts())
        except Late:
            raise DeadlineExceeded(f"{self.name} took longer than its deadline allows") from None
        except Failed as error:
            raise Again(str(error)) from None
        except Wrong as error:
            raise AdapterError(f"{self.name}: {_ENDPOINT} cannot be used: {error}") from None
        finally:
            with self._lock:
                self._tokens += sum(seen.counts().values())

    def _refused(self, reply: Reply) -> Exception:
        after, date = (reply.headers.get(name, b"").decode("latin-1") for name in (b"retry-after", b"date"))
        try:
            body = reply.read()
        except Failed:
            body = b""
        return refused(self.name, _ENDPOINT, reply.status, body, retry_after(after, date), self._secrets)


class _Usage:
    """What a reply cost: as the server says, else about a token for four characters."""

    def __init__(self, body: Mapping[str, Any]) -> None:
        self._sent = sum(len(m["content"]) for m in body["messages"])
        self._got = 0
        self._said: Mapping[str, int] | None = None
        self.finish: str | None = None

    def add(self, chunk: ChatChunk) -> None:
        self._got += len(chunk.text)
        self._said = chunk.usage or self._said
        self.finish = chunk.finish or self.finish

    def counts(self) -> dict[str, int]:
        if self._said:
            return dict(self._said)
        return {"prompt_tokens": -(-self._sent // 4), "completion_tokens": -(-self._got // 4)} if self._got else {}


def _route(url: str) -> str:
    path, mark, query = url.partition("?")
    path = path.rstrip("/")
    if not path.endswith(("/completions", "/invocations")):
        path += _ROUTE
    return path + mark + query


def _chunks(name: str, reply: Reply) -> Iterator[ChatChunk]:
    """The reply's pieces. A server that does not stream answers with one JSON object."""
    if b"text/event-stream" not in reply.headers.get(b"content-type", b"").lower():
        yield from _whole(name, reply)
        return
    ended = False
    for line in reply.lines():
        if not line.startswith(b"data:"):
            continue
        data = line[5:].strip()
        if data == b"[DONE]":
            reply.enough()
            return
        event = _parse(name, data)
        _no_error(event)
        choice = _choice(name, event)
        text = _text(name, choice, "delta") if choice else ""
        # The last event of a stream may hold nothing but what it cost.
        finish = (choice.get("finish_reason") if choice else None) or None
        if text or not finish:
            yield ChatChunk(text, None, _counts(event))
        if finish:
            ended = True
            yield ChatChunk("", str(finish), _counts(event))
    if not ended:
        raise Again("the reply broke off")


def _whole(name: str, reply: Reply) -> Iterator[ChatChunk]:
    event = _parse(name, reply.read())
    _no_error(event)
    choice = _choice(name, event)
    if choice is None:
        raise AdapterError(f"{name}: the chat endpoint sent no choice")
    yield ChatChunk(_text(name, choice, "message"))
    yield ChatChunk("", choice.get("finish_reason") or "stop", _counts(event))


def _no_error(event: Mapping[str, Any]) -> None:
    if event.get("error") is not None:
        raise Again("the chat endpoint broke off with an error")


def _choice(name: str, event: Mapping[str, Any]) -> Mapping[str, Any] | None:
    choices = event.get("choices")
    if not choices:
        return None
    if not isinstance(choices, list) or not isinstance(choices[0], dict):
        raise AdapterError(f"{name}: the chat endpoint sent a choice that is none")
    choice: dict[str, Any] = choices[0]
    return choice


def _text(name: str, choice: Mapping[str, Any], place: str) -> str:
    said = choice.get(place) or {}
    if not isinstance(said, dict):
        raise AdapterError(f"{name}: the chat endpoint sent a {place} that is none")
    return str(said.get("content") or "")


def _counts(event: Mapping[str, Any]) -> Mapping[str, int] | None:
    usage = event.get("usage")
    if not isinstance(usage, Mapping):
        return None
    return {k: int(usage[k]) for k in ("prompt_tokens", "completion_tokens") if isinstance(usage.get(k), int)} or None


def _parse(name: str, data: bytes) -> dict[str, Any]:
    try:
        event = orjson.loads(data)
    except ValueError:
        # The standard library also reads half a surrogate pair, which models that speak in bytes send, and NaN.
        try:
            event = json.loads(data.decode("utf-8", "replace"))
        except (ValueError, RecursionError):
            raise AdapterError(f"{name}: the chat endpoint sent something that is not JSON") from None
    if not isinstance(event, dict):
        raise AdapterError(f"{name}: the chat endpoint sent something that is not an object")
    return event
