"""Any reranker behind a `/rerank` route: Cohere, Jina, Voyage, vLLM, Infinity, TEI.

Protocols: https://docs.cohere.com/reference/rerank (POST {model, query, documents}, an answer of {"results": [{"index",
"relevance_score"}]}) and https://huggingface.github.io/text-embeddings-inference (POST {query, texts}, an answer of
[{"index", "score"}]). Both are read, whichever was asked. Neither the URL nor a key or header ever stands in an error
message.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import httpx

from modelyard.adapters.openai_refusal import LONGEST_WAIT, Again, pause, refusal
from modelyard.clock import Clock, SystemClock
from modelyard.errors import AdapterError, Unavailable

_ENDPOINT = "the rerank endpoint"


class HttpReranker:
    """The model `name` at `url`: a base URL, to which /rerank is added, or the full URL of the route.

    protocol: "cohere" or "tei", how the question is put. key: sent as a bearer token, unless `headers` hold an
    authorization or api-key of their own. timeout: seconds for one request. retries: how often it is made again.
    max_characters: of a text; what is over is not sent.
    """

    def __init__(
        self,
        *,
        name: str,
        url: str,
        protocol: str = "cohere",
        key: str | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float = 10.0,
        retries: int = 1,
        max_characters: int = 4_000,
        clock: Clock | None = None,
        client: httpx.Client | None = None,
    ) -> None:
        self.name = name
        parsed = httpx.URL(url)
        path = parsed.path.rstrip("/")
        self._url = parsed if path.endswith("/rerank") else parsed.copy_with(path=f"{path}/rerank")
        self._protocol, self._longest = protocol, max_characters
        self._headers = dict(headers or {})
        if key and not {h.lower() for h in self._headers} & {"authorization", "api-key"}:
            self._headers["Authorization"] = f"Bearer {key}"
        self._timeout, self._retries = timeout, retries
        self._clock = clock or SystemClock()
        self._client = client or httpx.Client(follow_redirects=False)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def rerank(self, query: str, texts: Sequence[str]) -> list[float]:
        """See ports.reranker.Reranker."""
        if not texts:
            return []
        cut = [_sendable(text[: self._longest]) or " " for text in texts]
        body: dict[str, Any] = {"query": _sendable(query)}
        if self._protocol == "tei":
            body |= {"texts": cut, "truncate": True}
        else:
            body |= {"model": self.name, "documents": cut, "top_n": len(cut)}
        for attempt in range(self._retries + 1):
            try:
                return self._scores(self._once(body), len(cut))
            except Again as again:
                wait = pause(again, attempt)
                if attempt == self._retries or wait > LONGEST_WAIT:
                    raise Unavailable(f"{self.name}: {again}") from None
                self._clock.sleep(wait)
        raise AssertionError("not reached")

    def _once(self, body: Mapping[str, Any]) -> Any:
        try:
            response = self._client.post(self._url, json=body, headers=self._headers, timeout=self._timeout)
        except httpx.TimeoutException:
            raise Again(f"{_ENDPOINT} took more than {self._timeout:g} s") from None
        except httpx.HTTPError as error:
            raise Again(f"{_ENDPOINT} cannot be reached ({type(error).__name__})") from None
        if response.status_code != 200:
            raise refusal(self.name, _ENDPOINT, response) from None
        try:
            return response.json()
        except ValueError:
            raise AdapterError(f"{self.name}: {_ENDPOINT} does not answer in JSON") from None

    def _scores(self, answer: Any, count: int) -> list[float]:
        results: Any = answer.get("results", answer.get("data")) if isinstance(answer, dict) else answer
        scores: dict[int, float] = {}
        try:
            for each in results:
                given = each["relevance_score"] if "relevance_score" in each else each["score"]
                scores[int(each["index"])] = float(given)
        except (KeyError, TypeError, ValueError):
            raise AdapterError(f"{self.name}: {_ENDPOINT} answers with something other than scores") from None
        if sorted(scores) != list(range(count)) or not all(map(math.isfinite, scores.values())):
            raise AdapterError(f"{self.name}: {_ENDPOINT} scores {len(scores)} texts of {count}, or by no number")
        return [scores[at] for at in range(count)]


def _sendable(text: str) -> str:
    """A lone surrogate has no UTF-8 form."""
    return text.encode("utf-8", "replace").decode()
