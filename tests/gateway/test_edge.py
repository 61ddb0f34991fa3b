"""The shorter way of scoring bodies: whoever asks cannot tell it from the other one."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn
from test_recorded import Rows
from town import Gateway, Town, eventually
from uvicorn.server import ServerState

from modelyard.gateway.edge import Edge, Headers, Leaving, Reply

INVOKING = """
from modelyard.ports.workload import Invoked

class Scorer(Standing):
    def invoke(self, body, content_type, call):
        word = body.decode("utf-8", "replace")
        if word == "wrong":
            raise RequestError("column x is missing")
        if word == "bug":
            raise KeyError("secret")
        if word == "split":
            return Invoked(b"{}", "text/plain\\r\\nx-injected: 1", 1, {})
        if word.startswith("hold "):
            (self.notes / word[5:]).write_text("begun")
            try:
                while True:
                    call.check()
                    time.sleep(0.01)
            finally:
                (self.notes / word[5:]).write_text("over")
        said = f"{self.prefix}{word} {content_type} {sorted(call.groups)}"
        return Invoked(said.encode(), "application/json", 1, {"score": 0.5})
"""


@pytest.fixture
def place(town: Town) -> Town:
    source = town.root / "standin.py"
    text = source.read_text()
    text = text.replace("return Standing(", "return Scorer(")
    assert "return Scorer(" in text
    source.write_text(text + INVOKING)
    town.point(town.release("scored: "))
    return town


@pytest.fixture
def gateway(place: Town) -> Iterator[Gateway]:
    with place.gateway() as one:
        one.until_ready()
        yield one


class Client:
    """One connection, and bytes."""

    def __init__(self, gateway: Gateway) -> None:
        host, _, port = gateway.url.removeprefix("http://").partition(":")
        self.sock = socket.create_connection((host, int(port)), timeout=30)
        self._file = self.sock.makefile("rb")

    def send(
        self, body: bytes, *headers: str, host: str = "localhost", version: str = "1.1", chunked: bool = False
    ) -> None:
        lines = [f"POST /invocations HTTP/{version}", f"Host: {host}", "Content-Type: application/json", *headers]
        if chunked:
            lines.append("Transfer-Encoding: chunked")
            body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body) if body else b"0\r\n\r\n"
        else:
            lines.append(f"Content-Length: {len(body)}")
        self.sock.sendall("\r\n".join([*lines, "", ""]).encode() + body)

    def hear(self) -> tuple[int, dict[str, str], bytes]:
        status = int(self._file.readline().split()[1])
        headers = {}
        while line := self._file.readline().strip():
            name, _, value = line.decode().partition(": ")
            assert name.lower() not in headers
            headers[name.lower()] = value
        return status, headers, self._file.read(int(headers["content-length"]))

    def ended(self) -> bool:
        return self._file.read(1) == b""

    def close(self) -> None:
        self._file.close()
        self.sock.close()


def ask(gateway: Gateway, body: bytes, *headers: str, **more: Any) -> tuple[int, dict[str, str], bytes]:
    client = Client(gateway)
    client.send(body, *headers, **more)
    heard = client.hear()
    client.close()
    return heard


@pytest.mark.parametrize(
    ("body", "headers", "more", "status"),
    [
        (b"hello", [], {}, 200),
        (b"", [], {}, 200),
        (b"wrong", [], {}, 400),
        (b"bug", [], {}, 500),
        (b"split", [], {}, 500),
        (b"hello", ["X-Conversation-Id: 7", "Idempotency-Key: abc"], {}, 200),
        (b"hello", ["Idempotency-Key: " + "x" * 300], {}, 400),
        (b"hello", [], {"host": "evil.example"}, 400),
        (b"hello", ["Origin: http://evil.example"], {}, 403),
        (b"hello", ["Origin: http://["], {}, 403),
        (b"hello", ["Authorization: Bearer my_secret"], {}, 200),
        (b"hello", ["Connection: close"], {}, 200),
        (b"hello", [], {"version": "1.0"}, 200),
    ],
)
def test_it_replies_as_the_longer_way_does(
    gateway: Gateway, body: bytes, headers: list[str], more: dict[str, Any], status: int
) -> None:
    longer = {"chunked": True} if more.get("version") != "1.0" else {}
    also = (
        [] if longer else ["X-Conversation-Id: a", "X-Conversation-Id: a"]
    )  # what stands there twice is no common case
    heard = [ask(gateway, body, *headers, **more), ask(gateway, body, *headers, *also, **more, **longer)]
    for _, found, _ in heard:
        for name in ("x-request-id", "date"):
            found.pop(name, None)
    assert heard[0] == heard[1] and heard[0][0] == status


def test_each_is_on_record_once_and_counted(place: Town) -> None:
    with place.gateway() as gateway:
        gateway.until_ready()
        client = Client(gateway)
        ids = set()
        for body in (b"one", b"two", b"wrong"):
            client.send(body, "X-Conversation-Id: me")
            ids.add(client.hear()[1]["x-request-id"])
        client.close()
        assert ask(gateway, b"no", host="evil.example")[0] == 400
        said = gateway.http.get("/metrics").text
    rows = Rows(place)
    assert rows.accepted.keys() == ids and rows.statuses() == {200: 2, 400: 1}
    assert {row.request for row in rows.accepted.values()} == {b"one", b"two", b"wrong"}
    assert {row.dialect for row in rows.accepted.values()} == {"mlflow"}
    assert len({row.unit for row in rows.accepted.values()}) == 1
    assert {row.signals.get("score") for row in rows.finished.values() if row.status == 200} == {0.5}
    counted = [line for line in said.splitlines() if line.startswith("modelyard_requests_total")]
    assert sum(float(line.rpartition(" ")[2]) for line in counted) == 3 and all(
        'dialect="mlflow"' in c for c in counted
    )
    assert 'modelyard_refused_total{code="' in said


def test_requests_that_do_not_wait_for_replies_are_answered_in_order(gateway: Gateway) -> None:
    client = Client(gateway)
    for number in range(20):
        client.send(b"%d" % number, chunked=number % 3 == 1)
    client.sock.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
    client.send(b"last", "Connection: close")
    for number in range(20):
        assert client.hear()[2].startswith(b"scored: %d " % number)
    assert client.hear()[0] == 200
    assert client.hear()[2].startswith(b"scored: last ") and client.ended()
    client.close()


def test_a_body_may_come_in_pieces_and_be_large(gateway: Gateway) -> None:
    for size in (10, 60_000, 200_000):
        body = b"x" * size
        client = Client(gateway)
        head = f"POST /invocations HTTP/1.1\r\nHost: localhost\r\nContent-Length: {size}\r\n\r\n".encode()
        for at in range(0, len(head), 40):
            client.sock.sendall(head[at : at + 40])
        for at in range(0, size, 7_001):
            client.sock.sendall(body[at : at + 7_001])
        assert client.hear()[2].startswith(b"scored: " + body)
        client.close()


def test_who_goes_away_ends_what_was_asked_for(place: Town) -> None:
    with place.gateway() as gateway:
        gateway.until_ready()
        client = Client(gateway)
        client.send(b"hold note")
        note = place.root / "note"
        eventually(lambda: note.exists() and note.read_text() == "begun", "the model to begin", gateway.process)
        client.close()
        eventually(lambda: note.read_text() == "over", "the model to end", gateway.process)
        ask(gateway, b"hello")
    assert Rows(place).statuses() == {499: 1, 200: 1}


def test_a_token_and_its_limits_count(place: Town) -> None:
    with place.gateway(token="sesame-sesame-sesame", groups=["staff"]) as gateway:
        gateway.http.headers["authorization"] = "Bearer sesame-sesame-sesame"
        gateway.until_ready()
        assert ask(gateway, b"hello", "Authorization: Bearer wrong")[0] == 401
        status, _, body = ask(gateway, b"hello", "Authorization: Bearer sesame-sesame-sesame")
        assert status == 200 and b"['staff']" in body
    assert len(Rows(place).accepted) == 1


def test_a_gateway_that_is_stopped_answers_what_it_took(place: Town) -> None:
    with place.gateway(limits={"drain": 0.5}) as gateway:
        gateway.until_ready()
        idle, client = Client(gateway), Client(gateway)
        client.send(b"hold it")
        eventually((place.root / "it").exists, "the model to begin", gateway.process)
        gateway.process.terminate()
        status, _, said = client.hear()
        assert status == 503 and json.loads(said)["message"] and client.ended() and idle.ended()
        client.close()
    assert Rows(place).statuses() == {503: 1}


def test_a_body_that_does_not_come_is_not_waited_for(place: Town) -> None:
    with place.gateway(timeout=0.5) as gateway:
        gateway.until_ready()
        client = Client(gateway)
        client.sock.sendall(b"POST /invocations HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nhe")
        status, headers, said = client.hear()
        assert status == 408 and headers["connection"] == "close" and b"0.5 s" in said and client.ended()
        client.close()
        assert ask(gateway, b"hello")[0] == 200


class Echo:
    """A shortcut for everything, which says what it was sent."""

    most, patience = 1_000, 5.0

    def takes(self, url: bytes, headers: Headers) -> bool:
        return url == b"/invocations"

    def late(self) -> Reply:
        raise NotImplementedError

    async def answer(self, headers: Headers, body: bytes, leaving: Leaving) -> Reply:
        return Reply(200, [], body, lambda there: None)


async def app(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body"})


async def connected() -> tuple[asyncio.Server, asyncio.StreamReader, asyncio.StreamWriter]:
    """A server in this process that keeps idle connections for a second, and a connection to it."""
    config = uvicorn.Config(app, timeout_keep_alive=1, log_config=None)
    config.load()
    loop, state = asyncio.get_running_loop(), ServerState()
    server = await loop.create_server(lambda: Edge(Echo(), config, state, {}), "127.0.0.1", 0)
    return server, *await asyncio.open_connection(*server.sockets[0].getsockname()[:2])


def test_an_idle_connection_is_closed_and_a_busy_one_is_not() -> None:
    async def story() -> None:
        server, reader, writer = await connected()
        for number in range(8):  # for longer than an idle one would be kept
            if number % 4 == 3:
                writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
                assert b"204" in await reader.readuntil(b"\r\n\r\n")
            else:
                writer.write(b"POST /invocations HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\nhi")
                assert (await reader.readuntil(b"\r\n\r\nhi")).startswith(b"HTTP/1.1 200 OK\r\n")
            await asyncio.sleep(0.3)
        assert await asyncio.wait_for(reader.read(), 30) == b""
        writer.close()
        server.close()

    asyncio.run(story())


@pytest.mark.parametrize(
    "sent", [b"POST /invocations HTTP/1.1\r\nHo", b"GET /health HTTP/1.1\r\nX: " + b"x" * (1 << 20)]
)
def test_a_head_that_does_not_end_is_not_waited_for(place: Town, sent: bytes) -> None:
    with place.gateway(timeout=0.5) as gateway:
        gateway.until_ready()
        client = Client(gateway)
        with contextlib.suppress(OSError):
            client.sock.sendall(sent)
        assert client.hear()[0] == 400
        client.close()


def test_a_body_that_does_not_come_is_counted(place: Town) -> None:
    with place.gateway(timeout=0.5) as gateway:
        gateway.until_ready()
        client = Client(gateway)
        client.sock.sendall(b"POST /invocations HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nhe")
        assert client.hear()[0] == 408
        client.close()
        assert 'dialect="mlflow",endpoint="town",release="none",status="408"} 1.0' in gateway.http.get("/metrics").text


def test_a_request_whose_head_comes_in_pieces_keeps_its_connection() -> None:
    async def story() -> None:
        server, reader, writer = await connected()
        for pause in (0.0, 0.7):
            await asyncio.sleep(pause)
            writer.write(b"POST /invocations HTTP/1.1\r\nHost: local")
            await asyncio.sleep(0.6)
            writer.write(b"host\r\nContent-Length: 2\r\n\r\nhi")
            assert (await reader.readuntil(b"\r\n\r\nhi")).startswith(b"HTTP/1.1 200 OK\r\n")
        writer.close()
        server.close()

    asyncio.run(story())
