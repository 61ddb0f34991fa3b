"""How large a body may be, alone and beside others, how deep it may be nested, and how long ones are read."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch
from urllib.parse import urlsplit

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request
from town import Gateway, Town, eventually

from modelyard.gateway import body as reading
from modelyard.gateway.body import Bodies, constant, deeper, read_value
from modelyard.serving import aside
from modelyard.serving.aside import loads

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(alphabet='[]{}"\\a\n\u2603', max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(alphabet='[{"\\', max_size=3), inner, max_size=4)
    ),
    max_leaves=30,
)


def depth(value: Any) -> int:
    if isinstance(value, dict):
        value = list(value.values())
    return 1 + max(map(depth, value), default=0) if isinstance(value, list) else 0


@given(value=values, most=st.integers(0, 8), spaced=st.booleans(), ascii_only=st.booleans(), long=st.booleans())
def test_it_is_the_depth_of_what_json_reads(value: Any, most: int, spaced: bool, ascii_only: bool, long: bool) -> None:
    raw = json.dumps(value, indent=1 if spaced else None, ensure_ascii=ascii_only).encode()
    with patch.object(reading, "ASIDE_BYTES", -1 if long else 1 << 20):
        assert deeper(raw, most) == (depth(value) > most)


texts = st.text(alphabet='[]{}",:0123456789.eE+-\\ntrufals ', max_size=30) | st.builds(
    json.dumps, st.recursive(st.floats(allow_nan=False) | st.integers() | st.text(), st.lists, max_leaves=20)
)


@given(text=texts | st.sampled_from(["NaN", "-Infinity", "1" * 5_000, "[" * 5_000, "\ufeff1"]), stepwise=st.booleans())
def test_what_is_long_is_read_as_what_is_short(text: str, stepwise: bool) -> None:
    def read() -> tuple[str, Any]:
        try:
            return "value", repr(loads(text, constant))
        except RecursionError:
            return "error", "depth"
        except ValueError as error:
            return "error", str(error)

    short = read()
    with patch.object(aside, "ASIDE_BYTES", -1), patch.object(aside, "_MANY_LISTS", -1 if stepwise else 1 << 20):
        assert read() == short


@pytest.mark.parametrize("piece", ['{"a": [1.25, 7], "b": "text"}', "[], [1]"])
def test_while_a_long_body_is_read_others_have_their_turns(piece: str) -> None:
    raw = f'{{"rows": [{", ".join([piece] * 120_000)}]}}'.encode()
    app = SimpleNamespace(
        state=SimpleNamespace(bodies=Bodies(), holding=reading.Holding(1 << 30), service=SimpleNamespace(timeout=60.0))
    )

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": raw}

    async def story() -> int:
        turns = 0
        request = Request({"type": "http", "method": "POST", "headers": [], "app": app}, receive)
        read = asyncio.create_task(read_value(request, "scoring"))
        while not read.done():
            turns += 1
            await asyncio.sleep(0)
        assert (await read)[0] == raw
        return turns

    # Read in the loop it is 2, and in a thread that keeps the interpreter to itself hardly more.
    assert asyncio.run(story()) > 20


def test_the_bounds_are_those_of_the_configuration(town: Town) -> None:
    town.point(town.release("you said: "))
    with town.gateway(bodies={"chat": 2_000, "scoring": 5_000, "depth": 8}) as gateway:
        gateway.until_ready()

        def asked(path: str, size: int) -> httpx.Response:
            return gateway.http.post(path, json={"messages": [{"role": "user", "content": "x" * size}]})

        assert asked("/v1/chat/completions", 1_500).status_code == 200
        refused = asked("/v1/chat/completions", 2_500)
        assert refused.status_code == 413 and "2,000 bytes" in refused.json()["error"]["message"]
        assert asked("/invocations", 2_500).status_code == 200
        refused = asked("/invocations", 6_000)
        assert refused.status_code == 413 and refused.json()["error_code"] == "INVALID_PARAMETER_VALUE"
        deep: Any = "a secret of mine"
        for _ in range(20):
            deep = [deep]
        for path in ("/v1/chat/completions", "/invocations", "/search"):
            reply = gateway.http.post(path, json={"messages": [], "query": "q", "user": deep})
            assert reply.status_code == 400 and "more than 8 deep" in reply.text and "secret" not in reply.text


def padded(size: int) -> bytes:
    said = [{"role": "user", "content": "hi"}]
    return json.dumps({"messages": said, "metadata": {"pad": "x" * size}}).encode()


def begin(gateway: Gateway, body: bytes, announced: int | None) -> socket.socket:
    """A connection with a request whose body is not all there."""
    place = urlsplit(gateway.url)
    sock = socket.create_connection((place.hostname, place.port), timeout=30)
    length = f"content-length: {announced}" if announced is not None else "transfer-encoding: chunked"
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n{length}"
    data = body if announced is not None else b"%x\r\n%s\r\n" % (len(body), body)
    sock.sendall(head.encode() + b"\r\n\r\n" + data)
    return sock


def test_bodies_of_all_requests_together_are_bounded_and_small_ones_get_through(town: Town) -> None:
    town.point(town.release("you said: "))
    with town.gateway(bodies={"together": 1_000_000}) as gateway:
        gateway.until_ready()
        post = lambda body: gateway.http.post(  # noqa: E731
            "/v1/chat/completions", content=body, headers={"content-type": "application/json"}
        )
        assert post(padded(1_500_000)).status_code == 200  # alone it may
        large = padded(800_000)
        for announced in (len(large), None):
            with begin(gateway, large[:300_000], announced) as sock:
                time.sleep(0.5)  # until what was sent is held: else the other one may be first, and this one refused
                other = padded(500_000 if announced else 900_000)
                refused = eventually(lambda: (r := post(other)).status_code == 503 and r, "room to be taken")  # noqa: B023
                assert refused.json()["error"]["code"] == "busy" and int(refused.headers["retry-after"]) >= 1
                assert refused.headers["x-should-retry"] == "true"
                assert post(padded(50_000)).status_code == 200
                rest = large[300_000:]
                sock.sendall(rest if announced else b"%x\r\n%s\r\n0\r\n\r\n" % (len(rest), rest))
                assert sock.recv(1 << 16).startswith(b"HTTP/1.1 200")
            assert post(other).status_code == 200  # there is room again
        with begin(gateway, large[:300_000], len(large)):
            pass  # who goes away holds nothing any more
        eventually(lambda: post(padded(900_000)).status_code == 200, "room again")
        assert "modelyard_overloaded_total" in gateway.http.get("/metrics").text


def test_a_body_that_does_not_arrive_is_not_waited_for_longer_than_any_request(town: Town) -> None:
    town.point(town.release("you said: "))
    with town.gateway(timeout=0.5) as gateway:
        gateway.until_ready()
        with begin(gateway, padded(100_000)[:90_000], 100_100) as sock:
            head, _, said = sock.makefile("rb").read().partition(b"\r\n\r\n")  # to the end: it is closed
            assert head.startswith(b"HTTP/1.1 408") and b"did not arrive within 0.5 s" in said
        assert gateway.ask("hi").status_code == 200
