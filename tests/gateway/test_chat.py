"""OpenAI's dialect, by OpenAI's own client and by hand."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from town import Gateway, Town, eventually

openai = pytest.importorskip("openai")


@pytest.fixture
def client(served: Gateway) -> Any:
    return openai.OpenAI(
        base_url=f"{served.url}/v1", api_key="none", max_retries=0, http_client=httpx.Client(trust_env=False)
    )


def user(content: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": content}]


def events(text: str) -> list[Any]:
    return [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]


def test_the_openai_client_gets_an_answer_with_citations(client: Any, served: Gateway) -> None:
    reply = client.chat.completions.create(
        model="town", messages=user("how much?"), temperature=0.7, seed=1, stop=["x"]
    )
    assert reply.choices[0].message.content == "you said: how much?"
    assert reply.choices[0].finish_reason == "stop"
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens, reply.usage.total_tokens) == (2, 4, 6)
    extra = reply.modelyard
    assert extra["refused"] is False and extra["citations"][0]["page"] == 2
    assert extra["release"] == served.http.get("/ready").json()["release"]


def test_the_openai_client_streams(client: Any) -> None:
    chunks = list(
        client.chat.completions.create(
            model="town", messages=user("a b c"), stream=True, stream_options={"include_usage": True}
        )
    )
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == "you said: a b c"
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
    assert chunks[-1].choices == [] and chunks[-1].usage.total_tokens == 8
    assert chunks[-1].modelyard["citations"] and chunks[-2].modelyard["refused"] is False
    assert len({c.id for c in chunks}) == 1


def test_the_openai_client_lists_the_model(client: Any) -> None:
    (model,) = client.models.list().data
    assert model.id == "town" and model.modelyard["state"] == "passed" and model.modelyard["picture"] is True


def test_its_typed_errors_are_raised(client: Any) -> None:
    with pytest.raises(openai.NotFoundError, match="this endpoint is 'town'"):
        client.chat.completions.create(model="gpt-9", messages=user("hi"))
    with pytest.raises(openai.BadRequestError, match="the question is empty"):
        client.chat.completions.create(model="town", messages=user(" "))
    with pytest.raises(openai.InternalServerError):
        client.chat.completions.create(model="town", messages=user("bug"))
    with pytest.raises(openai.APIError, match="the remote model went away"):
        list(client.chat.completions.create(model="town", messages=user("later-bug"), stream=True))


def test_a_refusal_is_marked(served: Gateway) -> None:
    assert served.ask("refuse this").json()["modelyard"] | {"release": ""} == {
        "refused": True,
        "citations": [],
        "release": "",
    }


def test_streams_end_with_done_or_with_an_error(served: Gateway) -> None:
    good, bad = served.ask("hi", stream=True), served.ask("later-bug", stream=True)
    assert good.headers["content-type"].startswith("text/event-stream")
    assert good.text.endswith("data: [DONE]\n\n")
    assert "[DONE]" not in bad.text
    assert events(bad.text)[-1]["error"]["code"] == "unavailable"


def test_what_fails_before_the_first_word_has_a_status_also_when_streamed(served: Gateway) -> None:
    assert served.ask(" ", stream=True).status_code == 400
    assert served.ask("bug", stream=True).status_code == 500


def test_an_answer_without_deltas_is_streamed_as_well(town: Town) -> None:
    release = town.release("", workload="quiet:Quiet")
    (town.root / "quiet.py").write_text(
        "from standin import StandIn\nfrom modelyard.ports.workload import Response\n"
        "class P:\n    def predict(self, request, call):\n        yield Response('all at once', {})\n"
        "    def close(self): pass\n"
        "class Quiet(StandIn):\n    def load(self, ctx, folder): return P()\n"
    )
    town.point(release)
    with town.gateway() as gateway:
        gateway.until_ready()
        chunks = events(gateway.ask("hi", stream=True).text)
        assert "".join(c["choices"][0]["delta"].get("content", "") for c in chunks) == "all at once"
        assert gateway.http.post("/search", json={"query": "q"}).status_code == 404
        assert gateway.http.get("/pages/a.pdf/1.png").status_code == 404


@pytest.mark.parametrize("stream", [False, True])
def test_max_tokens_is_honoured(served: Gateway, stream: bool) -> None:
    reply = served.ask("one, two three", stream=stream, max_tokens=5)
    if stream:
        chunks = events(reply.text)
        text = "".join(c["choices"][0]["delta"].get("content", "") for c in chunks)
        finish = chunks[-1]["choices"][0]["finish_reason"]
    else:
        text, finish = (reply.json()["choices"][0][k] for k in ("message", "finish_reason"))
        text = text["content"]
        assert reply.json()["usage"]["completion_tokens"] <= 5
    assert (text.rstrip(), finish) == ("you said: one,", "length")
    assert served.ask("one", max_completion_tokens=4).json()["choices"][0]["finish_reason"] == "stop"


def test_parts_and_roles_are_openais(served: Gateway) -> None:
    parts = [{"type": "text", "text": "two"}, {"type": "text", "text": "parts"}]
    history = [
        {"role": "developer", "content": "be brief"},
        {"role": "assistant", "content": None, "tool_calls": []},
        *user(parts),
    ]
    reply = served.http.post("/v1/chat/completions", json={"messages": history})
    assert reply.json()["choices"][0]["message"]["content"] == "you said: two\nparts"


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"n": 2}, "n"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"stream": "yes"}, "stream"),
        ({"stream_options": 1}, "stream_options"),
        ({"logprobs": True}, "logprobs"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"messages": []}, "messages"),
        ({"messages": "hi"}, "messages"),
        ({"messages": [1]}, "messages[0]"),
        ({"messages": [{"role": "user"}]}, "messages[0]"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0]"),
        ({"messages": [{"role": 1, "content": "x"}]}, "messages[0]"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(served: Gateway, more: dict[str, Any], param: str) -> None:
    reply = served.ask("hi", **more)
    assert reply.status_code == 400
    error = reply.json()["error"]
    assert error["param"] == param and error["type"] == "invalid_request_error"
    assert set(error) == {"message", "type", "param", "code"} and "\n" not in error["message"]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "empty"),
        (b"{", "not JSON"),
        (b"[]", "must be a JSON object"),
        (b'{"a": NaN}', "NaN"),
        (b"\xff\xfe{}", "not UTF-8"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a": ' + b"9" * 5000 + b"}", "not JSON"),
        (b'{"messages": [{"role": "user", "content": "\\ud800"}]}', "not valid Unicode"),
        (b'{"messages": [{"role": "user", "content": "hi", "x": 1e999}], "n": 1e999}', "n: one answer"),
    ],
)
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/invocations"])
def test_a_bad_body_is_one_clear_line(served: Gateway, path: str, body: bytes, says: str) -> None:
    reply = served.http.post(path, content=body, headers={"content-type": "application/json"})
    assert reply.status_code == 400
    message = reply.json()["message"] if path == "/invocations" else reply.json()["error"]["message"]
    if path != "/invocations" or b"1e999" not in body:
        assert says in message
    assert "\n" not in message and "Traceback" not in reply.text


def test_large_bodies_and_large_questions(served: Gateway) -> None:
    assert served.ask("x" * 100_000).status_code == 413
    assert "20,000 characters" in served.ask("x" * 100_000).json()["error"]["message"]
    for size in (4_000_000, 12_000_000):
        reply = served.ask("x" * size)
        assert reply.status_code == 413 and "4,000,000 bytes" in reply.json()["error"]["message"]
    assert served.ask("fine").status_code == 200


def test_chunked_bodies_are_bounded_too(served: Gateway) -> None:
    def pieces() -> Any:
        for _ in range(100):
            yield b" " * (1 << 16)

    headers = {"content-type": "application/json"}
    assert served.http.post("/v1/chat/completions", content=pieces(), headers=headers).status_code == 413


def test_a_bug_of_the_release_is_a_500_that_says_nothing_of_it(served: Gateway) -> None:
    for question in ("bug", "nan", "liar", "silent"):
        reply = served.ask(question)
        assert reply.status_code == 500 and reply.headers["x-should-retry"] == "false"
        assert "secret" not in reply.text and "Traceback" not in reply.text and ".py" not in reply.text
    assert served.ask("and it goes on").status_code == 200


def test_many_at_once_get_each_their_own_answer(served: Gateway) -> None:
    with ThreadPoolExecutor(16) as pool:
        replies = list(pool.map(lambda i: served.ask(f"question {i}", stream=i % 2 == 0), range(200)))
    for i, reply in enumerate(replies):
        if i % 2:
            text = reply.json()["choices"][0]["message"]["content"]
        else:
            text = "".join(c["choices"][0]["delta"].get("content", "") for c in events(reply.text))
        assert text == f"you said: question {i}"


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_goes_away_cancels_its_request(town: Town, stream: bool) -> None:
    town.point(town.release(""))
    with town.gateway() as gateway:
        gateway.until_ready()
        body = {"messages": user("slow 100000"), "stream": stream}
        with (
            httpx.Client(base_url=gateway.url, trust_env=False, timeout=1.0) as client,
            pytest.raises((httpx.TimeoutException, _Enough)),
            client.stream("POST", "/v1/chat/completions", json=body) as reply,
        ):
            for _ in reply.iter_lines():
                raise _Enough
        eventually((town.root / "given-up").exists, "the release to be told")
        assert gateway.ask("still there?").status_code == 200


class _Enough(Exception):
    pass


def test_the_deadline_is_kept_even_when_the_release_is_stuck(town: Town) -> None:
    town.point(town.release(""))
    with town.gateway(timeout=0.5) as gateway:
        gateway.until_ready()
        for question in ("slow 1000", "stuck 2.5"):
            reply = gateway.ask(question)
            assert reply.status_code == 504 and reply.json()["error"]["code"] == "deadline_exceeded"
        assert gateway.ask("still there?").status_code == 200


def test_the_idempotency_key_reaches_the_release(served: Gateway) -> None:
    body = {"messages": user("hi")}
    reply = served.http.post("/invocations", json=body, headers={"idempotency-key": "order-7"})
    assert reply.json()[0]["key"] == "anonymous:order-7"  # of two callers it is two
    bad = served.http.post("/invocations", json=body, headers={"idempotency-key": "x" * 300})
    assert bad.status_code == 400


def test_the_same_idempotency_key_of_two_callers_are_two(town: Town) -> None:
    town.point(town.release("you said: "))
    with town.gateway(token="a-secret-of-the-configuration") as gateway:
        gateway.http.headers["authorization"] = "Bearer a-secret-of-the-configuration"
        gateway.until_ready()
        body = {"messages": [{"role": "user", "content": "hi"}]}

        def key(secret: str) -> str:
            headers = {"authorization": f"Bearer {secret}", "idempotency-key": "order-7"}
            return str(gateway.http.post("/invocations", json=body, headers=headers).json()[0]["key"])

        own, local = key("a-secret-of-the-configuration"), key(gateway.info.secret)
        assert own != local and own == key("a-secret-of-the-configuration")
