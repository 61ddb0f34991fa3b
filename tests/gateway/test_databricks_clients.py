"""Databricks' own clients, unmodified, against a gateway on this machine: each in a process of its own, with nothing
but its environment set."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from town import Town

from modelyard.ports.records import Decision

TOKEN = "dapi0123456789abcdef0123456789abcdef"

SDK = """
import json, sys
from databricks.sdk import WorkspaceClient
from databricks.sdk.errors import NotFound, PermissionDenied, ResourceAlreadyExists, BadRequest
from databricks.sdk.service.serving import (
    ChatMessage, ChatMessageRole, EndpointCoreConfigInput, EndpointTag, Route, ServedEntityInput, TrafficConfig)
w = WorkspaceClient()
api = w.serving_endpoints
def entity(version, **more):
    return ServedEntityInput(entity_name="main.default.town", entity_version=version, workload_size="Small",
                             scale_to_zero_enabled=True, **more)
def asked(error, call, *args, **named):
    try:
        call(*args, **named)
    except error as e:
        return str(e)
    raise AssertionError(f"no {error.__name__}")
own = api.get("town")
made = api.create_and_wait("desk", config=EndpointCoreConfigInput(name="desk", served_entities=[entity("1")]),
                           tags=[EndpointTag("team", "ops")])
first = api.query("desk", messages=[ChatMessage(role=ChatMessageRole.USER, content="hello")], client_request_id="mine")
moved = api.update_config_and_wait("desk", served_entities=[entity("1"), entity("2", name="new")],
    traffic_config=TrafficConfig(routes=[Route(served_model_name="town-1", traffic_percentage=0),
                                         Route(served_model_name="new", traffic_percentage=100)]))
second = api.query("desk", messages=[ChatMessage(role=ChatMessageRole.USER, content="hello")])
rows = api.query("desk", dataframe_records=[{"messages": [{"role": "user", "content": "row"}]}])
tags = api.patch("desk", add_tags=[EndpointTag("stage", "test")], delete_tags=["team"])
found = {
    "own": [own.state.ready.value, own.config.served_entities[0].entity_version, own.creator],
    "listed": sorted(e.name for e in api.list()),
    "made": [made.state.ready.value, made.state.config_update.value, made.config.served_entities[0].name,
             made.config.served_entities[0].entity_name, made.config.traffic_config.routes[0].traffic_percentage,
             made.config.served_entities[0].state.deployment.value, made.tags[0].value],
    "first": [first.choices[0].message.content, first.served_model_name],
    "moved": [[r.served_model_name, r.traffic_percentage] for r in moved.config.traffic_config.routes],
    "second": [second.choices[0].message.content, second.served_model_name],
    "rows": [rows.predictions[0]["answer"], rows.served_model_name],
    "tags": {t.key: t.value for t in tags.tags},
    "openapi": "/serving-endpoints/desk/invocations" in json.load(api.get_open_api("desk").contents)["paths"],
    "metrics": b'endpoint="desk"' in api.export_metrics("desk").contents.read(),
    "logs": "ready" in api.logs("desk", "new").logs,
    "taken": asked(ResourceAlreadyExists, api.create, "desk",
                   config=EndpointCoreConfigInput(name="desk", served_entities=[entity("1")])),
    "no version": asked(NotFound, api.create, "other",
                        config=EndpointCoreConfigInput(name="other", served_entities=[entity("9")])),
    "ungated": asked(PermissionDenied, api.update_config, "desk", served_entities=[entity("3")]),
    "variables": asked(BadRequest, api.update_config, "desk",
                       served_entities=[entity("1", environment_vars={"KEY": "hush-hush"})]),
    "own deleted": asked(PermissionDenied, api.delete, "town"),
}
api.delete("desk")
found["gone"] = asked(NotFound, api.get, "desk")
print(json.dumps(found))
"""

MLFLOW = """
import json
from mlflow.deployments import get_deploy_client
client = get_deploy_client("databricks")
entity = {"entity_name": "town", "entity_version": "1", "workload_size": "Small", "scale_to_zero_enabled": True}
made = client.create_endpoint(config={"name": "desk", "config": {"served_entities": [entity]}})
updated = None
for _ in range(300):
    state = client.get_endpoint("desk").state
    if state["config_update"] == "NOT_UPDATING" and updated is None:
        updated = client.update_endpoint_config("desk", {"served_entities": [{**entity, "entity_version": "2"}]})
    elif state["config_update"] == "NOT_UPDATING" and client.get_endpoint("desk").config["served_entities"][0][
            "entity_version"] == "2":
        break
    import time; time.sleep(0.05)
chat = client.predict(endpoint="desk", inputs={"messages": [{"role": "user", "content": "hello"}]})
rows = client.predict(endpoint="desk", inputs={"dataframe_records": [{"messages": [{"role": "user", "content": "r"}]}]})
stream = list(client.predict_stream(endpoint="desk", inputs={"messages": [{"role": "user", "content": "hello"}]}))
tags = client.update_endpoint_tags("desk", {"add_tags": [{"key": "a", "value": "b"}]})
found = {
    "made": made["state"]["config_update"],
    "chat": chat["choices"][0]["message"]["content"],
    "rows": rows["predictions"][0]["answer"],
    "stream": "".join(c["choices"][0]["delta"].get("content", "") for c in stream if c["choices"]),
    "tags": tags["tags"],
    "listed": sorted(e["name"] for e in client.list_endpoints()),
    "deleted": dict(client.delete_endpoint("desk")),
    "left": sorted(e["name"] for e in client.list_endpoints()),
}
print(json.dumps(found))
"""

OPENAI = """
import json, warnings
warnings.simplefilter("ignore")
from databricks.sdk import WorkspaceClient
import openai
client = WorkspaceClient().serving_endpoints.get_open_ai_client()
ask = dict(model="town", messages=[{"role": "user", "content": "hello"}])
whole = client.chat.completions.create(**ask)
stream = client.chat.completions.create(**ask, stream=True)
said = "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)
try:
    client.chat.completions.create(**{**ask, "model": "nobody"})
except openai.NotFoundError as e:
    missing = e.message
print(json.dumps({"whole": whole.choices[0].message.content, "stream": said, "missing": missing}))
"""


def run(script: str, url: str, home: Path) -> dict[str, Any]:
    """What a script prints that uses a client as its documentation has it."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    env = {**kept, "DATABRICKS_HOST": url, "DATABRICKS_TOKEN": TOKEN, "HOME": str(home)}
    env |= {"NO_PROXY": "*", "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=env, cwd=home)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.fixture
def versions(town: Town) -> list[str]:
    """Three releases: versions 1 and 2 passed the gate, 3 was never judged; the first is champion."""
    found = []
    for number, prefix in enumerate(("one: ", "two: ", "three: "), 1):
        release = town.release(prefix)
        town.ledger.set_version(release, number)
        if number < 3:
            town.ledger.add_decision(Decision("gate", "pass", ("good",), {"evidence": {"release": release}}))
        found.append(release)
    town.point(found[0])
    return found


def test_databricks_sdk(town: Town, versions: list[str], tmp_path: Path) -> None:
    with town.gateway() as gateway:
        gateway.until_ready()
        found = run(SDK, gateway.url, tmp_path)
    assert found["own"] == ["READY", "1", "test"]
    assert found["listed"] == ["desk", "town"]
    assert found["made"] == ["READY", "NOT_UPDATING", "town-1", "main.default.town", 100, "DEPLOYMENT_READY", "ops"]
    assert found["first"] == ["one: hello", "town-1"]
    assert found["moved"] == [["town-1", 0], ["new", 100]]
    assert found["second"] == ["two: hello", "new"] and found["rows"] == ["two: row", "new"]
    assert found["tags"] == {"stage": "test"}
    assert found["openapi"] and found["metrics"] and found["logs"]
    assert "already" in found["taken"] and "version 9" in found["no version"] and "never judged" in found["ungated"]
    assert "environment_vars" in found["variables"] and "hush-hush" not in found["variables"]
    assert "project's own" in found["own deleted"] and "no endpoint" in found["gone"]
    moves = [(move.who, move.why) for move in town.ledger.history("desk")]
    assert ("anonymous", "serving-endpoints: town-1 0 %, new 100 %") in moves


def test_mlflow_deployments(town: Town, versions: list[str], tmp_path: Path) -> None:
    with town.gateway() as gateway:
        gateway.until_ready()
        found = run(MLFLOW, gateway.url, tmp_path)
    assert found == {
        "made": "IN_PROGRESS",
        "chat": "two: hello",
        "rows": "two: r",
        "stream": "two: hello",
        "tags": [{"key": "a", "value": "b"}],
        "listed": ["desk", "town"],
        "deleted": {},
        "left": ["town"],
    }


def test_databricks_openai_client(town: Town, versions: list[str], tmp_path: Path) -> None:
    with town.gateway() as gateway:
        gateway.until_ready()
        found = run(OPENAI, gateway.url, tmp_path)
    assert found["whole"] == found["stream"] == "one: hello" and "no endpoint of that name" in found["missing"]
