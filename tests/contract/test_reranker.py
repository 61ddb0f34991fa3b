"""What every reranker promises, on a real HTTP server that speaks both protocols; and what `search` makes of one."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from tests.chatbot.shelf import bot

from modelyard.adapters.rerank_http import HttpReranker
from modelyard.clock import FakeClock
from modelyard.errors import AdapterError, ModelyardError, RequestError, Unauthorized, Unavailable
from modelyard.ports.reranker import Reranker
from modelyard.workloads.chatbot.chain import Chatbot

KEY = "rk-very-secret"
TEXTS = ["the sea", "a tall tower by the sea", "tower"]
Script = Callable[[Mapping[str, Any]], tuple[int, Any]]


class Handler(BaseHTTPRequestHandler):
    """Plays the server's scripts in order, the last one for ever, and keeps what it was asked."""

    def do_POST(self) -> None:
        server: Any = self.server
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server.asked.append((self.path, dict(self.headers), body))
        status, value = server.scripts[min(len(server.asked), len(server.scripts)) - 1](body)
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        pass


def by_words(body: Mapping[str, Any]) -> tuple[int, Any]:
    """Scores by the words in common, best first, as both kinds of server answer."""
    texts = body.get("texts") or body["documents"]
    asked = set(body["query"].split())
    scores = sorted(((len(asked & set(text.split())), at) for at, text in enumerate(texts)), reverse=True)
    if "texts" in body:
        return 200, [{"index": at, "score": score} for score, at in scores]
    return 200, {"results": [{"index": at, "relevance_score": score} for score, at in scores]}


def replies(status: int, value: Any) -> Script:
    return lambda body: (status, value)


@pytest.fixture
def serve() -> Iterator[Callable[..., Any]]:
    servers: list[ThreadingHTTPServer] = []

    def start(*scripts: Script) -> Any:
        server: Any = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.scripts, server.asked = scripts, []
        server.url = f"http://127.0.0.1:{server.server_port}/v1"
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def reranker(server: Any, **options: Any) -> HttpReranker:
    return HttpReranker(**{"name": "m", "url": server.url, "key": KEY, "clock": FakeClock(), **options})


@pytest.mark.parametrize("protocol", ["cohere", "tei"])
def test_scores_come_in_the_order_of_the_texts(serve: Callable[..., Any], protocol: str) -> None:
    server = serve(by_words)
    model: Reranker = reranker(server, protocol=protocol)
    assert model.rerank("tall tower", TEXTS) == [0.0, 2.0, 1.0]
    path, headers, body = server.asked[0]
    assert path == "/v1/rerank" and headers["Authorization"] == f"Bearer {KEY}"
    assert body.get("model") == (None if protocol == "tei" else "m")


def test_no_texts_need_no_call(serve: Callable[..., Any]) -> None:
    server = serve(by_words)
    assert reranker(server).rerank("tall", []) == [] and not server.asked


def test_texts_are_cut_and_made_sendable(serve: Callable[..., Any]) -> None:
    server = serve(by_words)
    assert len(reranker(server, max_characters=5).rerank("\ud800 tall", ["", "\ud800", "tower of stone"])) == 3
    assert server.asked[0][2]["documents"] == [" ", "?", "tower"]


@pytest.mark.parametrize(
    ("scripts", "error"),
    [
        ([replies(401, {})], Unauthorized),
        ([replies(422, {"error": "too long"})], RequestError),
        ([replies(404, {})], AdapterError),
        ([replies(503, {})], Unavailable),
        ([replies(200, b"<html>")], AdapterError),
        ([replies(200, None)], AdapterError),
        ([replies(200, {"results": "none"})], AdapterError),
        ([replies(200, {"results": [{"index": 0, "relevance_score": 1}]})], AdapterError),
        ([replies(200, [{"index": at, "score": float("nan")} for at in range(3)])], AdapterError),
        ([replies(200, [{"index": 0, "score": 1}] * 3)], AdapterError),
    ],
)
def test_what_goes_wrong_is_told_without_secrets(
    serve: Callable[..., Any], scripts: Sequence[Script], error: type[ModelyardError]
) -> None:
    server = serve(*scripts)
    with pytest.raises(error) as told:
        reranker(server).rerank("tall", TEXTS)
    assert KEY not in str(told.value) and server.url not in str(told.value)


def test_what_passes_is_asked_again(serve: Callable[..., Any]) -> None:
    server = serve(replies(503, {}), by_words)
    assert reranker(server).rerank("tall", TEXTS) == [0.0, 1.0, 0.0] and len(server.asked) == 2


def test_search_puts_pages_in_its_order_and_says_so(serve: Callable[..., Any], tmp_path: Path) -> None:
    plain = bot(tmp_path)
    # Later pages are better to this one, whatever stands there.
    server = serve(
        lambda body: (200, [{"index": at, "score": at + len(body["texts"])} for at in range(len(body["texts"]))])
    )
    turned = Chatbot(plain._searcher, plain._embedder, None, {}, "", reranker=reranker(server, protocol="tei"))
    before, after = plain.search("boats for hire", 4), turned.search("boats for hire", 4)
    assert after[0]["document"] == before[-1]["document"] and after[0]["why"]["parts"]["rerank"] == 1
    assert all(hit["score"] == pytest.approx(sum(hit["why"]["parts"].values()), abs=1e-5) for hit in after)
    assert server.asked[0][2]["query"] == "boats for hire"
