"""The control plane on a gateway that serves, by plain HTTP: states, refusals, shares, restarts. Real processes."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from town import Gateway, Town, eventually

from modelyard.adapters.ledger_endpoints import SqliteEndpoints
from modelyard.adapters.rollouts_sqlite import SqliteRollouts
from modelyard.adapters.tokens_sqlite import SqliteTokens
from modelyard.clock import SystemClock
from modelyard.gateway.control_desk import Desk
from modelyard.lifecycle.canary import policy_of
from modelyard.lifecycle.tokens import create as create_token
from modelyard.ports.records import Decision, Pointers, Rollout
from modelyard.project.model import Rollout as Policy
from modelyard.serving.log import replay
from modelyard.serving.rows import ACCEPTED, Accepted, decode, kind_and_key

API = "/api/2.0/serving-endpoints"
HELLO = {"messages": [{"role": "user", "content": "hello"}]}


def entity(version: str, **more: Any) -> dict[str, Any]:
    return {"entity_name": "town", "entity_version": version, **more}


def config(*versions: str, shares: dict[str, int] | None = None) -> dict[str, Any]:
    found: dict[str, Any] = {"served_entities": [entity(version) for version in versions]}
    if shares is not None:
        routes = [{"served_model_name": f"town-{v}", "traffic_percentage": p} for v, p in shares.items()]
        found["traffic_config"] = {"routes": routes}
    return found


class Office:
    """A project whose releases passed the gate, and who talks to its gateway's control plane."""

    def __init__(self, town: Town) -> None:
        self.town = town
        self.versions: list[str] = []

    def release(self, prefix: str, verdict: str | None = "pass") -> str:
        """The version of a new release."""
        release = self.town.release(prefix, state="built")
        self.versions.append(release)
        self.town.ledger.set_version(release, len(self.versions))
        if verdict is not None:
            self.town.ledger.add_decision(Decision("gate", verdict, ("so",), {"evidence": {"release": release}}))
        return str(len(self.versions))

    def altered(self, prefix: str) -> str:
        """The version of a release that somebody changed on disk."""
        version = self.release(prefix)
        member = self.town.layout.releases / self.versions[-1] / "prefix.txt"
        member.chmod(0o644)
        member.write_text("something else: ")
        return version


@pytest.fixture
def office(town: Town) -> Office:
    made = Office(town)
    made.release("one: ")
    made.release("two: ")
    town.point(made.versions[0])
    return made


def settled(gateway: Gateway, name: str) -> dict[str, Any]:
    """The endpoint once no update is under way."""

    def look() -> dict[str, Any] | None:
        found: dict[str, Any] = gateway.http.get(f"{API}/{name}").json()
        return found if found["state"]["config_update"] != "IN_PROGRESS" else None

    done: dict[str, Any] = eventually(look, f"{name} to be settled", gateway.process)
    return done


def accepted(town: Town) -> list[Accepted]:
    """What its gateway, which has ended, let in."""
    found = []
    for raw in replay(town.layout.record):
        kind, key = kind_and_key(memoryview(raw))
        if kind == ACCEPTED:
            fields, _, body = decode(memoryview(raw))
            found.append(Accepted(key.hex(), *fields, body))
    return found


def query(gateway: Gateway, name: str, **more: Any) -> httpx.Response:
    return gateway.http.post(f"/serving-endpoints/{name}/invocations", json={**HELLO, **more})


def said(reply: httpx.Response) -> str:
    assert reply.status_code == 200, reply.text
    return str(reply.json()["choices"][0]["message"]["content"])


def shares(found: dict[str, Any]) -> dict[str, int]:
    routes = found["config"]["traffic_config"]["routes"]
    return {route["served_model_name"]: route["traffic_percentage"] for route in routes}


def test_shares_are_kept_to_and_an_entity_can_be_asked_for(office: Office) -> None:
    with office.town.gateway() as gateway:
        gateway.until_ready()
        reply = gateway.http.put(f"{API}/town/config", json=config("1", "2", shares={"1": 50, "2": 50}))
        assert reply.status_code == 200
        assert shares(settled(gateway, "town")) == {"town-1": 50, "town-2": 50}
        asked = {user: [query(gateway, "town", user=user) for _ in range(2)] for user in map(str, range(40))}
        names = {user: {reply.headers["served-model-name"] for reply in replies} for user, replies in asked.items()}
        assert all(len(one) == 1 for one in names.values())  # who had one keeps it
        assert set.union(*names.values()) == {"town-1", "town-2"}
        assert all(
            said(replies[0])[:3] == {"town-1": "one", "town-2": "two"}[next(iter(names[user]))]
            for user, replies in asked.items()
        )
        # A configuration that only moves traffic; the other one stays warm, and can be asked for.
        routes = {"routes": [{"served_model_name": "town-2", "traffic_percentage": 100}]}
        gateway.http.put(f"{API}/town/config", json={"traffic_config": routes})
        assert shares(settled(gateway, "town")) == {"town-1": 0, "town-2": 100}
        assert said(query(gateway, "town")) == "two: hello"
        one = gateway.http.post("/serving-endpoints/town/served-models/town-1/invocations", json=HELLO)
        assert said(one) == "one: hello" and one.headers["served-model-name"] == "town-1"
        none = gateway.http.post("/serving-endpoints/town/served-models/nobody/invocations", json=HELLO)
        assert (none.status_code, none.json()["error_code"]) == (404, "RESOURCE_DOES_NOT_EXIST")
        assert said(gateway.http.post("/v1/chat/completions", json=HELLO)) == "two: hello"
    pointers = office.town.ledger.pointers("town")
    assert (pointers.champion, pointers.previous) == (office.versions[1], office.versions[0])
    assert office.town.ledger.release(office.versions[1]).state == "passed"


def test_one_update_at_a_time_and_what_does_not_start_changes_nothing(office: Office) -> None:
    slow, dead = office.release("takes 0.8"), office.altered("four: ")
    with office.town.gateway() as gateway:
        gateway.until_ready()
        gateway.http.post(API, json={"name": "desk", "config": config("1")})
        assert settled(gateway, "desk")["state"] == {"ready": "READY", "config_update": "NOT_UPDATING"}
        begun = gateway.http.put(f"{API}/desk/config", json=config(slow)).json()
        assert begun["state"] == {"ready": "READY", "config_update": "IN_PROGRESS"}
        assert begun["pending_config"]["served_entities"][0]["state"]["deployment"] == "DEPLOYMENT_CREATING"
        again = gateway.http.put(f"{API}/desk/config", json=config("2"))
        assert (again.status_code, again.json()["error_code"]) == (409, "RESOURCE_CONFLICT")
        assert said(query(gateway, "desk")) == "one: hello"
        assert shares(settled(gateway, "desk")) == {f"town-{slow}": 100}
        assert said(query(gateway, "desk")) == "takes 0.8hello"

        gateway.http.put(f"{API}/desk/config", json=config(slow, dead, shares={slow: 50, dead: 50}))
        failed = settled(gateway, "desk")
        assert failed["state"] == {"ready": "READY", "config_update": "UPDATE_FAILED"}
        states = {e["name"]: e["state"] for e in failed["pending_config"]["served_entities"]}
        assert states[f"town-{dead}"]["deployment"] == "DEPLOYMENT_FAILED"
        assert "not what its digest says" in states[f"town-{dead}"]["deployment_state_message"]
        assert shares(failed) == {f"town-{slow}": 100} and said(query(gateway, "desk")) == "takes 0.8hello"
        logs = gateway.http.get(f"{API}/desk/served-models/town-{dead}/logs").json()["logs"]
        assert "not what its digest says" in logs
        assert gateway.http.put(f"{API}/desk/config", json=config("2")).status_code == 200
        assert settled(gateway, "desk")["state"]["config_update"] == "NOT_UPDATING"
        assert said(query(gateway, "desk")) == "two: hello"

        gateway.http.post(API, json={"name": "dead", "config": config(dead)})
        assert settled(gateway, "dead")["state"] == {"ready": "NOT_READY", "config_update": "UPDATE_FAILED"}
        assert query(gateway, "dead").status_code == 503
        gateway.http.put(f"{API}/dead/config", json=config("1"))
        assert settled(gateway, "dead")["state"] == {"ready": "READY", "config_update": "NOT_UPDATING"}


def test_no_request_fails_while_shares_move_and_workers_die(office: Office) -> None:
    bad = office.altered("four: ")
    seen: list[tuple[int, str | None]] = []
    with office.town.gateway() as gateway:
        gateway.until_ready()
        gateway.http.post(API, json={"name": "desk", "config": config("1")})
        settled(gateway, "desk")
        stop = threading.Event()

        def ask(client: int) -> None:
            with httpx.Client(base_url=gateway.url, timeout=60, trust_env=False) as http:
                while not stop.is_set():
                    body = {**HELLO, "user": f"{client}-{len(seen)}"}
                    reply = http.post("/serving-endpoints/desk/invocations", json=body)
                    seen.append((reply.status_code, reply.headers.get("served-model-name")))

        clients = [threading.Thread(target=ask, args=(number,)) for number in range(2)]
        for client in clients:
            client.start()
        for wanted in ({"1": 50, "2": 50}, {"2": 100}, {"2": 60, bad: 40}, {"1": 10, "2": 90}):
            oldest = min(gateway.workers())  # which has started: a release whose workers never do is given up
            gateway.http.put(f"{API}/desk/config", json=config(*wanted, shares=wanted))
            with contextlib.suppress(ProcessLookupError):  # it may have been let go just now
                os.kill(oldest, signal.SIGKILL)
            state = settled(gateway, "desk")["state"]["config_update"]
            assert state == ("UPDATE_FAILED" if bad in wanted else "NOT_UPDATING")
        stop.set()
        for client in clients:
            client.join()
    assert {status for status, _ in seen} == {200} and {name for _, name in seen} == {"town-1", "town-2"}
    rows = [row for row in accepted(office.town) if row.endpoint == "desk"]
    assert len(rows) == len(seen)  # and each is on record


def test_what_is_refused_is_one_line_with_its_code(office: Office) -> None:
    ungated, weak, bad = office.release("3", None), office.release("4", "abstain"), office.release("5", "fail")
    with office.town.gateway() as gateway:
        gateway.until_ready()
        cases: list[tuple[str, str, Any, int, str]] = [
            ("POST", API, {"name": "town", "config": config("1")}, 400, "RESOURCE_ALREADY_EXISTS"),
            ("POST", API, {"name": "a b", "config": config("1")}, 400, "INVALID_PARAMETER_VALUE"),
            ("POST", API, {"name": "a"}, 400, "INVALID_PARAMETER_VALUE"),
            ("POST", API, {"name": "a", "config": config("77")}, 404, "RESOURCE_DOES_NOT_EXIST"),
            ("POST", API, {"name": "a", "config": config(ungated)}, 403, "PERMISSION_DENIED"),
            ("POST", API, {"name": "a", "config": config(bad)}, 403, "PERMISSION_DENIED"),
            ("PUT", f"{API}/town/config", config("1", "2"), 400, "INVALID_PARAMETER_VALUE"),
            ("PUT", f"{API}/town/config", config("1", "2", shares={"1": 50, "2": 49}), 400, "INVALID_PARAMETER_VALUE"),
            ("PUT", f"{API}/nobody/config", config("1"), 404, "RESOURCE_DOES_NOT_EXIST"),
            ("GET", f"{API}/nobody", None, 404, "RESOURCE_DOES_NOT_EXIST"),
            ("GET", f"{API}/nobody/openapi", None, 404, "RESOURCE_DOES_NOT_EXIST"),
            ("DELETE", f"{API}/nobody", None, 404, "RESOURCE_DOES_NOT_EXIST"),
            ("DELETE", f"{API}/town", None, 403, "PERMISSION_DENIED"),
            ("PUT", f"{API}/town/rate-limits", {"rate_limits": [{"calls": 1}]}, 400, "INVALID_PARAMETER_VALUE"),
            (
                "PUT",
                f"{API}/town/ai-gateway",
                {"guardrails": {"input": {"safety": True}}},
                400,
                "INVALID_PARAMETER_VALUE",
            ),
            ("PATCH", f"{API}/town/tags", {"add_tags": [{"value": "x"}]}, 400, "INVALID_PARAMETER_VALUE"),
            ("POST", "/serving-endpoints/nobody/invocations", HELLO, 404, "RESOURCE_DOES_NOT_EXIST"),
            ("POST", "/serving-endpoints/chat/completions", HELLO, 400, "INVALID_PARAMETER_VALUE"),
            ("POST", "/serving-endpoints/town/invocations", {}, 400, "INVALID_PARAMETER_VALUE"),
            ("POST", "/serving-endpoints/town/invocations", {"stream": False}, 400, "INVALID_PARAMETER_VALUE"),
            ("GET", "/.well-known/databricks-config", None, 404, "RESOURCE_DOES_NOT_EXIST"),
        ]
        for method, path, body, status, code in cases:
            reply = gateway.http.request(method, path, json=body)
            assert (reply.status_code, reply.json()["error_code"]) == (status, code), (method, path, reply.text)
            assert "\n" not in reply.json()["message"]
        usage = {"usage_tracking_config": {"enabled": True}}
        assert gateway.http.put(f"{API}/town/ai-gateway", json=usage).json() == usage
        (town,) = gateway.http.get(API).json()["endpoints"]
        assert (town["name"], town["ai_gateway"]) == ("town", usage)
        # One of which the gate could not tell enough is let in by a person, and said to be unproven.
        assert gateway.http.post(API, json={"name": "a", "config": config(weak)}).status_code == 200
        assert shares(settled(gateway, "a")) == {f"town-{weak}": 100}
    assert office.town.ledger.release(office.versions[int(weak) - 1]).state == "unproven"
    assert office.town.ledger.pointers("town").generation == 1


def test_secrets_are_neither_kept_nor_given_back(office: Office) -> None:
    with office.town.gateway() as gateway:
        gateway.until_ready()
        hidden = entity("2", environment_vars={"KEY": "hush-hush"})
        replies = [
            gateway.http.put(f"{API}/town/config", json={"served_entities": [hidden]}),
            gateway.http.post(API, json={"name": "a", "config": {"served_entities": [hidden]}}),
            gateway.http.get(f"{API}/town"),
        ]
        assert [reply.status_code for reply in replies] == [400, 400, 200]
        assert not any("hush" in reply.text for reply in replies)
    assert not any(b"hush" in path.read_bytes() for path in office.town.layout.state.glob("ledger.db*"))


def test_a_change_by_hand_is_a_move_with_a_name_and_ends_the_rollout(office: Office) -> None:
    town, clock = office.town, SystemClock()
    third = office.release("three: ")
    tokens = SqliteTokens(town.layout.ledger)
    operate, _ = create_token(tokens, clock, "me", name="ops desk", scope="operate")
    ask, _ = create_token(tokens, clock, "me", name="asks")
    tokens.close()
    rollouts = SqliteRollouts(town.layout.ledger)
    old, new = office.versions[0], office.versions[1]
    at, now = town.ledger.pointers("town").generation, "2026-01-01T00:00:00.000Z"
    policy = {**policy_of(Policy()), "steps": [5, 100]}
    started = Rollout("r", "town", old, new, policy, 0, "running", now, now, at, "me")
    rollouts.start(started, Pointers(0, old, new, None, ((old, 95), (new, 5))), "canary", None)
    with town.gateway() as gateway:
        gateway.http.headers["authorization"] = f"Bearer {operate}"
        gateway.until_ready()
        assert shares(gateway.http.get(f"{API}/town").json()) == {"town-1": 95, "town-2": 5}
        gateway.http.put(f"{API}/town/config", json=config("1", third, shares={"1": 80, third: 20}))
        assert shares(settled(gateway, "town")) == {"town-1": 80, f"town-{third}": 20}
        eventually(lambda: rollouts.rollout("r").state == "suspended", "the rollout to be suspended")
        refused = gateway.http.get(API, headers={"authorization": f"Bearer {ask}"})
        assert (refused.status_code, refused.json()["error_code"]) == (403, "PERMISSION_DENIED")
        asked = gateway.http.post(
            "/serving-endpoints/town/invocations", json=HELLO, headers={"authorization": f"Bearer {ask}"}
        )
        assert asked.status_code == 200
    assert "ops desk moved the endpoint" in rollouts.rollout("r").reason
    rollouts.close()
    move = town.ledger.history("town")[0]
    assert (move.who, move.why) == ("ops desk", f"serving-endpoints: town-1 80 %, town-{third} 20 %")
    assert move.decision is not None and town.ledger.decision(move.decision).kind == "admit"


TABLES = """
import json
from standin import StandIn
from modelyard.ports.workload import Invoked


class Seen:
    def invoke(self, body, content_type, call):
        rows = json.loads(body)
        print("a row was scored", flush=True)
        return Invoked(json.dumps({"predictions": sorted(rows)}).encode(), "application/json", 1)

    def close(self):
        pass


class Tables(StandIn):
    accepts = frozenset({"dataframe_split"})

    def load(self, ctx, folder):
        return Seen()
"""


def test_a_scoring_body_goes_through_without_what_databricks_has_beside_it(office: Office) -> None:
    town = office.town
    (town.root / "tables.py").write_text(TABLES)
    town.point(town.release("", workload="tables:Tables"))
    table = {"dataframe_split": {"columns": ["a"], "data": [[1.5]]}}
    with town.gateway() as gateway:
        gateway.until_ready()

        def score(**more: Any) -> httpx.Response:
            return gateway.http.post("/serving-endpoints/town/invocations", json={**table, **more})

        assert score().json() == {"predictions": ["dataframe_split"]}
        reply = score(client_request_id="mine", usage_context={"project": "x"}, params={"k": 1})
        assert reply.json() == {"predictions": ["dataframe_split", "params"]}
        extra = score(extra_params={"top_k": "3"})
        assert (extra.status_code, extra.json()["message"]) == (400, "extra_params: only a chat takes them")
        (name,) = shares(gateway.http.get(f"{API}/town").json())
        logs = f"{API}/town/served-models/{name}/logs"
        eventually(lambda: "a row was scored" in gateway.http.get(logs).json()["logs"], "what the worker wrote")
        document = gateway.http.get(f"{API}/town/openapi").json()
        assert list(document["paths"]) == ["/serving-endpoints/town/invocations"]
    (row,) = [row for row in accepted(town) if row.client_id == "mine"]
    assert (row.endpoint, row.dialect) == ("town", "databricks") and b"usage_context" in (row.request or b"")


@pytest.fixture
def elsewhere(office: Office) -> Iterator[Desk]:
    """Another process that writes endpoints."""
    path = office.town.layout.ledger
    desk = Desk("town", lambda: type(office.town.ledger)(path), lambda: SqliteEndpoints(path), SystemClock())
    yield desk
    desk.close()


def test_a_stream_beside_ends_in_order_when_the_gateway_is_stopped(office: Office) -> None:
    with office.town.gateway(limits={"drain": 0.3}) as gateway:
        gateway.until_ready()
        gateway.http.post(API, json={"name": "desk", "config": config("1")})
        settled(gateway, "desk")
        body = {"messages": [{"role": "user", "content": "slow 400"}], "stream": True}
        with gateway.http.stream("POST", "/serving-endpoints/desk/invocations", json=body) as stream:
            lines = stream.iter_lines()
            next(lines)
            gateway.process.terminate()
            last = [line for line in lines if line][-1]
        assert '"error"' in last and "being stopped" in last
        assert gateway.process.wait(timeout=20) == 0


def test_endpoints_come_and_go_by_whoever_writes_them(office: Office, elsewhere: Desk) -> None:
    with office.town.gateway() as gateway:
        gateway.until_ready()
        elsewhere.create({"name": "desk", "config": config("2")}, "somebody")
        eventually(lambda: query(gateway, "desk").status_code == 200, "it to be served", gateway.process)
        assert said(query(gateway, "desk")) == "two: hello"
        openai = gateway.http.post("/v1/chat/completions", json={**HELLO, "model": "desk"})
        assert (said(openai), openai.json()["model"]) == ("two: hello", "desk")
        assert [model["id"] for model in gateway.http.get("/v1/models").json()["data"]] == ["town", "desk"]
        metrics = gateway.http.get("/metrics").text
        assert 'modelyard_ready{endpoint="desk"} 1.0' in metrics and 'modelyard_ready{endpoint="town"} 1.0' in metrics
        workers = len(gateway.workers())
        slow = httpx.Client(base_url=gateway.url, timeout=30, trust_env=False)
        body = {"messages": [{"role": "user", "content": "slow 40"}], "stream": True}
        with slow.stream("POST", "/serving-endpoints/desk/invocations", json=body) as stream:
            lines = stream.iter_lines()
            next(lines)
            elsewhere.delete("desk", "somebody")
            eventually(lambda: query(gateway, "desk").status_code == 404, "it to be gone", gateway.process)
            assert list(lines)[-2] == "data: [DONE]"  # what it began it ended
        eventually(lambda: len(gateway.workers()) == workers - 1, "its worker to be gone")
        assert said(query(gateway, "town")) == "one: hello"
        for version in ("2", "1"):  # made again at once, under the same name
            gateway.http.delete(f"{API}/desk")
            assert gateway.http.post(API, json={"name": "desk", "config": config(version)}).status_code == 200
            assert settled(gateway, "desk")["state"]["ready"] == "READY"
            assert query(gateway, "desk").headers["served-model-name"] == f"town-{version}"


def test_a_gateway_that_is_killed_leaves_an_update_that_the_next_one_ends(office: Office) -> None:
    slow = office.release("takes 1")
    with office.town.gateway() as gateway:
        gateway.until_ready()
        gateway.http.post(API, json={"name": "desk", "config": config("1")})
        settled(gateway, "desk")
        gateway.http.put(f"{API}/desk/config", json=config(slow, "1", shares={slow: 90, "1": 10}))
        time.sleep(0.3)  # somewhere on the way
        gateway.process.kill()
        gateway.process.wait()
    with office.town.gateway() as gateway:
        gateway.until_ready()
        assert shares(settled(gateway, "desk")) == {f"town-{slow}": 90, "town-1": 10}
        assert {said(query(gateway, "desk", user=str(i))) for i in range(60)} == {"takes 1hello", "one: hello"}
