"""MLflow's dialect, search, pictures, readiness, the page, and what is refused."""

from __future__ import annotations

import json
import socket
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from town import Gateway, Town

from modelyard.errors import NotFound, RequestError, RequestTooLarge
from modelyard.serving.route import ask_gateway, search_gateway

HELLO = {"messages": [{"role": "user", "content": "hello"}]}


def invoke(gateway: Gateway, body: Any) -> httpx.Response:
    return gateway.http.post("/invocations", json=body)


def test_messages_get_a_bare_list_with_one_object(served: Gateway) -> None:
    reply = invoke(served, {**HELLO, "temperature": 0.5, "max_tokens": 10, "client_request_id": "7"})
    (one,) = reply.json()
    assert one["answer"] == one["choices"][0]["message"]["content"] == "you said: hello"
    assert one["release"] == reply.headers["modelyard-release"]


@pytest.mark.parametrize(
    "body",
    [
        {"inputs": HELLO},
        {"inputs": [HELLO]},
        {"instances": [HELLO]},
        {"dataframe_records": [HELLO]},
        {"dataframe_split": {"columns": ["messages"], "data": [[HELLO["messages"]]]}},
        {"dataframe_records": [HELLO], "params": {}},
    ],
)
def test_tables_get_predictions(served: Gateway, body: Any) -> None:
    (one,) = invoke(served, body).json()["predictions"]
    assert one["answer"] == "you said: hello"


def test_rows_are_answered_in_order(served: Gateway) -> None:
    rows = [{"messages": [{"role": "user", "content": str(i)}]} for i in range(100)]
    found = invoke(served, {"dataframe_records": rows}).json()["predictions"]
    assert [one["answer"] for one in found] == [f"you said: {i}" for i in range(100)]
    assert len({one["key"] for one in found}) == 100


def test_one_bad_row_fails_them_all(served: Gateway) -> None:
    rows = [HELLO, {"messages": [{"role": "user", "content": " "}]}, HELLO]
    reply = invoke(served, {"dataframe_records": rows})
    assert reply.status_code == 400 and reply.json()["error_code"] == "INVALID_PARAMETER_VALUE"


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({}, "needs messages"),
        ({"mesages": []}, "unknown mesages"),
        ({**HELLO, "stream": True}, "streams"),
        ({"inputs": HELLO, "instances": []}, "exactly one"),
        ({"inputs": HELLO, **HELLO}, "exactly one"),
        ({"inputs": "hello"}, "list of objects"),
        ({"inputs": [HELLO, 1]}, "list of objects"),
        ({"dataframe_records": []}, "1 to 256 rows"),
        ({"dataframe_records": [HELLO] * 257}, "1 to 256 rows"),
        ({"dataframe_records": [{**HELLO, "amount": 3}]}, "row 0 of dataframe_records: unknown amount"),
        ({"dataframe_split": {"columns": ["messages"], "data": [[1, 2]]}}, "as long as columns"),
        ({"dataframe_split": [1]}, "columns"),
        ({"inputs": HELLO, "params": {"a": 1}}, "takes none"),
    ],
)
def test_what_is_not_understood_is_refused(served: Gateway, body: Any, says: str) -> None:
    reply = invoke(served, body)
    assert reply.status_code == 400
    assert set(reply.json()) == {"error_code", "message"} and says in reply.json()["message"]


def test_errors_of_the_release_are_mlflows_in_shape(served: Gateway) -> None:
    reply = invoke(served, {"messages": [{"role": "user", "content": "bug"}]})
    assert reply.status_code == 500 and reply.json()["error_code"] == "INTERNAL_ERROR"


def test_another_process_asks_and_searches(served: Gateway) -> None:
    answer = ask_gateway(served.info, HELLO)
    assert answer["answer"] == "you said: hello" and len(answer["release"]) == 64
    assert [hit["page"] for hit in search_gateway(served.info, "q", 3)] == [1, 2, 3]
    with pytest.raises(RequestError, match="the question is empty"):
        ask_gateway(served.info, {"messages": [{"role": "user", "content": " "}]})
    with pytest.raises(RequestTooLarge):
        ask_gateway(served.info, {"messages": [{"role": "user", "content": "x" * 50_000}]})


@pytest.mark.parametrize("body", [{}, {"query": ""}, {"query": 1}, {"query": "q", "k": 0}, {"query": "q", "k": True}])
def test_a_bad_search_is_refused(served: Gateway, body: Any) -> None:
    assert served.http.post("/search", json=body).status_code == 400


@pytest.mark.parametrize(
    "document", ["a.pdf", "a folder/b.pdf", "\u2603 100%.pdf", "two\nlines?.md", "../../etc/passwd"]
)
def test_pictures_of_any_name(served: Gateway, document: str) -> None:
    release = served.http.get("/ready").json()["release"]
    params = {"quote": "145 \u20ac", "release": release}
    reply = served.http.get(f"/pages/{quote(document, safe='')}/3.png", params=params)
    assert reply.status_code == 200 and reply.headers["content-type"] == "image/png"
    assert reply.content.endswith(f"{document}|3|145 \u20ac".encode())
    assert "immutable" in reply.headers["cache-control"]


def test_pictures_that_are_not_there(served: Gateway) -> None:
    for path in ("/pages/a.pdf/10.png", "/pages/a.pdf/x.png", "/pages/a.pdf", f"/pages/a.pdf/1.png?release={'0' * 64}"):
        assert served.http.get(path).status_code == 404
    assert served.http.get("/pages/a.pdf/1.png?release=../..").status_code == 400
    with pytest.raises(NotFound):
        raise NotFound(served.http.get("/pages/nothing/1.png").json()["error"]["message"])


def test_the_operators_routes(served: Gateway) -> None:
    assert served.http.get("/health").text == "\n"
    ready = served.http.get("/ready").json()
    assert ready["ready"] and ready["release"] == ready["champion"] and ready["reason"] is None
    assert served.http.get("/ping").text == "\n"
    version = served.http.get("/version")
    assert version.text.startswith("3.") and version.headers["modelyard-version"]


@pytest.mark.parametrize("path", ["/nothing", "/v1", "/v1/models/", "/static/../app.py", "/static/x.py", "/%2e%2e/x"])
def test_an_unknown_path_is_json(served: Gateway, path: str) -> None:
    reply = served.http.get(path)
    assert reply.status_code == 404 and reply.json()["error"]["code"] == "not_found"


def test_a_wrong_method_is_json(served: Gateway) -> None:
    reply = served.http.get("/invocations")
    assert reply.status_code == 405 and reply.headers["allow"] == "POST" and reply.json()["error_code"]
    assert served.http.delete("/v1/chat/completions").status_code == 405


def test_another_content_type_is_refused(served: Gateway) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", "text/csv"):
        reply = served.http.post("/invocations", content=json.dumps(HELLO), headers={"content-type": kind})
        assert reply.status_code == 415 and "application/json" in reply.json()["message"]
    kind = "Application/JSON; charset=utf-8"
    reply = served.http.post("/invocations", content=json.dumps(HELLO), headers={"content-type": kind})
    assert reply.status_code == 200


def test_the_page_is_self_contained_and_locked_down(served: Gateway) -> None:
    page = served.http.get("/")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy
    assert page.headers["x-content-type-options"] == "nosniff"
    names = [f"/static/{name}" for name in ("chat.css", "chat.js", "icon.svg")]
    for name in names:
        assert name in page.text
        reply = served.http.get(name)
        assert reply.status_code == 200 and "http://" not in reply.text.replace("http://www.w3.org", "")
        assert "https://" not in reply.text
    script = served.http.get("/static/chat.js").text
    assert "innerHTML" not in script and "insertAdjacentHTML" not in script and "eval(" not in script
    assert "style=" not in page.text and "<script>" not in page.text


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "", "0x7f000001", "10.0.0.1"])
def test_a_name_that_is_not_this_machine_is_refused(served: Gateway, host: str) -> None:
    reply = served.http.get("/v1/models", headers={"host": host})
    assert reply.status_code == 400


@pytest.mark.parametrize("host", ["localhost:1", "127.0.0.1", "[::1]:8080", "LOCALHOST"])
def test_names_of_this_machine_are_let_in(served: Gateway, host: str) -> None:
    assert served.http.get("/v1/models", headers={"host": host}).status_code == 200


def test_a_page_of_another_site_is_refused(served: Gateway) -> None:
    for origin in ("https://evil.example", "null", "http://127.0.0.1:1"):
        reply = served.http.post("/v1/chat/completions", json=HELLO, headers={"origin": origin})
        assert reply.status_code == 403
    assert served.http.post("/v1/chat/completions", json=HELLO, headers={"origin": served.url}).status_code == 200


def raw(gateway: Gateway, request: bytes) -> bytes:
    host, port = gateway.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as sock:
        sock.sendall(request)
        return sock.recv(1 << 16)


def test_headers_cannot_be_injected(served: Gateway) -> None:
    path = "/pages/a%0d%0aset-cookie:%20x=1/1.png?quote=%0d%0ax:%20y"
    reply = served.http.get(path)
    assert reply.status_code == 200 and "set-cookie" not in reply.headers and "x" not in reply.headers
    reply = served.http.get("/nothing%0d%0aset-cookie:%20x=1")
    assert reply.status_code == 404 and "set-cookie" not in reply.headers
    assert (
        b" 400 " in raw(served, b"GET /ready HTTP/1.1\r\nHost: localhost\r\nBad\x00Name: 1\r\n\r\n").split(b"\r\n")[0]
    )
    assert b" 200 " in raw(served, b"GET /ready HTTP/1.1\r\nHost: localhost\r\n\r\n").split(b"\r\n")[0]


def test_a_workload_that_takes_no_messages_says_so_on_chat(town: Town) -> None:
    (town.root / "sums.py").write_text(
        "from standin import StandIn\nfrom modelyard.ports.workload import Response\n"
        "class P:\n    def predict(self, request, call):\n"
        "        yield Response(str(request['a']), {'sum': request['a']})\n"
        "    def close(self): pass\n"
        "class Sums(StandIn):\n    accepts = frozenset({'a'})\n    def load(self, ctx, folder): return P()\n"
    )
    town.point(town.release("", workload="sums:Sums"))
    with town.gateway() as gateway:
        gateway.until_ready()
        reply = gateway.ask("hi")
        assert reply.status_code == 400
        assert reply.json()["error"]["message"] == "town is no chat model: it takes a at /invocations"
        assert invoke(gateway, {"a": 4}).json()[0]["sum"] == 4
        assert invoke(gateway, HELLO).status_code == 400
        assert ask_gateway(gateway.info, {"a": 5})["sum"] == 5


def test_a_remote_that_refuses_our_key_is_not_the_callers_fault(served: Gateway) -> None:
    reply = served.ask("keyless")
    assert reply.status_code == 502 and "refuses the key" in reply.json()["error"]["message"]
    assert "www-authenticate" not in reply.headers
