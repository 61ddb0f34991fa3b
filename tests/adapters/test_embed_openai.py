"""A remote embedder: what it sends, what it takes, and what it does about servers that are down, slow or wrong."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.contract.embeddings_stub import DIMENSION, Handler, Script, Stub, normal, openai, rows

from modelyard import api
from modelyard.adapters.embed_openai import OpenAIEmbedder
from modelyard.clock import FakeClock
from modelyard.errors import AdapterError, ModelyardError, RequestError, Unauthorized, Unavailable, UserError
from modelyard.wiring import open_release

KEY = "sk-very-secret"
TEXTS = ["one boat", "two boats", "a pier"]


@pytest.fixture
def stub() -> Iterator[Stub]:
    server = Stub()
    yield server
    server.close()


def embedder(stub: Stub, **options: Any) -> OpenAIEmbedder:
    given = {"name": "m", "url": stub.url, "dimension": DIMENSION, "key": KEY, "clock": FakeClock(), **options}
    return OpenAIEmbedder(**given)


def says(status: int, value: Any, **headers: str) -> Script:
    return lambda handler, body: handler.json(status, value, **headers)


def error(status: int, message: str) -> Script:
    return says(status, {"error": {"message": message, "type": "invalid_request_error"}})


def units(texts: list[str]) -> np.ndarray:
    found = rows(texts).astype(np.float64)
    return (found / np.linalg.norm(found, axis=1)[:, None]).astype(np.float32)


@pytest.mark.parametrize(
    ("path", "options", "body"),
    [
        ("/v1", {}, {"model": "m", "input": TEXTS}),
        ("/v1/", {"encoding": "base64"}, {"model": "m", "input": TEXTS, "encoding_format": "base64"}),
        ("/v1/embeddings", {"shorten": True}, {"model": "m", "input": TEXTS, "dimensions": DIMENSION}),
        ("/openai/deployments/d/embeddings?api-version=2024-06-01", {}, {"model": "m", "input": TEXTS}),
        ("/serving-endpoints", {}, {"model": "m", "input": TEXTS}),
        ("/serving-endpoints/e/invocations", {}, {"input": TEXTS}),
        ("/embed", {}, {"inputs": TEXTS, "truncate": True}),
        ("/api/embed", {}, {"model": "m", "input": TEXTS}),
    ],
)
def test_what_each_kind_of_server_is_sent(stub: Stub, path: str, options: dict[str, Any], body: dict[str, Any]) -> None:
    def any_of(handler: Handler, sent: dict[str, Any]) -> None:
        handler.json(200, openai({**sent, "input": sent.get("input", sent.get("inputs"))}))

    stub.plays(any_of)
    vectors = embedder(stub, url=f"http://127.0.0.1:{stub.port}{path}", **options).embed(TEXTS)
    assert np.array_equal(vectors, units(TEXTS))
    asked, headers, sent = stub.asked[0]
    assert sent == body and headers["Authorization"] == f"Bearer {KEY}"
    assert asked == path.rstrip("/") + (
        "" if path.partition("?")[0].endswith(("embeddings", "embed", "ions")) else "/embeddings"
    )


def test_azure_takes_its_key_in_a_header_of_its_own(stub: Stub) -> None:
    embedder(stub, headers={"api-key": "azure"}).embed(["x"])
    assert stub.asked[0][1]["api-key"] == "azure" and "Authorization" not in stub.asked[0][1]


@pytest.mark.parametrize("form", ["embeddings", "predictions", None])
def test_the_replies_of_other_dialects(stub: Stub, form: str | None) -> None:
    found = rows(TEXTS).tolist()
    stub.plays(says(200, found if form is None else {form: found}))
    assert np.array_equal(embedder(stub).embed(TEXTS), units(TEXTS))


def test_batches_are_bounded_in_texts_and_characters(stub: Stub) -> None:
    texts = [f"text {i}" for i in range(20)] + ["x" * 24_000] * 20
    told: list[int] = []
    vectors = embedder(stub, batch=8, parallel=1).embed(texts, progress=told.append)
    assert np.array_equal(vectors, units(texts))
    sizes = [body["input"] for _, _, body in stub.asked]
    assert all(len(b) <= 8 and sum(map(len, b)) <= 200_000 for b in sizes) and sum(map(len, sizes)) == len(texts)
    assert told == sorted(told) and told[-1] == len(texts)


def test_it_is_asked_again_as_the_server_says(stub: Stub) -> None:
    clock = FakeClock()
    began = clock.monotonic()
    stub.plays(error(429, "slow down"), says(429, {}, Retry_After="7"), says(503, b"<html>"), normal)
    assert np.array_equal(embedder(stub, clock=clock).embed(["x"]), units(["x"]))
    assert clock.monotonic() - began == pytest.approx(0.5 + 7 + 2) and len(stub.asked) == 4


@pytest.mark.parametrize(
    ("script", "kind", "says"),
    [
        (says(500, {}), Unavailable, "HTTP 500; nothing that is done is lost"),
        (says(429, {}, Retry_After="3600"), Unavailable, "HTTP 429"),
        (error(401, f"bad key {KEY}"), Unauthorized, r"refuses the key \(HTTP 401\)"),
        (says(404, {}), AdapterError, "HTTP 404"),
        (
            error(400, f"no such parameter: dimensions ({KEY})"),
            RequestError,
            r"no such parameter: dimensions \(\*\*\*\)",
        ),
        (says(200, b"<html>"), AdapterError, "not JSON"),
        (says(200, {"data": []}), AdapterError, "0 vectors for 1 texts"),
        (says(200, {"hello": 1}), AdapterError, "no vectors"),
        (says(200, {"data": [{"index": 1, "embedding": [1.0]}]}), AdapterError, "no vectors"),
        (says(200, {"data": [{"index": 0, "embedding": [1.0] * 8}]}), AdapterError, "makes vectors of 8 numbers, and"),
        (says(200, [[0.0] * DIMENSION]), AdapterError, "zeros"),
        (says(200, [[float("nan")] * DIMENSION]), AdapterError, "no number"),
        (says(200, ["not base64"]), AdapterError, "a vector that is none"),
        (says(200, [{"a": 1}]), AdapterError, "a vector that is none"),
    ],
)
def test_what_goes_wrong_is_one_clear_line(stub: Stub, script: Script, kind: type[ModelyardError], says: str) -> None:
    stub.plays(script)
    with pytest.raises(kind, match=says) as found:
        embedder(stub).embed(["x"])
    assert KEY not in str(found.value) and "127.0.0.1" not in str(found.value) and "\n" not in str(found.value)


def test_a_dead_endpoint_is_unavailable(stub: Stub) -> None:
    stub.close()
    with pytest.raises(Unavailable, match=r"m: the embeddings endpoint cannot be reached \(ConnectError\)") as found:
        embedder(stub).embed(["x"])
    assert found.value.status == 503 and found.value.exit_code == 7 and found.value.retry


def test_what_is_too_long_is_cut_and_what_is_too_much_is_split(stub: Stub) -> None:
    """A server that takes 3 texts a request and 500 characters a text."""

    def narrow(handler: Handler, body: dict[str, Any]) -> None:
        if len(body["input"]) > 3:
            error(422, "batch size 8 > maximum allowed batch size 3")(handler, body)
        elif max(map(len, body["input"])) > 500:
            error(413, "Input validation error: `inputs` must have less than 512 tokens")(handler, body)
        else:
            normal(handler, body)

    stub.plays(narrow)
    texts = ["short", "y" * 1600, "z" * 40_000, "a", "b", "c", "d", "e"]
    vectors = embedder(stub).embed(texts)
    assert np.array_equal(vectors, units(["short", "y" * 400, "z" * 375, "a", "b", "c", "d", "e"]))
    assert np.array_equal(embedder(stub).embed(texts[1:2]), vectors[1:2])


def test_an_interrupt_ends_the_waiting(stub: Stub) -> None:
    stub.plays(normal, says(503, {}, Retry_After="20"))

    def stop(done: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        embedder(stub, batch=1, parallel=1, retries=10**6).embed([str(i) for i in range(50)], progress=stop)
    assert not [t for t in threading.enumerate() if t.name.startswith("embed")]


def test_where_it_is_served_is_no_part_of_what_it_is(stub: Stub) -> None:
    one = embedder(stub)
    assert one.digest == embedder(stub, url="https://elsewhere/v1", key="k2", batch=3, encoding="base64").digest
    for other in ({"name": "n"}, {"dimension": 8}, {"shorten": True}, {"max_characters": 9}):
        assert embedder(stub, **other).digest != one.digest
    assert KEY not in repr(one) and one.members() == {}


PROJECT = """
name: yard
chatbot:
  embedder: {{kind: openai, url: "{url}", model: m, dimension: 256, key: env:THE_KEY, retries: 0, batch: 2}}
gate: {{floors: {{citation_validity: 0.0, abstention_recall: 0.0}}}}
"""


def test_a_project_whose_endpoint_dies_goes_on_when_it_is_back(
    stub: Stub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THE_KEY", KEY)
    (tmp_path / "documents").mkdir()
    (tmp_path / "modelyard.yml").write_text(PROJECT.format(url=stub.url))
    for n in range(3):
        (tmp_path / "documents" / f"{n}.md").write_text(f"# Pier {n}\n\nPier {n} has {n + 3} boats, and is open.\n")
    stub.plays(normal, says(503, {}))
    with api.open(tmp_path) as project, pytest.raises(Unavailable, match="once it answers, do the same again"):
        project.run()
    stub.plays(normal)
    with api.open(tmp_path) as project:
        release = project.run().release
        assert release is not None and "boats" in project.ask("How many boats has pier 2?")["answer"]
        shown = json.dumps(release.manifest.to_json())
        assert '"model": "m"' in shown and "127.0.0.1" not in shown and "THE_KEY" not in shown
        stub.plays(says(503, {}))
        with pytest.raises(Unavailable, match="m: the embeddings endpoint answers HTTP 503"):
            project.ask("How many boats has pier 1?")
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or KEY.encode() not in path.read_bytes(), path
    monkeypatch.delenv("MODELYARD_EMBED_URL", raising=False)
    folder = tmp_path / ".modelyard" / "store" / "releases" / release.id
    with pytest.raises(UserError, match="set MODELYARD_EMBED_URL"):
        open_release(folder)
    stub.plays(normal)
    monkeypatch.setenv("MODELYARD_EMBED_URL", stub.url)
    open_release(folder).close()
