"""Any chat model behind an OpenAI-compatible route: OpenAI, Azure, Databricks, vLLM, TGI, Ollama.

Protocol: https://platform.openai.com/docs/api-reference/chat (POST .../chat/completions, server-sent events with
`stream`). Neither the URL nor a key or header ever stands in an error message.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import httpx

from modelyard.adapters.openai_refusal import LONGEST_WAIT, Again, pause, refusal
from modelyard.clock import Clock, SystemClock
from modelyard.errors import AdapterError, DeadlineExceeded, RefusedByPolicy, Unavailable
from modelyard.ports.chat import ChatChunk

_ROUTE = "/chat/completions"
_ENDPOINT = "the chat endpoint"


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
        client: httpx.Client | None = None,
    ) -> None:
        self.name = name
        self._url = _route(url)
        self._headers = dict(headers or {})
        if key and not {h.lower() for h in self._headers} & {"authorization", "api-key"}:
            self._headers["Authorization"] = f"Bearer {key}"
        self._timeout, self._retries = timeout, retries
        self._budget_tokens, self._budget_requests = budget_tokens, budget_requests
        self._tokens = self._requests = 0
        self._lock = threading.Lock()
        self._clock = clock or SystemClock()
        self._client = client or httpx.Client(follow_redirects=False)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

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
        left = until - self._clock.monotonic()
        if left <= 0:
            raise DeadlineExceeded(f"{self.name} took longer than its deadline allows")
        seen = _Usage(body)
        try:
            limits = httpx.Timeout(max(0.05, left), connect=min(10.0, max(0.05, left)))
            with self._client.stream("POST", self._url, json=body, headers=self._headers, timeout=limits) as response:
                if response.status_code != 200:
                    response.read()
                    raise refusal(self.name, _ENDPOINT, response)
                for chunk in _chunks(self.name, response):
                    if self._clock.monotonic() >= until:
                        raise DeadlineExceeded(f"{self.name} took longer than its deadline allows")
                    seen.add(chunk)
                    if chunk.finish is None:
                        yield chunk
                yield ChatChunk("", seen.finish or "stop", seen.counts())
        except httpx.TimeoutException:
            if self._clock.monotonic() >= until - 0.1:
                raise DeadlineExceeded(f"{self.name} took longer than its deadline allows") from None
            raise Again("no connection in time") from None
        except httpx.TransportError as error:
            raise Again(f"the connection failed ({type(error).__name__})") from None
        except httpx.InvalidURL:
            raise AdapterError(f"{self.name}: the configured URL is not one") from None
        finally:
            with self._lock:
                self._tokens += sum(seen.counts().values())


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


def _chunks(name: str, response: httpx.Response) -> Iterator[ChatChunk]:
    """The reply's pieces. A server that does not stream answers with one JSON object."""
    if "text/event-stream" not in response.headers.get("content-type", ""):
        response.read()
        yield from _whole(name, response)
        return
    ended = False
    for line in response.iter_lines():
        if not line.startswith("data:"):
            continue
        data = line[5:].strip()
        if data == "[DONE]":
            ended = True
            break
        event = _parse(name, data)
        if "error" in event:
            raise Again("the chat endpoint broke off with an error")
        chunk = _piece(event)
        ended = ended or chunk.finish is not None
        yield chunk
    if not ended:
        raise Again("the reply broke off")


def _whole(name: str, response: httpx.Response) -> Iterator[ChatChunk]:
    event = _parse(name, response.text)
    choices = event.get("choices") or [{}]
    text = (choices[0].get("message") or {}).get("content") or ""
    yield ChatChunk(str(text))
    yield ChatChunk("", choices[0].get("finish_reason") or "stop", _counts(event))


def _piece(event: Mapping[str, Any]) -> ChatChunk:
    choices = event.get("choices") or []
    if not choices:
        # The last event of a stream may hold nothing but what it cost.
        return ChatChunk("", None, _counts(event))
    text = (choices[0].get("delta") or {}).get("content") or ""
    finish = choices[0].get("finish_reason")
    if finish and text:
        return ChatChunk(str(text), None, _counts(event))
    return ChatChunk(str(text), finish, _counts(event))


def _counts(event: Mapping[str, Any]) -> Mapping[str, int] | None:
    usage = event.get("usage")
    if not isinstance(usage, Mapping):
        return None
    return {k: int(usage[k]) for k in ("prompt_tokens", "completion_tokens") if isinstance(usage.get(k), int)} or None


def _parse(name: str, data: str) -> dict[str, Any]:
    try:
        event = json.loads(data)
    except ValueError:
        raise AdapterError(f"{name}: the chat endpoint sent something that is not JSON") from None
    if not isinstance(event, dict):
        raise AdapterError(f"{name}: the chat endpoint sent something that is not an object")
    return event
