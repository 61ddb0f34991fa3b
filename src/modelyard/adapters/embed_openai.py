"""Any embedding model behind an OpenAI-compatible route: OpenAI, Azure, Databricks, vLLM, TEI, Ollama.

Protocol: https://platform.openai.com/docs/api-reference/embeddings (POST .../embeddings), with vectors as numbers or as
base64 of little-endian float32. What Databricks (.../invocations), TEI (.../embed) and Ollama (.../api/embed) speak
beside it is spoken too. Neither the URL nor a key or header ever stands in an error message.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray

from modelyard import ids
from modelyard.adapters.openai_refusal import LONGEST_WAIT, Again, pause, refusal
from modelyard.clock import Clock, SystemClock
from modelyard.errors import AdapterError, Cancelled, RequestError, Unavailable

_ENDPOINT = "the embeddings endpoint"
_ROUTES = ("/embeddings", "/embed", "/invocations")
_WORDS = re.compile(r"\w+|[^\w\s]")
_UNSENDABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
_TOO_MUCH = re.compile(r"token|length|long|context|batch|too (?:many|large|big)|at most|maximum", re.I)
_BATCH_CHARACTERS = 200_000
_SHORTEST = 200
"""Characters. A text that the endpoint refuses for its length is halved, and not below this."""


class OpenAIEmbedder:
    """The model `name` at `url`: a base URL that ends in /v1, or the full URL of a route, its query included.

    dimension: length of its vectors; another one is an error. shorten: ask the model for vectors of that length (models
    that can). max_characters: what is over is cut before it is sent; a text that the endpoint still finds too long is
    halved until it does not. batch: texts a request. parallel: requests at a time. key: sent as a bearer token, unless
    `headers` hold an authorization or api-key of their own (Azure). timeout: seconds for one request. retries: how
    often a request is made again.

    What the port promises of vectors is as true as the endpoint makes it: one that rounds otherwise from day to day, or
    puts another model behind the name, is not noticed as long as the dimension stays.
    """

    def __init__(
        self,
        *,
        name: str,
        url: str,
        dimension: int,
        key: str | None = None,
        headers: Mapping[str, str] | None = None,
        shorten: bool = False,
        encoding: str = "float",
        max_characters: int = 24_000,
        batch: int = 64,
        parallel: int = 4,
        timeout: float = 60.0,
        retries: int = 5,
        clock: Clock | None = None,
        client: httpx.Client | None = None,
    ) -> None:
        self.name, self.dimension = name, dimension
        self.digest = identity(name, dimension, shorten, max_characters)
        self._url, self._shorten, self._encoding = _route(url), shorten, encoding
        self._headers = dict(headers or {})
        if key and not {h.lower() for h in self._headers} & {"authorization", "api-key"}:
            self._headers["Authorization"] = f"Bearer {key}"
        self._most, self._batch, self._parallel = max_characters, batch, parallel
        self._timeout, self._retries = timeout, retries
        self._clock = clock or SystemClock()
        self._client = client or httpx.Client(follow_redirects=False)

    def embed(self, texts: Sequence[str], *, progress: Callable[[int], None] | None = None) -> NDArray[np.float32]:
        """See the port. Raises Unavailable where the endpoint does not answer, Unauthorized, RequestError for what it
        refuses, AdapterError for vectors that are none, or of another dimension."""
        out = np.empty((len(texts), self.dimension), np.float32)
        ready = [self._sendable(text) for text in texts]
        batches, ended = list(self._batches(ready)), Event()
        if len(batches) == 1:
            # A question's few texts: no threads for these.
            out[:] = self._rows(ready, ended)
            if progress:
                progress(len(ready))
            return out
        with ThreadPoolExecutor(self._parallel, thread_name_prefix="embed") as pool:
            work = [pool.submit(self._rows, ready[rows], ended) for rows in batches]
            try:
                for rows, one in zip(batches, work, strict=True):
                    out[rows] = one.result()
                    if progress:
                        progress(rows.stop)
            except BaseException:
                ended.set()
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        return out

    def members(self) -> Mapping[str, Path]:
        """None: the model is elsewhere."""
        return {}

    def count_tokens(self, text: str) -> int:
        """About as many as most tokenizers make: words and signs, or a quarter of the characters."""
        return max(len(_WORDS.findall(text)), -(-len(text) // 4))

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _sendable(self, text: str) -> str:
        # No endpoint takes half a surrogate pair, and OpenAI's takes no empty text.
        return _UNSENDABLE.sub(" ", text[: self._most]).strip() or "."

    def _batches(self, texts: Sequence[str]) -> Iterator[slice]:
        start = characters = 0
        for at, text in enumerate(texts):
            if at > start and (at - start == self._batch or characters + len(text) > _BATCH_CHARACTERS):
                yield slice(start, at)
                start, characters = at, 0
            characters += len(text)
        if start < len(texts):
            yield slice(start, len(texts))

    def _rows(self, texts: Sequence[str], ended: Event) -> NDArray[np.float32]:
        """Unit vectors of one batch, which is cut in two, or its one text shortened, where it is too much."""
        try:
            return self._units(self._asked(texts, ended), len(texts))
        except RequestError as error:
            if not _TOO_MUCH.search(str(error).partition(": ")[2]):
                raise
            if len(texts) > 1:
                half = len(texts) // 2
                return np.concatenate([self._rows(texts[:half], ended), self._rows(texts[half:], ended)])
            if len(texts[0]) <= _SHORTEST:
                raise
            return self._rows([texts[0][: len(texts[0]) // 2]], ended)

    def _asked(self, texts: Sequence[str], ended: Event) -> Any:
        """The reply to one request, made again while it may help and the call has not `ended`."""
        for attempt in range(self._retries + 1):
            try:
                return self._once(texts)
            except Again as again:
                wait = pause(again, attempt, LONGEST_WAIT)
                if attempt == self._retries or wait > LONGEST_WAIT:
                    raise Unavailable(
                        f"{self.name}: {again}; nothing that is done is lost: once it answers, do the same again"
                    ) from None
                while wait > 0 and not ended.is_set():
                    self._clock.sleep(min(wait, 0.5))
                    wait -= 0.5
                if ended.is_set():
                    raise Cancelled(f"{self.name}: interrupted") from None
        raise AssertionError("the last attempt returns or raises")

    def _once(self, texts: Sequence[str]) -> Any:
        try:
            response = self._client.post(
                self._url, json=self._body(texts), headers=self._headers, timeout=httpx.Timeout(self._timeout)
            )
        except httpx.TimeoutException:
            raise Again(f"{_ENDPOINT} did not answer within {self._timeout:g} s") from None
        except httpx.TransportError as error:
            raise Again(f"{_ENDPOINT} cannot be reached ({type(error).__name__})") from None
        except httpx.InvalidURL:
            raise AdapterError(f"{self.name}: the configured URL is not one") from None
        if response.status_code != 200:
            raise refusal(self.name, _ENDPOINT, response)
        try:
            return response.json()
        except ValueError:
            raise AdapterError(f"{self.name}: {_ENDPOINT} sent something that is not JSON") from None

    def _body(self, texts: Sequence[str]) -> dict[str, Any]:
        path = self._url.partition("?")[0]
        if path.endswith("/embed") and not path.endswith("/api/embed"):
            return {"inputs": list(texts), "truncate": True}
        body: dict[str, Any] = {"input": list(texts)}
        if not path.endswith("/invocations"):  # there the endpoint is the model
            body["model"] = self.name
        if self._shorten:
            body["dimensions"] = self.dimension
        if self._encoding != "float":
            body["encoding_format"] = self._encoding
        return body

    def _units(self, reply: Any, count: int) -> NDArray[np.float32]:
        found = _vectors(reply)
        if found is None or len(found) != count:
            some = "no vectors" if found is None else f"{len(found)} vectors for {count} texts"
            raise AdapterError(f"{self.name}: {_ENDPOINT} sent {some}")
        rows = [self._decoded(one) for one in found]
        wrong = next((len(row) for row in rows if len(row) != self.dimension), None)
        if wrong is not None:
            raise AdapterError(
                f"{self.name}: {_ENDPOINT} makes vectors of {wrong:,} numbers, and chatbot.embedder.dimension says "
                f"{self.dimension:,}: correct the one that is wrong"
            )
        wide = np.stack(rows)
        lengths = np.sqrt((wide * wide).sum(axis=1))
        if not np.isfinite(lengths).all() or not lengths.all():
            raise AdapterError(f"{self.name}: {_ENDPOINT} sent a vector of zeros, or of what is no number")
        units: NDArray[np.float32] = (wide / lengths[:, None]).astype(np.float32)
        return units

    def _decoded(self, one: Any) -> NDArray[np.float64]:
        try:
            if isinstance(one, str):
                return np.frombuffer(base64.b64decode(one, validate=True), "<f4").astype(np.float64)
            row = np.asarray(one, np.float64)
        except (ValueError, TypeError):
            row = np.empty((0, 0))
        if row.ndim != 1:
            raise AdapterError(f"{self.name}: {_ENDPOINT} sent a vector that is none")
        return row


def identity(name: str, dimension: int, shorten: bool, max_characters: int) -> str:
    """What of a remote model changes vectors, as far as can be known from here. Where it is served is not among it."""
    return ids.digest(
        {
            "kind": "openai",
            "model": name,
            "dimension": dimension,
            "shorten": shorten,
            "max_characters": max_characters,
        }
    )


def _route(url: str) -> str:
    path, mark, query = url.partition("?")
    path = path.rstrip("/")
    return (path if path.endswith(_ROUTES) else f"{path}/embeddings") + mark + query


def _vectors(reply: Any) -> list[Any] | None:
    """The vectors of a reply in the order of the texts: OpenAI's `data`, Ollama's `embeddings`, MLflow's `predictions`,
    TEI's bare list."""
    if isinstance(reply, dict):
        data = reply.get("data")
        if not isinstance(data, list):
            reply = reply.get("embeddings", reply.get("predictions"))
            return reply if isinstance(reply, list) else None
        if not all(isinstance(one, dict) and "embedding" in one for one in data):
            return None
        places = [one.get("index", at) for at, one in enumerate(data)]
        if sorted(p for p in places if isinstance(p, int)) != list(range(len(data))):
            return None
        return [one["embedding"] for _, one in sorted(zip(places, data, strict=True), key=lambda pair: pair[0])]
    return reply if isinstance(reply, list) else None
