"""Guards by configuration: the same is stopped by the gateway, by mlflow.pyfunc and by MLflow's own server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from town import Town

from modelyard.adapters.guard_length import LengthGuard
from modelyard.adapters.guard_pattern import PatternGuard
from modelyard.adapters.registry_mlflow import MlflowRegistry
from modelyard.errors import AnswerStopped, ProjectError, RequestStopped, UserError
from modelyard.ports.workload import Response
from modelyard.project.load import load
from modelyard.wiring import open_release

# The adapter comes first: it sets MLflow's switches.
import mlflow  # isort: skip
from mlflow.pyfunc import scoring_server
from starlette.testclient import TestClient

SECTION = """
guards:
  length: {request: 50}
  patterns:
    - {name: keys, deny: ['sk-[a-z0-9]{8}'], reason: keys are not for chats}
    - {deny: ['(?i)forget'], where: [request]}
    - {deny: ['42'], where: [answer]}
"""
STOPPED = {
    "x" * 51: "the guard length stopped the request: it has 55 characters, and 50 are allowed",
    "my key is sk-abcdefgh": "the guard keys stopped the request: keys are not for chats",
    "FORGET all of that": "the guard pattern stopped the request: it holds what is not allowed here",
    "what is 40 plus 2": "",
    "say 42": "the guard pattern stopped the answer: it holds what is not allowed here",
}


def asked(question: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": question}]}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Town:
    return Town(tmp_path_factory.mktemp("town"))


@pytest.fixture(scope="module")
def release(place: Town) -> str:
    (place.root / "modelyard.yml").write_text("name: town\nworkload: echo\n" + SECTION)
    made = place.release("You said: ", "echo", guards=load(place.root).config.guards.policy())
    place.point(made)
    return made


def test_the_gateway_stops_it(place: Town, release: str) -> None:
    with place.gateway() as gateway:
        gateway.until_ready(release)
        for question, why in STOPPED.items():
            replies = [gateway.ask(question), gateway.http.post("/invocations", json=asked(question))]
            assert [r.status_code for r in replies] == ([400, 400] if why else [200, 200])
            if why:
                error = replies[0].json()["error"]
                assert error["message"] == why and error["code"] == "content_filter"
                assert replies[1].json() == {"error_code": "INVALID_PARAMETER_VALUE", "message": why}
                streamed = gateway.ask(question, stream=True)
                assert streamed.status_code == 400 and question not in streamed.text


def test_mlflow_stops_the_same(place: Town, release: str) -> None:
    registry = MlflowRegistry(place.root / "mlflow.db", place.root / "artifacts", "town")
    folder = place.layout.releases / release
    with registry.run("run") as run, run.step("build") as step:
        entry = registry.log_release(step, "town", folder, release, {}, frozenset({"messages"}))
    mlflow.set_tracking_uri(registry.uri)
    model = mlflow.pyfunc.load_model(f"models:/town/{entry.version}")
    with TestClient(scoring_server.init(model)) as client:
        for question, why in STOPPED.items():
            reply = client.post("/invocations", json=asked(question))
            if why:
                with pytest.raises((RequestStopped, AnswerStopped)) as caught:
                    model.predict(asked(question))
                assert str(caught.value) == why
                assert reply.status_code == 400 and why in reply.text
            else:
                assert model.predict(asked(question))[0]["answer"] == f"You said: {question}"
                assert reply.status_code == 200


def test_guards_are_part_of_what_a_release_is(place: Town, release: str) -> None:
    assert place.release("You said: ", "echo") != release
    with open_release(place.layout.releases / release) as opened:
        assert [guard["kind"] for guard in opened.manifest.guards] == ["length", "pattern", "pattern", "pattern"]
    newer = place.release("You said: ", "echo", guards=({"kind": "mind-reader"},))
    with pytest.raises(UserError, match="'mind-reader' is not known to this modelyard"):
        open_release(place.layout.releases / newer)


@pytest.mark.parametrize(
    ("section", "says"),
    [
        ("guards: {patterns: [{deny: ['(']}]}", "is no regular expression"),
        ("guards: {patterns: [{deny: []}]}", "guards.patterns.0.deny"),
        ("guards: {patterns: [{deny: [a], where: [answers]}]}", "'request' or 'answer'"),
        ("guards: {lenght: {request: 5}}", "did you mean length"),
        ("guards: {length: {request: 0}}", "guards.length.request"),
    ],
)
def test_a_policy_that_is_none_is_one_line(tmp_path: Path, section: str, says: str) -> None:
    (tmp_path / "modelyard.yml").write_text(f"name: town\nworkload: echo\n{section}\n")
    with pytest.raises(ProjectError, match=says) as caught:
        load(tmp_path)
    assert "\n" not in str(caught.value)


def test_what_an_answer_quotes_is_looked_at_as_well() -> None:
    guard = PatternGuard(["secret"], ["answer"])
    quoting = Response("see page 3", {"citations": [{"quote": "a secret of the house"}]})
    assert guard.response({}, quoting) and not guard.request({"messages": ["secret"]})
    assert guard.answers and not PatternGuard(["secret"], ["request"]).answers
    assert LengthGuard(answer=5).response({}, Response("123456", {})) and not LengthGuard(answer=5).request(
        {"a": "x" * 9}
    )
