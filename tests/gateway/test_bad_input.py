"""What is wrong with a request is said in one line, in the dialect it was asked in, with the status that is right, and
nothing of what was sent stands in it. Of a chat and of a model of tables alike."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from models import put
from tests.model.shop import NUMBERS
from town import Gateway, Town, eventually

pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow's and pandas' own
SECRET = "4111-1111-1111-1111"
CHAT = {"messages": [{"role": "user", "content": "hello"}]}
ONE = dict.fromkeys(NUMBERS, 0.5)
TENSORS = {"inputs": [{"name": name, "datatype": "FP64", "shape": [1], "data": [0.5]} for name in NUMBERS]}
OPINION = {"request_id": "0" * 32, "kind": "thumb", "value": "up"}
FITS: dict[str, dict[str, Any]] = {
    "chat": {
        "/v1/chat/completions": CHAT,
        "/serving-endpoints/chat/completions": {**CHAT, "model": "town"},
        "/serving-endpoints/town/invocations": CHAT,
        "/invocations": CHAT,
        "/predict": CHAT,
        "/search": {"query": "a"},
        "/feedback": OPINION,
    },
    "model": {
        "/invocations": {"inputs": [ONE]},
        "/predict": ONE,
        "/v2/models/town/infer": TENSORS,
        "/serving-endpoints/town/invocations": {"dataframe_records": [ONE]},
    },
}
"""What is taken, by what serves and path."""
CASES = [(kind, path) for kind, paths in FITS.items() for path in paths]


@pytest.fixture(scope="module")
def gateways(served: Gateway, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Gateway]]:
    town = Town(tmp_path_factory.mktemp("model"))
    release = put(town, "linear", "sklearn")
    town.point(release)
    with town.gateway() as gateway:
        gateway.until_ready(release)
        yield {"chat": served, "model": gateway}
    town.ledger.close()


def said(path: str, reply: httpx.Response) -> str:
    """The one line of a refusal, whose shape is that of its dialect."""
    value = reply.json()
    if path.startswith("/v2/"):
        assert set(value) == {"error"}
        line = value["error"]
    elif path.startswith(("/v1/", "/search", "/feedback")):
        assert set(value) == {"error"} and set(value["error"]) == {"message", "type", "param", "code"}
        line = value["error"]["message"]
    else:
        assert set(value) == {"error_code", "message"}
        line = value["message"]
    assert isinstance(line, str) and line and "\n" not in line and "Traceback" not in reply.text
    assert SECRET not in reply.text and reply.headers["x-should-retry"] == "false"
    return line


def post(
    gateway: Gateway, path: str, body: bytes, kind: str | None = "application/json", **headers: str
) -> httpx.Response:
    return gateway.http.post(path, content=body, headers={**headers, **({"content-type": kind} if kind else {})})


NO_JSON: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda good: b"",
    "blank": lambda good: b" \n ",
    "cut": lambda good: good[:-1],
    "not JSON": lambda good: f"number={SECRET}".encode(),
    "two bodies in one": lambda good: good + b"\n" + good,
    "not UTF-8": lambda good: good[:-1] + b', "x": "\xff"}',
    "NaN": lambda good: good[:-1] + b', "x": NaN}',
    "minus infinity": lambda good: good[:-1] + b', "x": -Infinity}',
    "deep": lambda good: good[:-1] + b', "x": ' + b"[" * 20_000 + b"]" * 20_000 + b"}",
    "many digits": lambda good: good[:-1] + b', "x": ' + b"9" * 5_000 + b"}",
    "a text": lambda good: json.dumps(SECRET).encode(),
    "nothing": lambda good: b"null",
}


@pytest.mark.parametrize(("kind", "path"), CASES, ids=[f"{kind}{path}" for kind, path in CASES])
def test_a_body_that_cannot_be_read(gateways: dict[str, Gateway], kind: str, path: str) -> None:
    gateway, good = gateways[kind], json.dumps(FITS[kind][path]).encode()
    for name, spoilt in NO_JSON.items():
        reply = post(gateway, path, spoilt(good))
        assert reply.status_code == 400, (name, reply.text)
        said(path, reply)
    for other in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "a/b"):
        reply = post(gateway, path, good, other)
        assert reply.status_code == 415, (other, reply.text)
        said(path, reply)
    assert post(gateway, path, good).status_code in (200, 202)


@pytest.mark.parametrize(("kind", "path"), CASES, ids=[f"{kind}{path}" for kind, path in CASES])
def test_a_body_over_the_limit(gateways: dict[str, Gateway], kind: str, path: str) -> None:
    gateway = gateways[kind]
    reply = post(gateway, path, b'{"inputs": "' + SECRET.encode() * 2_500_000 + b'"}')  # 47 MB
    assert reply.status_code == 413 and "bytes" in said(path, reply)
    assert gateway.http.get("/ping").status_code == 200


@pytest.mark.parametrize(("kind", "path"), CASES, ids=[f"{kind}{path}" for kind, path in CASES])
def test_who_has_no_token_that_is_good(gateways: dict[str, Gateway], kind: str, path: str) -> None:
    good, revoked = json.dumps(FITS[kind][path]).encode(), "my_0123456789_" + "A" * 43
    reply = post(gateways[kind], path, good, authorization=f"Bearer {revoked}")
    assert reply.status_code == 401 and "token" in said(path, reply) and revoked not in reply.text
    assert reply.headers["www-authenticate"] == "Bearer"


def test_models_that_are_not_here(gateways: dict[str, Gateway]) -> None:
    for kind, path, body in (
        ("chat", "/v1/chat/completions", {**CHAT, "model": SECRET}),
        ("chat", "/serving-endpoints/chat/completions", {**CHAT, "model": SECRET}),
        ("model", "/v2/models/other/infer", TENSORS),
        ("model", "/v2/models/town/versions/00000000/infer", TENSORS),
        ("model", "/serving-endpoints/other/invocations", {"inputs": [ONE]}),
    ):
        reply = post(gateways[kind], path, json.dumps(body).encode())
        assert reply.status_code == 404, reply.text
        said(path, reply)


def test_columns_that_are_missing_and_too_many(gateways: dict[str, Gateway]) -> None:
    fewer, more = {**ONE}, {**ONE, SECRET: 1.0}
    del fewer["f3"]
    for path in ("/invocations", "/predict", "/serving-endpoints/town/invocations"):
        reply = post(gateways["model"], path, json.dumps({"dataframe_records": [fewer]}).encode())
        assert reply.status_code == 400 and said(path, reply) == "missing column: f3"
        reply = post(gateways["model"], path, json.dumps({"dataframe_records": [more]}).encode())
        assert reply.status_code == 400 and "1 column the model does not take" in said(path, reply)
        reply = post(gateways["model"], path, json.dumps({"inputs": [{**ONE, "f0": SECRET}]}).encode())
        assert reply.status_code == 400 and said(path, reply) == "column f0: a number is expected"


def test_callers_who_go_away_in_the_middle_leave_nothing_behind(gateways: dict[str, Gateway]) -> None:
    gateway = gateways["chat"]
    host, port = gateway.url.removeprefix("http://").split(":")

    def under_way() -> float:
        lines = gateway.http.get("/metrics").text.splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith("modelyard_requests_in_flight{"))

    for stream in (True, False):
        body = {"messages": [{"role": "user", "content": "slow 100000"}], "stream": stream}
        with httpx.Client(base_url=gateway.url, trust_env=False, timeout=0.5) as client:
            try:
                with client.stream("POST", "/v1/chat/completions", json=body) as reply:
                    next(reply.iter_lines())
            except httpx.TimeoutException:
                assert not stream
    eventually(lambda: under_way() == 0, "requests to be cancelled")

    with socket.create_connection((host, int(port)), timeout=20) as sock:
        head = b"POST /invocations HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        sock.sendall(head + b'Content-Length: 99\r\n\r\n{"messages": ')
    assert gateway.ask("still there?").status_code == 200
