"""A worker's threads: who reads, who answers, and that neither waits for the other."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from modelyard.clock import SystemClock
from modelyard.errors import RequestError
from modelyard.ports.workload import Call, Invoked
from modelyard.serving.jobs import Server
from modelyard.serving.wire import Decoder, Frame, encode


class Model:
    """Answers at once with the name of the thread it ran on; asked to "hang", when told to, or when cancelled."""

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.hanging = threading.Semaphore(0)

    def invoke(self, body: bytes, content_type: str, call: Call) -> Invoked:
        if body == b"hang":
            self.hanging.release()
            while not self.go_on.wait(0.01):
                call.check()
        return Invoked(threading.current_thread().name.encode(), "text/plain", 1, {})

    def predict(self, request: Any, call: Call) -> Any:
        raise NotImplementedError

    def close(self) -> None: ...


class Release:
    id = "0" * 64
    workload: Any = SimpleNamespace(accepts=frozenset())

    def __init__(self) -> None:
        self.predictor = Model()

    def close(self) -> None: ...


class Gateway:
    """The other end of a connection to a worker's server."""

    def __init__(self, path: str) -> None:
        self.release = Release()
        self.server = Server(self.release, 4, SystemClock())
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(path)
        self._listener.listen()
        threading.Thread(target=self._serve, daemon=True).start()
        self._sock = socket.socket(socket.AF_UNIX)
        self._sock.connect(path)
        self._sock.settimeout(30)
        self._decoder, self._heard = Decoder(), list[Frame]()
        self._number = 0

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            self.server.serve(self._listener)

    def send(self, *frames: tuple[Frame, bytes]) -> None:
        self._sock.sendall(b"".join(encode(frame, payload) for frame, payload in frames))

    def invoke(self, body: bytes = b"") -> tuple[Frame, bytes]:
        self._number += 1
        return {"id": self._number, "do": "invoke", "content_type": "text/plain", "key": "k", "timeout": 60.0}, body

    def hear(self) -> Frame:
        while not self._heard:
            self._heard += self._decoder.feed(self._sock.recv(1 << 16))
        return self._heard.pop(0)

    def ask(self, body: bytes = b"") -> bytes:
        self.send(self.invoke(body))
        frame = self.hear()
        assert "response" in frame, frame
        found: bytes = frame["payload"]
        return found

    def close(self) -> None:
        self.release.predictor.go_on.set()
        self._listener.close()
        self._sock.close()


@pytest.fixture
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    one = Gateway(str(tmp_path_factory.mktemp("w") / "s"))
    yield one
    one.close()


def warm(gateway: Gateway) -> None:
    """Until what is quick is done where it is read."""
    for _ in range(2_000):
        if gateway.ask() == b"reader":
            return
    pytest.fail("quick jobs are handed over for ever")


def test_quick_scoring_is_done_by_the_thread_that_reads(gateway: Gateway) -> None:
    assert gateway.ask() != b"reader"  # nobody knows yet how long it takes
    warm(gateway)
    gateway.send(*[gateway.invoke() for _ in range(50)])
    assert len({gateway.hear()["id"] for _ in range(50)}) == 50


def test_what_takes_longer_than_thought_holds_up_nobody(gateway: Gateway) -> None:
    warm(gateway)
    slow, quick = gateway.invoke(b"hang"), gateway.invoke()
    gateway.send(slow, quick, ({"id": 9_000, "do": "ping"}, b""))
    first, second = gateway.hear(), gateway.hear()
    assert {first["id"], second["id"]} == {quick[0]["id"], 9_000}
    for _ in range(20):  # and what comes later is read, by the new reader
        gateway.ask()
    gateway.release.predictor.go_on.set()
    assert gateway.hear()["id"] == slow[0]["id"]
    for _ in range(20):
        gateway.ask()
    warm(gateway)


def test_it_can_be_cancelled(gateway: Gateway) -> None:
    warm(gateway)
    slow = gateway.invoke(b"hang")
    gateway.send(slow)
    gateway.release.predictor.hanging.acquire(timeout=30)
    gateway.send(({"id": slow[0]["id"], "do": "cancel"}, b""))
    frame = gateway.hear()
    assert frame["id"] == slow[0]["id"] and frame["error"]["kind"] == "Cancelled"


def test_one_after_another_they_all_may_hang(gateway: Gateway) -> None:
    warm(gateway)
    numbers = []
    for _ in range(4):
        slow = gateway.invoke(b"hang")
        numbers.append(slow[0]["id"])
        gateway.send(slow)
        assert gateway.release.predictor.hanging.acquire(timeout=30)
    gateway.send(({"id": 9_000, "do": "ping"}, b""))
    assert gateway.hear()["id"] == 9_000
    gateway.release.predictor.go_on.set()
    assert sorted(gateway.hear()["id"] for _ in numbers) == numbers


def test_what_waits_for_more_is_sent_before_the_end(gateway: Gateway) -> None:
    gateway.ask()
    (connection,) = gateway.server._readers._connections
    connection.corked = True  # as between two frames of several
    connection.send({"id": 77, "result": None})
    assert gateway.server.drain(5.0)
    assert gateway.hear()["id"] == 77


def test_an_error_that_cannot_be_said_keeps_nobody_waiting(gateway: Gateway) -> None:
    class Mute(RequestError):
        def __str__(self) -> str:
            raise ValueError

    def fail(body: bytes, content_type: str, call: Call) -> Invoked:
        raise Mute

    gateway.server._invoke = fail
    gateway.send(gateway.invoke())
    assert gateway.hear()["error"]["message"] == "the release failed on this request"
