"""A release as an MLflow model: loaded where there is no project, by every way MLflow loads models."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from modelyard.adapters.registry_mlflow import MlflowRegistry
from modelyard.errors import Damaged, RequestError
from modelyard.lifecycle import artifact
from modelyard.ports.records import Manifest, Snapshot
from modelyard.ports.registry import Logged

# The adapter comes first: it sets MLflow's switches.
import mlflow  # isort: skip
import pandas as pd
from mlflow.pyfunc import scoring_server
from starlette.testclient import TestClient

QUESTION = {"messages": [{"role": "user", "content": "one"}, {"role": "user", "content": "it's 🦊?"}]}


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> tuple[MlflowRegistry, Logged, str, Path]:
    """A release of the echo workload in a registry, as `champion`."""
    home = tmp_path_factory.mktemp("a project é")
    bench = artifact.workbench(home / "releases")
    (bench / "prefix.txt").write_text("You said: ")
    snapshot = Snapshot((), "none")
    artifact.write_snapshot(bench, snapshot)
    manifest = Manifest("echo", 1, artifact.members(bench), snapshot.root, {"prefix": "You said: "})
    folder = artifact.seal(bench, manifest, home / "releases", home / "objects")
    registry = MlflowRegistry(home / "mlflow.db", home / "artifacts", "town")
    with registry.run("run") as run, run.step("build") as step:
        entry = registry.log_release(step, "town", folder, manifest.id, {}, frozenset({"messages"}))
    registry.set_alias("town", "champion", entry.version)
    return registry, entry, manifest.id, folder


@pytest.fixture(scope="module")
def saved(logged: tuple[MlflowRegistry, Logged, str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model as it lies in the artifact store, copied elsewhere: no tracking store knows of the copy."""
    registry, *_ = logged
    (model,) = Path(registry.uri.removeprefix("sqlite:///")).parent.glob("artifacts/models/*/artifacts")
    return Path(shutil.copytree(model, tmp_path_factory.mktemp("elsewhere") / "model"))


@pytest.fixture(scope="module")
def model(saved: Path) -> Any:
    return mlflow.pyfunc.load_model(str(saved))


def check(answer: dict[str, Any], release: str, text: str = "You said: it's 🦊?") -> None:
    assert answer["answer"] == text and answer["release"] == release
    (choice,) = answer["choices"]
    assert choice["message"] == {"role": "assistant", "content": text} and choice["finish_reason"] == "stop"


CLEAN = """
import json, sys
import mlflow
mlflow.set_tracking_uri(sys.argv[1])
question = json.loads(sys.argv[2])
for uri in sys.argv[3:]:
    print(json.dumps(mlflow.pyfunc.load_model(uri).predict(question)), flush=True)
print(json.dumps([name for name in ("modelyard.adapters.registry_mlflow", "torch") if name in sys.modules]))
"""


def test_a_clean_process_without_a_project_answers_by_alias_version_and_run(
    logged: tuple[MlflowRegistry, Logged, str, Path], tmp_path: Path
) -> None:
    registry, entry, release, _ = logged
    uris = ["models:/town@champion", "models:/town/1", f"runs:/{entry.run}/model"]
    command = [sys.executable, "-c", CLEAN, registry.uri, json.dumps(QUESTION), *uris]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    *answers, loaded = map(json.loads, done.stdout.splitlines())
    assert len(answers) == 3 and loaded == []
    for (answer,) in answers:
        check(answer, release)
    assert not list(tmp_path.iterdir())


def test_loading_needs_no_tracking_store(saved: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", CLEAN, "http://127.0.0.1:9", json.dumps(QUESTION), str(saved)]
    environment = os.environ | {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False)
    assert done.returncode == 0, done.stderr


def test_it_takes_a_mapping_a_table_and_a_list(model: Any, logged: tuple[MlflowRegistry, Logged, str, Path]) -> None:
    release = logged[2]
    other = {"messages": [{"role": "user", "content": "two"}]}
    for single in (QUESTION, pd.DataFrame([QUESTION])):
        (answer,) = model.predict(single)
        check(answer, release)
    for several in (pd.DataFrame([QUESTION, other]), [QUESTION, other]):
        first, second = model.predict(several)
        check(first, release)
        check(second, release, "You said: two")
    assert json.loads(json.dumps(model.predict(QUESTION))) == model.predict(QUESTION)


@pytest.mark.parametrize(
    "wrong",
    [
        {"messages": []},
        {"messages": [{"role": "user", "content": " "}]},
        {"messages": [{"role": "user"}]},
        {"question": "?"},
    ],
    ids=["nothing said", "blank", "no content", "no messages"],
)
def test_what_cannot_be_answered_is_refused(model: Any, wrong: dict[str, Any]) -> None:
    with pytest.raises((RequestError, mlflow.exceptions.MlflowException)):
        model.predict(wrong)


def test_the_scoring_server_takes_every_dialect(model: Any, logged: tuple[MlflowRegistry, Logged, str, Path]) -> None:
    release = logged[2]
    with TestClient(scoring_server.init(model)) as client:
        for body in (QUESTION, {"inputs": QUESTION}, {"dataframe_records": [QUESTION]}):
            reply = client.post("/invocations", json=body)
            assert reply.status_code == 200, reply.text
            value = reply.json()
            (answer,) = value["predictions"] if isinstance(value, dict) else value
            check(answer, release)
        wrong = client.post("/invocations", json={"messages": [{"role": "user", "content": ""}]})
        assert wrong.status_code == 400 and "not empty" in wrong.text


def test_an_altered_release_is_not_loaded(saved: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(saved, tmp_path / "model"))
    (member,) = copy.rglob("prefix.txt")
    member.chmod(0o644)
    member.write_text("Never said: ")
    with pytest.raises((Damaged, mlflow.exceptions.MlflowException), match=re.escape("prefix.txt")):
        mlflow.pyfunc.load_model(str(copy))


def test_mlflow_models_serve_serves_it(logged: tuple[MlflowRegistry, Logged, str, Path], tmp_path: Path) -> None:
    registry, _, release, _ = logged
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(Path(sys.executable).parent / "mlflow"), "models", "serve", "-m", "models:/town@champion"]
    environment = os.environ | {"MLFLOW_TRACKING_URI": registry.uri}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen(
            [*command, "--env-manager", "local", "-p", str(port)],
            cwd=tmp_path,
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"http://127.0.0.1:{port}/invocations", json.dumps(QUESTION).encode(), headers)
        for _ in range(600):
            try:
                with urllib.request.urlopen(request, timeout=30) as reply:
                    value = json.load(reply)
                break
            except OSError:
                assert server.poll() is None, (tmp_path / "log").read_text()
                time.sleep(0.2)
        (answer,) = value["predictions"] if isinstance(value, dict) else value
        check(answer, release)
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(30)
