"""What every registry promises, and what MLflow on a SQLite file in particular has to withstand."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from modelyard.adapters.registry_mlflow import RELEASE_TAG, MlflowRegistry
from modelyard.errors import Cancelled, NotFound, ProjectError, StorageError, Unavailable, UserError
from modelyard.ids import digest

# The adapter comes first: it sets MLflow's switches.
import mlflow  # isort: skip
from mlflow.tracking import MlflowClient  # isort: skip

Make = Callable[..., MlflowRegistry]
MESSAGES = frozenset({"messages"})


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that MLflow's migrations made once; tests start from copies."""
    folder = tmp_path_factory.mktemp("template")
    MlflowRegistry(folder / "mlflow.db", folder / "artifacts", "unused").check()
    return folder / "mlflow.db"


@pytest.fixture
def make(template: Path, tmp_path: Path) -> Make:
    def made(folder: Path | None = None, experiment: str = "town", named: bool = False) -> MlflowRegistry:
        home = folder or tmp_path / "my project é"
        home.mkdir(exist_ok=True)
        if not (home / "mlflow.db").exists():
            shutil.copy(template, home / "mlflow.db")
        uri = f"sqlite:///{home}/mlflow.db" if named else None
        return MlflowRegistry(home / "mlflow.db", home / "artifacts", experiment, uri)

    return made


@pytest.fixture(params=["own file", "named uri"])
def registry(request: pytest.FixtureRequest, make: Make) -> MlflowRegistry:
    return make(named=request.param == "named uri")


@pytest.fixture(autouse=True)
def globals_untouched() -> Iterator[None]:
    """MLflow's global state is the user's: whatever we do, it is as before."""
    before = mlflow.get_tracking_uri(), mlflow.active_run(), os.environ.get("MLFLOW_TRACKING_URI")
    yield
    assert (mlflow.get_tracking_uri(), mlflow.active_run(), os.environ.get("MLFLOW_TRACKING_URI")) == before


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """A folder as a release has it: read-only members, some in folders, named by its id."""
    folder = tmp_path / "releases" / digest("release")
    (folder / "segments" / "0").mkdir(parents=True)
    (folder / "manifest.json").write_text("{}")
    (folder / "segments" / "0" / "rows.arrow").write_bytes(b"\0" * 300_000)
    (folder / "empty").touch()
    for file in folder.rglob("*"):
        if file.is_file():
            file.chmod(0o444)
    return folder


def log(registry: MlflowRegistry, folder: Path, release: str | None = None, model: str = "town") -> int:
    with registry.run("run") as run:
        return registry.log_release(run, model, folder, release or folder.name, {"why": "it's new"}, MESSAGES).version


def client(registry: MlflowRegistry) -> MlflowClient:
    return MlflowClient(registry.uri, registry.uri)


def test_checking_again_is_fine(registry: MlflowRegistry) -> None:
    registry.check()
    registry.check()


def test_a_run_and_its_steps_keep_what_was_measured(registry: MlflowRegistry) -> None:
    with registry.run("run test") as run:
        run.tags({"modelyard.release": "abc", "long": "x" * 9000})
        with run.step("evaluate") as step:
            step.params({"k": "8", "empty": "", "long": "x" * 7000})
            step.metrics({"recall@5": 0.5, "nDCG@10 (page)": 1.0, "nan": float("nan")})
            step.metrics({f"many {i}": float(i) for i in range(120)})
            with step.step("inner"):
                pass
    whole, part = client(registry).get_run(run.id), client(registry).get_run(step.id)
    assert whole.info.run_name == "run test" and whole.info.status == part.info.status == "FINISHED"
    assert whole.data.tags["modelyard.release"] == "abc" and whole.data.tags["long"].endswith("x…")
    assert part.data.tags["mlflow.parentRunId"] == run.id
    assert part.data.params["k"] == "8" and len(part.data.params["long"]) == 6000
    assert part.data.metrics["recall_at_5"] == 0.5 and part.data.metrics["nDCG_at_10 _page_"] == 1.0
    assert len(part.data.metrics) == 123


def test_what_is_over_is_recorded_with_the_time_it_began(registry: MlflowRegistry) -> None:
    began, ended = (datetime(2026, 1, 2, 3, 4, second, 678_000, UTC) for second in (5, 7))
    with registry.run("run", since=began) as run, run.step("build") as now, run.step("read", began, ended) as over:
        pass
    whole, read, build = (client(registry).get_run(each.id).info for each in (run, over, now))
    assert whole.start_time == read.start_time == began.timestamp() * 1000 < build.start_time
    assert read.end_time == ended.timestamp() * 1000 < build.end_time <= whole.end_time


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ValueError("no"), "FAILED"),
        (Cancelled("stop"), "KILLED"),
        (KeyboardInterrupt(), "KILLED"),
        (SystemExit(3), "KILLED"),
    ],
    ids=["error", "cancelled", "ctrl-c", "exit"],
)
def test_an_exception_marks_the_run_and_passes_on(make: Make, error: BaseException, status: str) -> None:
    registry = make()
    with pytest.raises(type(error)) as caught, registry.run("run") as run, run.step("step") as step:
        raise error
    assert caught.value is error
    assert [client(registry).get_run(r.id).info.status for r in (run, step)] == [status, status]


def test_nothing_is_known_at_first(registry: MlflowRegistry) -> None:
    assert registry.find("town", "abc") is None
    assert registry.aliases("town") == {}
    registry.set_alias("town", "champion", None)
    with pytest.raises(NotFound):
        registry.set_alias("town", "champion", 1)


def test_a_release_becomes_the_next_version(registry: MlflowRegistry, release: Path) -> None:
    with registry.run("run") as run, run.step("build") as step:
        first = registry.log_release(step, "town", release, "a" * 64, {"why": "it's new"}, MESSAGES)
        # The step goes on as it was.
        step.params({"after": "1"})
        assert client(registry).get_run(step.id).info.status == "RUNNING"
        second = registry.log_release(step, "town", release, "b" * 64, {}, MESSAGES)
    assert (first.version, second.version) == (1, 2)
    assert first.run == step.id and first.model_uri == "models:/town/1"
    found = client(registry).get_model_version("town", "1")
    assert found.tags == {RELEASE_TAG: "a" * 64, "why": "it's new"} and found.status == "READY"
    assert registry.find("town", "a" * 64) == first and registry.find("town", "b" * 64) == second
    assert registry.find("town", "c" * 64) is None and registry.find("other", "a" * 64) is None


def test_a_release_logged_before_gives_its_version_again(registry: MlflowRegistry, release: Path) -> None:
    assert log(registry, release) == 1
    assert log(registry, release) == 1
    assert log(registry, release, "other") == 2
    assert len(client(registry).search_model_versions("name='town'")) == 2


def test_aliases_are_set_moved_and_taken_away(registry: MlflowRegistry, release: Path) -> None:
    log(registry, release, "a")
    log(registry, release, "b")
    registry.set_alias("town", "champion", 1)
    registry.set_alias("town", "challenger", 2)
    registry.set_alias("town", "champion", 2)
    assert registry.aliases("town") == {"champion": 2, "challenger": 2}
    registry.set_alias("town", "challenger", None)
    registry.set_alias("town", "challenger", None)
    assert registry.aliases("town") == {"champion": 2}
    with pytest.raises(NotFound, match="version 9"):
        registry.set_alias("town", "champion", 9)
    assert registry.aliases("town") == {"champion": 2}


# What MLflow on a SQLite file has to withstand.


def saved(registry: MlflowRegistry, version: int = 1, model: str = "town") -> Path:
    """Where a version's artifact lies."""
    source = client(registry).get_model_version(model, str(version)).source
    (folder,) = (Path(mlflow.artifacts.download_artifacts(source)) / "artifacts").iterdir()
    return folder


def test_versions_share_their_files_with_the_release(make: Make, release: Path) -> None:
    registry = make()
    log(registry, release, "a")
    log(registry, release, "b")
    for version in (1, 2):
        copy = saved(registry, version)
        for ours in release.rglob("*"):
            theirs = copy / ours.relative_to(release)
            assert theirs.is_dir() if ours.is_dir() else theirs.samefile(ours)


def test_the_model_names_what_it_needs_and_takes_messages(
    make: Make, release: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    registry = make()
    log(registry, release)
    with registry.run("run") as run:
        registry.log_release(run, "table", release, release.name, {}, frozenset({"rows"}))
    asked = mlflow.models.Model.load(str(saved(registry).parents[1]))
    table = mlflow.models.Model.load(str(saved(registry, model="table").parents[1]))
    assert asked.signature.inputs.input_names() == ["messages"] and table.signature is None
    assert asked.metadata == {RELEASE_TAG: release.name} and asked.model_id and asked.run_id
    requirements = (saved(registry).parents[1] / "requirements.txt").read_text().split()
    assert [line.partition("==")[0] for line in requirements if not line.startswith("mlflow")] == ["modelyard"]
    assert capfd.readouterr() == ("", "")


def test_a_users_own_active_run_is_left_alone(make: Make, release: Path, tmp_path: Path) -> None:
    registry = make()
    theirs = MlflowRegistry(tmp_path / "theirs" / "mlflow.db", tmp_path / "theirs" / "artifacts", "own")
    theirs.check()
    before = mlflow.get_tracking_uri(), os.environ.pop("MLFLOW_TRACKING_URI", None)
    mlflow.set_tracking_uri(theirs.uri)
    try:
        with mlflow.start_run(experiment_id="1") as own:
            log(registry, release)
            assert mlflow.active_run().info.run_id == own.info.run_id
            mlflow.log_metric("still", 1)
        assert client(theirs).get_run(own.info.run_id).data.metrics == {"still": 1}
        assert registry.aliases("town") == {} and registry.find("town", release.name) is not None
    finally:
        mlflow.set_tracking_uri(before[0])
        os.environ.pop("MLFLOW_TRACKING_URI", None)
        if before[1] is not None:
            os.environ["MLFLOW_TRACKING_URI"] = before[1]


def test_a_project_that_was_moved_takes_its_store_along(make: Make, release: Path, tmp_path: Path) -> None:
    old, new = tmp_path / "old 100%", tmp_path / "new é"
    log(make(old), release)
    old.rename(new)
    registry = make(new)
    registry.check()
    assert saved(registry).is_relative_to(new)
    assert log(registry, release, "next") == 2
    assert saved(registry, 2).is_relative_to(new) and not old.exists()


RACER = """
import os, sys
from pathlib import Path
from modelyard.adapters.registry_mlflow import MlflowRegistry
home = Path(sys.argv[1])
registry = MlflowRegistry(home / "mlflow.db", home / "artifacts", "town")
print("ready", flush=True)
sys.stdin.readline()
registry.check()
with registry.run("run") as run:
    run.metrics({"x": 1.0})
print(os.environ["MLFLOW_DISABLE_TELEMETRY"], os.environ["MLFLOW_LOGGING_LEVEL"])
"""


def test_two_processes_may_make_the_store_together(tmp_path: Path) -> None:
    home = tmp_path / "home"
    command = [sys.executable, "-c", RACER, str(home)]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MLFLOW_")} | {
        "MLFLOW_LOGGING_LEVEL": "ERROR"
    }
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    racers = [subprocess.Popen(command, env=environment, **pipes) for _ in range(2)]  # type: ignore[call-overload]
    for racer in racers:
        racer.stdout.readline()
    for racer in racers:
        racer.stdin.write("\n")
        racer.stdin.flush()
    for racer in racers:
        said, errors = racer.communicate(timeout=60)
        assert (racer.returncode, errors) == (0, "")
        # Switches of ours are set, and a user's own value stays.
        assert said == "true ERROR\n"
    registry = MlflowRegistry(home / "mlflow.db", home / "artifacts", "town")
    registry.check()
    (experiment,) = client(registry).search_experiments(filter_string="name = 'town'")
    assert len(client(registry).search_runs([experiment.experiment_id])) == 2
    with closing(sqlite3.connect(home / "mlflow.db")) as base:
        assert base.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert not list(home.glob(".mlflow.db.*"))


@pytest.mark.parametrize(
    ("revision", "says"),
    [("181f10493468", "mlflow db upgrade sqlite:///"), ("ffffffffffff", "install a newer mlflow")],
    ids=["older", "newer"],
)
@pytest.mark.parametrize("named", [False, True], ids=["own file", "named uri"])
def test_a_store_of_another_version_is_refused(
    make: Make, tmp_path: Path, revision: str, says: str, named: bool
) -> None:
    home = tmp_path / "home"
    registry = make(home, named=named)
    with closing(sqlite3.connect(home / "mlflow.db")) as base, base:
        base.execute("UPDATE alembic_version SET version_num = ?", (revision,))
    before = (home / "mlflow.db").read_bytes()
    with pytest.raises(UserError) as caught:
        registry.check()
    assert says in str(caught.value) and "\n" not in str(caught.value)
    assert (home / "mlflow.db").read_bytes() == before


def test_a_file_that_is_no_store_is_refused_and_kept(tmp_path: Path) -> None:
    registry = MlflowRegistry(tmp_path / "mlflow.db", tmp_path / "artifacts", "town")
    (tmp_path / "mlflow.db").write_bytes(b"somebody's notes" * 100)
    with pytest.raises(UserError, match="damaged"):
        registry.check()
    (tmp_path / "mlflow.db").unlink()
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as base, base:
        base.execute("CREATE TABLE notes (text TEXT)")
    with pytest.raises(UserError, match="no MLflow store"):
        registry.check()
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as base:
        assert base.execute("SELECT name FROM sqlite_master").fetchall() == [("notes",)]


def test_a_folder_that_cannot_be_made_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError):
        MlflowRegistry(tmp_path / "file" / "mlflow.db", tmp_path / "file" / "artifacts", "town").check()


def test_a_deleted_experiment_names_the_way_back(make: Make) -> None:
    registry = make()
    with registry.run("run"):
        pass
    found = client(registry).get_experiment_by_name("town")
    client(registry).delete_experiment(found.experiment_id)
    with pytest.raises(UserError, match=f"experiments restore --experiment-id {found.experiment_id}"):
        make().check()


def test_a_server_that_does_not_answer_is_unavailable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    registry = MlflowRegistry(tmp_path / "mlflow.db", tmp_path / "artifacts", "town", "http://127.0.0.1:9")
    with pytest.raises(Unavailable, match=r"http://127\.0\.0\.1:9"):
        registry.check()
    assert not list(tmp_path.iterdir())


FULL = """
import resource, sys
from pathlib import Path
from modelyard.adapters.registry_mlflow import MlflowRegistry
from modelyard.errors import StorageError
home, limit = Path(sys.argv[1]), int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    registry = MlflowRegistry(home / "mlflow.db", home / "artifacts", "town")
    with registry.run("run") as run:
        for i in range(1000):
            run.params({f"p{i}": "x" * 5000})
except StorageError as e:
    print(e)
"""


@pytest.mark.parametrize("made", [False, True], ids=["while it is made", "while it is written"])
def test_a_full_disk_is_one_line(template: Path, tmp_path: Path, made: bool) -> None:
    home = tmp_path / "home"
    home.mkdir()
    if made:
        shutil.copy(template, home / "mlflow.db")
    limit = template.stat().st_size + 50_000 if made else 100_000
    done = subprocess.run([sys.executable, "-c", FULL, str(home), str(limit)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    (line,) = done.stdout.splitlines()
    assert line.startswith("cannot write the MLflow store") and "is the disk full?" in line
    assert "SQL:" not in line and "Background" not in line


def test_a_store_that_cannot_be_moved_is_translated(make: Make, tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    make(old).check()
    old.rename(new)
    with closing(sqlite3.connect(new / "mlflow.db")) as base, base:
        base.execute("CREATE TRIGGER full BEFORE UPDATE ON experiments BEGIN SELECT RAISE(ABORT, 'disk is full'); END")
    with pytest.raises(StorageError, match="disk is full"):
        make(new).check()


@pytest.mark.parametrize("kind", ["plain", "env", "file"])
def test_the_password_of_a_server_is_in_no_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    secret = "http://me:hunter2@127.0.0.1:9"
    monkeypatch.setenv("TOWN_MLFLOW", secret)
    (tmp_path / "uri").write_text(f"{secret}\n")
    (tmp_path / "modelyard.yml").write_text("name: town")
    uri = {"plain": secret, "env": "env:TOWN_MLFLOW", "file": "file:uri"}[kind]
    state = tmp_path / ".modelyard" / "test"
    with pytest.raises(Unavailable, match=r"http://\*\*\*@127\.0\.0\.1:9") as caught:
        MlflowRegistry(state / "mlflow.db", state / "artifacts", "town", uri).check()
    assert "hunter2" not in str(caught.value)
    with pytest.raises(ProjectError, match="NOT_SET is not set"):
        MlflowRegistry(state / "mlflow.db", state / "artifacts", "town", "env:NOT_SET")
