"""`modelyard release promote|rollback|rollouts|history` of endpoints that were created over the control plane: the
command itself, on a gateway that serves."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from town import Gateway, Town, eventually
from yard import configured, examined, judged, serving

API = "/api/2.0/serving-endpoints"
ROLLOUT = """
rollout:
  shadow: false
  steps: [50, 100]
  margins: {errors: 0.5, refused: 0.5, latency: 1.0, abstained: 0.5, feedback: 0.5}
  min_units: 10
  settle: 200ms
  look_every: 200ms
"""


class Yard:
    """A gateway, and two releases that passed the gate; the first is champion of the project's own endpoint."""

    def __init__(self, town: Town, gateway: Gateway, old: str, new: str) -> None:
        self.town, self.gateway, self.old, self.new = town, gateway, old, new

    def endpoint(self, name: str) -> str:
        """A new one, that serves the old release."""
        config = {"served_entities": [{"entity_name": "town", "entity_version": self.old}]}
        assert self.gateway.http.post(API, json={"name": name, "config": config}).status_code == 200
        ready = {"ready": "READY", "config_update": "NOT_UPDATING"}
        eventually(lambda: self.gateway.http.get(f"{API}/{name}").json()["state"] == ready, f"{name} to be ready")
        return name

    def answers(self, endpoint: str, unit: str = "u") -> str:
        body = {"messages": [{"role": "user", "content": "hello"}]}
        reply = self.gateway.http.post(
            f"/serving-endpoints/{endpoint}/invocations", json=body, headers={"x-conversation-id": unit}
        )
        assert reply.status_code == 200, reply.text
        return str(reply.headers["modelyard-release"])

    @contextmanager
    def traffic(self, endpoint: str) -> Iterator[None]:
        stop = threading.Event()

        def ask() -> None:
            number = 0
            while not stop.is_set():
                self.answers(endpoint, str(number := number + 1))

        thread = threading.Thread(target=ask)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def does(self, *words: str, code: int = 0) -> Any:
        """What `modelyard release ...` says, as JSON where it did it."""
        command = [sys.executable, "-m", "modelyard", "release", *words, "--json", "-C", str(self.town.root)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == code, done.stderr
        return json.loads(done.stdout) if code == 0 else done.stderr

    def untouched(self) -> bool:
        """Whether the project's own endpoint is where it was."""
        return len(self.town.ledger.history("town")) == 1


@pytest.fixture(scope="module")
def yard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Yard]:
    town = Town(tmp_path_factory.mktemp("town"))
    configured(town, ROLLOUT)
    examined(town)
    old, new = judged(town, "old: "), judged(town, "new: ")
    town.point(old)
    with serving(town) as gateway:
        yield Yard(town, gateway, old, new)
    town.ledger.close()


def test_a_release_is_promoted_there_and_rolled_back(yard: Yard) -> None:
    name = yard.endpoint("plain")
    done = yard.does("promote", yard.new, name)
    assert (done["release"], done["before"]) == (yard.new, yard.old)
    eventually(lambda: yard.answers(name) == yard.new, "the new one to answer")
    shown = yard.gateway.http.get(f"{API}/{name}").json()["config"]["served_entities"]
    assert [one["entity_version"] for one in shown if one["name"].endswith(yard.new[:12])]
    assert yard.does("rollback", name, "--why", "enough")["release"] == yard.old
    eventually(lambda: yard.answers(name) == yard.old, "the old one to answer")
    assert yard.does("history", name)[0]["why"] == "enough"
    assert yard.untouched()


def test_a_canary_there_goes_all_the_way(yard: Yard) -> None:
    name = yard.endpoint("good")
    with yard.traffic(name):
        started = yard.does("promote", yard.new, name, "--canary")
        assert (started["endpoint"], started["challenger"], started["state"]) == (name, yard.new, "running")
        eventually(lambda: yard.does("rollouts", name)[0]["state"] == "promoted", "the promotion")
    assert yard.answers(name, "somebody new") == yard.new
    assert {move["who"] for move in yard.does("history", name)} >= {"gateway"}
    assert yard.does("rollouts") == [] and yard.untouched()


def test_a_canary_there_is_told_of_and_taken_back(yard: Yard) -> None:
    name = yard.endpoint("doubtful")
    yard.does("promote", yard.new, name, "--canary")

    def looked() -> Any:
        [found] = yard.does("rollouts", name)
        return found if found["last"] and found["tests"] else None

    found = eventually(looked, "a look at it")
    assert found["last"]["verdict"] == "abstain" and {test["test"] for test in found["tests"]} >= {"errors", "refused"}
    assert yard.does("rollouts") == []
    back = yard.does("rollback", name)
    assert back["release"] == yard.old and "was on its way" in back["warnings"][0]
    assert yard.does("rollouts", name)[0]["state"] == "reverted" and yard.untouched()


def test_a_rollback_there_is_drilled(yard: Yard) -> None:
    name = yard.endpoint("drilled")
    assert "no previous release of drilled" in yard.does("rollback", name, "--drill", code=2)
    yard.does("promote", yard.new, name)
    done = yard.does("rollback", name, "--drill")
    assert (done["release"], done["champion"]) == (yard.old, yard.new)
    assert (done["answered"], done["failures"]) == (1, []) and done["pointer_ms"] > 0
    assert yard.gateway.http.post("/ops/api/drill", json={"endpoint": name}).json()["release"] == yard.old
    assert yard.gateway.http.post("/ops/api/drill", json={"endpoint": "nobody"}).status_code == 404
    assert yard.town.ledger.pointers(name).champion == yard.new and yard.untouched()


@pytest.mark.parametrize(
    "words", [("promote", "champion"), ("promote", "champion", "--canary"), ("rollback",), ("rollouts",), ("history",)]
)
def test_an_endpoint_that_is_not_there_is_one_line(yard: Yard, words: tuple[str, ...]) -> None:
    said = yard.does(*words[:2], "nobody", *words[2:], code=2)
    assert said.strip() == "modelyard: there is no endpoint 'nobody' in test"
