"""A local server that speaks the embeddings protocol: vectors of the hashing embedder, not of unit length."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np

from modelyard.adapters.embed_hash import HashEmbedder

DIMENSION = 256
_HASH = HashEmbedder(DIMENSION)
Script = Callable[["Handler", dict[str, Any]], None]


def rows(texts: Sequence[str]) -> np.ndarray:
    return (_HASH.embed(texts) * 3.0).astype(np.float32)


def openai(body: dict[str, Any]) -> dict[str, Any]:
    """The reply of api.openai.com, as its reference shows it; backwards, since `index` is what counts."""
    vectors = rows(body["input"])
    if body.get("encoding_format") == "base64":
        shown: list[Any] = [base64.b64encode(v.astype("<f4").tobytes()).decode() for v in vectors]
    else:
        shown = [v.tolist() for v in vectors]
    data = [{"object": "embedding", "index": i, "embedding": v} for i, v in enumerate(shown)]
    usage = {"prompt_tokens": 1, "total_tokens": 1}
    return {"object": "list", "data": data[::-1], "model": body.get("model"), "usage": usage}


def normal(handler: Handler, body: dict[str, Any]) -> None:
    handler.json(200, openai(body))


class Handler(BaseHTTPRequestHandler):
    """Plays the server's scripts in order, the last one for ever, and keeps what it was asked."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        server: Any = self.server
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with server.lock:
            server.asked.append((self.path, dict(self.headers), body))
            script = server.scripts[min(len(server.asked), len(server.scripts)) - 1]
        script(self, body)

    def log_message(self, *_: Any) -> None:
        pass

    def json(self, status: int, value: Any, **headers: str) -> None:
        data = json.dumps(value).encode() if not isinstance(value, bytes) else value
        self.send_response(status)
        for name, text in {"Content-Type": "application/json", "Content-Length": str(len(data)), **headers}.items():
            self.send_header(name.replace("_", "-"), text)
        self.end_headers()
        self.wfile.write(data)


class Stub:
    """The server. `asked`: (path, headers, body) of each request."""

    def __init__(self, *scripts: Script, port: int = 0) -> None:
        self._server: Any = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads, self._server.lock = True, threading.Lock()
        self._server.asked, self._server.scripts = [], list(scripts) or [normal]
        self.port: int = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/v1"
        self.asked: list[tuple[str, dict[str, str], dict[str, Any]]] = self._server.asked
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def plays(self, *scripts: Script) -> None:
        self._server.asked.clear()
        self._server.scripts = list(scripts) or [normal]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
