"""Who asks and does not read the answer: it holds no worker up, and is not waited for longer than any request."""

from __future__ import annotations

import json
import socket
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from test_recorded import Rows
from town import Gateway, Town, eventually

LONG = ("x" * 50_000 + " ") * 200
"""More than any socket takes that nobody reads."""


def unread(gateway: Gateway, stream: bool = True) -> socket.socket:
    """An answer that is asked for, and of which nothing is read."""
    place = urlsplit(gateway.url)
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.connect((place.hostname, place.port))
    body = json.dumps({"messages": [{"role": "user", "content": "hi"}], "stream": stream}).encode()
    head = "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    sock.sendall(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
    return sock


def in_flight(gateway: Gateway) -> float:
    lines = gateway.http.get("/metrics").text.splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("modelyard_requests_in_flight{"))


def test_who_does_not_read_a_stream_is_given_up_at_its_deadline(town: Town) -> None:
    town.point(town.release(LONG))
    with town.gateway(timeout=3.0, limits={"threads": 1}) as gateway:
        gateway.until_ready()
        with unread(gateway):
            eventually(lambda: in_flight(gateway) == 1, "the stream to begin")
            assert gateway.ask("hi").status_code == 200  # the only thread is free again
            assert in_flight(gateway) == 1
            eventually(lambda: in_flight(gateway) == 0, "it to be given up")
        assert "modelyard_streams_cut_total" in gateway.http.get("/metrics").text
    rows = Rows(town)
    assert rows.statuses() == {200: 1, 499: 1}
    (cut,) = [row for row in rows.finished.values() if row.status == 499]
    assert cut.error == "Unread" and cut.aborted and cut.truncated and cut.release is None


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells how long nobody took anything")
def test_a_connection_on_which_nothing_is_read_is_closed(town: Town) -> None:
    town.point(town.release(LONG))
    with town.gateway(timeout=1.0) as gateway:
        gateway.until_ready()
        connections = lambda: len(list(Path(f"/proc/{gateway.process.pid}/fd").iterdir()))  # noqa: E731
        before = connections()
        with unread(gateway, stream=False):
            eventually(lambda: connections() > before, "the connection")
            eventually(lambda: connections() <= before, "it to be closed")
