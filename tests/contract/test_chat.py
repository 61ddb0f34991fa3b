"""What every chat model promises, on the scripted double and on a real HTTP server that speaks the protocol."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from modelyard.adapters.chat_openai import OpenAIChat
from modelyard.adapters.chat_scripted import ScriptedChat
from modelyard.clock import FakeClock
from modelyard.errors import (
    AdapterError,
    DeadlineExceeded,
    ModelyardError,
    RefusedByPolicy,
    RequestError,
    Unauthorized,
    Unavailable,
)
from modelyard.ports.chat import Chat, ChatChunk

KEY = "sk-very-secret"
ASK = [{"role": "user", "content": "How high is it?"}]
Script = Callable[["Handler"], None]


class Handler(BaseHTTPRequestHandler):
    """Plays the server's scripts in order, the last one for ever, and keeps what it was asked."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        server: Any = self.server
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server.asked.append((self.path, dict(self.headers), body))
        script = server.scripts[min(len(server.asked), len(server.scripts)) - 1]
        try:
            script(self)
        except (BrokenPipeError, ConnectionResetError):
            server.left.set()

    def log_message(self, *_: Any) -> None:
        pass

    def json(self, status: int, value: Any, **headers: str) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        for name, text in {"Content-Type": "application/json", "Content-Length": str(len(data)), **headers}.items():
            self.send_header(name.replace("_", "-"), text)
        self.end_headers()
        self.wfile.write(data)

    def begin(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True

    def event(self, value: Any) -> None:
        self.wfile.write(f"data: {value if isinstance(value, str) else json.dumps(value)}\n\n".encode())
        self.wfile.flush()

    def piece(self, text: str, finish: str | None = None) -> None:
        self.event({"choices": [{"delta": {"content": text}, "finish_reason": finish}]})


def says(text: str) -> Script:
    def script(handler: Handler) -> None:
        handler.begin()
        for word in text.split(" "):
            handler.piece(word + " ")
        handler.piece("", "stop")
        handler.event({"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 3}})
        handler.event("[DONE]")

    return script


def fails(status: int, message: str = "no", **headers: str) -> Script:
    return lambda handler: handler.json(status, {"error": {"message": message}}, **headers)


def breaks_off(handler: Handler) -> None:
    handler.begin()
    handler.piece("It is ")


def whole(handler: Handler) -> None:
    message = {"message": {"content": "It is high."}, "finish_reason": "stop"}
    handler.json(200, {"choices": [message], "usage": {"prompt_tokens": 1, "completion_tokens": 2}})


@pytest.fixture
def serve() -> Iterator[Callable[..., Any]]:
    servers: list[ThreadingHTTPServer] = []

    def start(*scripts: Script) -> Any:
        server: Any = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.scripts, server.asked, server.left = scripts, [], threading.Event()
        server.url = f"http://127.0.0.1:{server.server_port}/v1"
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def chat(server: Any, **options: Any) -> OpenAIChat:
    return OpenAIChat(**{"name": "m", "url": server.url, "key": KEY, "clock": FakeClock(), **options})


def read(model: Chat, timeout: float | None = None, max_tokens: int = 50) -> list[ChatChunk]:
    return list(model.stream(ASK, max_tokens=max_tokens, timeout=timeout))


@pytest.fixture(params=["scripted", "openai"])
def model(request: pytest.FixtureRequest, serve: Callable[..., Any]) -> Chat:
    if request.param == "scripted":
        return ScriptedChat("It is 12 metres high.")
    return chat(serve(says("It is 12 metres high.")))


def test_the_reply_arrives_in_pieces_and_ends_with_what_it_cost(model: Chat) -> None:
    chunks = read(model)
    assert "".join(c.text for c in chunks).strip() == "It is 12 metres high."
    assert len(chunks) > 2
    assert [c.finish for c in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert chunks[-1].finish == "stop"
    assert chunks[-1].usage is not None and set(chunks[-1].usage) == {"prompt_tokens", "completion_tokens"}


def test_what_was_sent_is_not_changed(model: Chat) -> None:
    sent = [dict(m) for m in ASK]
    list(model.stream(sent, max_tokens=5, timeout=None))
    assert sent == ASK


def test_a_reply_can_be_left_and_the_next_one_is_whole(model: Chat) -> None:
    stream = model.stream(ASK, max_tokens=50, timeout=None)
    next(iter(stream))
    stream.close()  # type: ignore[attr-defined]
    assert "".join(c.text for c in read(model)).strip() == "It is 12 metres high."


def test_the_scripted_model_plays_its_replies_in_order() -> None:
    model = ScriptedChat("one", lambda messages: messages[-1]["content"])
    assert ["".join(c.text for c in read(model)) for _ in range(3)] == ["one", ASK[0]["content"], ASK[0]["content"]]
    assert model.asked == [ASK] * 3


def test_the_scripted_model_keeps_its_time_and_its_length() -> None:
    with pytest.raises(DeadlineExceeded):
        read(ScriptedChat("slow words here", pause=1.0, clock=FakeClock()), timeout=0.5)
    assert read(ScriptedChat("one two three"), max_tokens=2)[-1].finish == "length"


def test_what_goes_over_the_wire(serve: Callable[..., Any]) -> None:
    server = serve(says("yes"))
    read(chat(server), max_tokens=9)
    path, headers, body = server.asked[0]
    assert path == "/v1/chat/completions"
    assert headers["Authorization"] == f"Bearer {KEY}"
    assert body["model"] == "m" and body["messages"] == ASK and body["max_tokens"] == 9 and body["stream"] is True


def test_azure_is_a_full_url_and_a_header(serve: Callable[..., Any]) -> None:
    server = serve(says("yes"))
    url = server.url.replace("/v1", "/openai/deployments/d/chat/completions?api-version=2024-10-21")
    read(chat(server, url=url, headers={"api-key": KEY}))
    path, headers, _ = server.asked[0]
    assert path == "/openai/deployments/d/chat/completions?api-version=2024-10-21"
    assert headers["api-key"] == KEY and "Authorization" not in headers


def test_a_server_that_does_not_stream_is_read_all_the_same(serve: Callable[..., Any]) -> None:
    chunks = read(chat(serve(whole)))
    assert [c.text for c in chunks] == ["It is high.", ""]
    assert chunks[-1].usage == {"prompt_tokens": 1, "completion_tokens": 2}


def test_a_busy_server_is_asked_again_when_it_says(serve: Callable[..., Any]) -> None:
    server, clock = serve(fails(429, Retry_After="3"), says("yes")), FakeClock()
    assert "".join(c.text for c in read(chat(server, clock=clock))).strip() == "yes"
    assert clock.monotonic() == 3.0
    assert len(server.asked) == 2


def test_a_server_that_stays_down_is_unavailable_after_the_retries(serve: Callable[..., Any]) -> None:
    server = serve(fails(503))
    with pytest.raises(Unavailable, match="503"):
        read(chat(server, retries=2))
    assert len(server.asked) == 3


@pytest.mark.parametrize("status", [200, 500])
def test_an_error_in_place_of_a_reply_may_pass(serve: Callable[..., Any], status: int) -> None:
    server = serve(fails(status, "overloaded"), says("yes"))
    assert "".join(c.text for c in read(chat(server))).strip() == "yes"
    assert len(server.asked) == 2


def test_a_wait_longer_than_the_deadline_is_not_waited_for(serve: Callable[..., Any]) -> None:
    clock = FakeClock()
    with pytest.raises(Unavailable):
        read(chat(serve(fails(429, Retry_After="20")), clock=clock), timeout=5)
    assert clock.monotonic() == 0.0


def test_a_reply_that_breaks_off_is_never_begun_anew(serve: Callable[..., Any]) -> None:
    server = serve(breaks_off, says("It is 12 metres high."))
    got: list[str] = []
    with pytest.raises(Unavailable, match="broke off"):
        for chunk in chat(server).stream(ASK, max_tokens=50, timeout=None):
            got.append(chunk.text)
    assert got == ["It is "]
    assert len(server.asked) == 1


def test_what_ends_a_reply_is_kept_beside_its_last_text(serve: Callable[..., Any]) -> None:
    def cut(handler: Handler) -> None:
        handler.begin()
        handler.piece("It is ", "")  # some servers say "" for none
        handler.piece("hi", "length")

    chunks = read(chat(serve(cut)))
    assert [(c.text, c.finish) for c in chunks] == [("It is ", None), ("hi", None), ("", "length")]


def test_half_a_character_and_a_byte_that_is_none_are_read_all_the_same(serve: Callable[..., Any]) -> None:
    def odd(handler: Handler) -> None:
        handler.begin()
        handler.event(r'{"choices": [{"delta": {"content": "\ud83d"}}]}')
        handler.wfile.write(
            b'data:{"error": null, "choices": [{"delta": {"content": "\xff!"}}]}\r\n\r\n: a comment\r\n'
        )
        handler.event("[DONE]")

    assert "".join(c.text for c in read(chat(serve(odd)))) == "\ud83d\ufffd!"


def test_half_a_character_can_be_asked(serve: Callable[..., Any]) -> None:
    server = serve(says("yes"))
    list(chat(server).stream([{"role": "user", "content": "so \ud83d h\u00f6her?"}], max_tokens=5, timeout=None))
    assert server.asked[0][2]["messages"][0]["content"] == "so ? h\u00f6her?"


def test_signs_of_life_do_not_move_the_deadline(serve: Callable[..., Any]) -> None:
    def alive(handler: Handler) -> None:
        handler.begin()
        while True:
            handler.wfile.write(b": still thinking\n\n")
            time.sleep(0.02)

    server = serve(alive)
    with pytest.raises(DeadlineExceeded):
        list(OpenAIChat(name="m", url=server.url, retries=0).stream(ASK, max_tokens=5, timeout=0.3))
    assert server.left.wait(5)


def test_leaving_a_reply_ends_the_work_on_it(serve: Callable[..., Any]) -> None:
    def endless(handler: Handler) -> None:
        handler.begin()
        while True:
            handler.piece("on ")
            time.sleep(0.01)

    server = serve(endless)
    stream: Any = chat(server).stream(ASK, max_tokens=50, timeout=None)
    assert next(stream).text == "on "
    stream.close()
    assert server.left.wait(5)


def test_a_slow_server_meets_the_deadline(serve: Callable[..., Any]) -> None:
    hold = threading.Event()

    def slow(handler: Handler) -> None:
        handler.begin()
        handler.piece("It ")
        hold.wait(10)

    with pytest.raises(DeadlineExceeded):
        list(OpenAIChat(name="m", url=serve(slow).url, retries=0).stream(ASK, max_tokens=5, timeout=0.3))
    hold.set()


def test_nobody_there_is_unavailable() -> None:
    with pytest.raises(Unavailable):
        read(OpenAIChat(name="m", url="http://127.0.0.1:9/v1", clock=FakeClock(), key=KEY))


def test_no_configured_header_is_quoted(serve: Callable[..., Any]) -> None:
    server = serve(lambda h: h.json(422, {"error": {"message": f"what is {h.headers['X-Gate']}?"}}))
    with pytest.raises(RequestError, match=r"what is \*\*\*\?") as caught:
        read(chat(server, headers={"x-gate": "gate-secret-of-ours"}))
    assert "gate-secret" not in str(caught.value)


def test_a_url_or_header_that_cannot_be_sent_is_one_line() -> None:
    for wrong in ({"url": "models.example/v1"}, {"key": f"{KEY}\nx"}):
        with pytest.raises(AdapterError, match="cannot be used") as caught:
            read(OpenAIChat(**{"name": "m", "url": "http://127.0.0.1:9/v1", "key": KEY, **wrong}))
        assert KEY not in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("script", "error"),
    [
        (fails(401), Unauthorized),
        (fails(403), Unauthorized),
        (fails(400, f"the key {KEY} is too long a prompt"), RequestError),
        (fails(404), AdapterError),
        (fails(302, Location="http://127.0.0.1/elsewhere"), AdapterError),
        (lambda h: (h.begin(), h.event("nonsense")), AdapterError),
        (lambda h: (h.begin(), h.event("[" * 100_000)), AdapterError),
        (lambda h: (h.begin(), h.event(["not", "an", "object"])), AdapterError),
        (lambda h: (h.begin(), h.event({"choices": {"text": "yes"}})), AdapterError),
        (lambda h: (h.begin(), h.event({"choices": ["yes"]})), AdapterError),
        (lambda h: (h.begin(), h.event({"choices": [{"delta": "yes"}]})), AdapterError),
        (lambda h: h.json(200, ["not", "an", "object"]), AdapterError),
        (lambda h: h.json(200, {"object": "list"}), AdapterError),
        (lambda h: h.json(200, {"choices": [{"message": "yes"}]}), AdapterError),
    ],
)
def test_errors_are_ours_and_keep_the_secret(
    serve: Callable[..., Any], script: Script, error: type[ModelyardError]
) -> None:
    server = serve(script)
    with pytest.raises(error) as caught:
        read(chat(server))
    assert KEY not in str(caught.value) and "127.0.0.1" not in str(caught.value)
    assert caught.value.__cause__ is None or KEY not in str(caught.value.__cause__)
    assert "\n" not in str(caught.value)
    assert len(server.asked) == 1


def test_a_budget_of_requests_or_of_tokens_refuses(serve: Callable[..., Any]) -> None:
    server = serve(says("yes"))
    for model in (chat(server, budget_requests=1), chat(server, budget_tokens=10)):
        read(model)
        with pytest.raises(RefusedByPolicy, match="budget"):
            read(model)
    assert len(server.asked) == 2
