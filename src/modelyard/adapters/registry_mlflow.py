"""Runs, metrics and model versions in MLflow: a SQLite file of the target's own, or the tracking server that is named.

MLflow shows what the ledger decided; it is never asked where traffic goes. Everything goes through a client of its own:
MLflow's global tracking URI and active run are the user's, and stay as they are.
"""

from __future__ import annotations

import filecmp
import logging
import os
import re
import shutil
import sqlite3
import tempfile
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import datetime
from pathlib import Path

# Before mlflow is imported: it reads these once. A value the user set stays.
for _name, _value in (
    ("MLFLOW_DISABLE_TELEMETRY", "true"),
    ("DO_NOT_TRACK", "true"),
    ("MLFLOW_MODEL_CATALOG_URI", ""),
    ("MLFLOW_ENABLE_ASYNC_TRACE_LOGGING", "false"),
    ("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true"),
    ("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false"),
    ("MLFLOW_UV_AUTO_DETECT", "false"),
    ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3"),
    ("MLFLOW_LOGGING_LEVEL", "WARNING"),
    ("GIT_PYTHON_REFRESH", "quiet"),
):
    os.environ.setdefault(_name, _value)

import mlflow
from mlflow.entities import Experiment, LoggedModelOutput, Metric, Param, RunTag
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import Model
from mlflow.tracking import MlflowClient
from sqlalchemy.exc import SQLAlchemyError

from modelyard import __version__
from modelyard.adapters import registry_mlflow_store as store
from modelyard.adapters.registry_mlflow_model import quiet, save_release
from modelyard.clock import SystemClock
from modelyard.errors import (
    AdapterError,
    Busy,
    Cancelled,
    ModelyardError,
    NotFound,
    StorageError,
    Unavailable,
    UserError,
)
from modelyard.ports.registry import Logged, Run
from modelyard.project.load import find_root
from modelyard.project.secrets import Secret, masked

RELEASE_TAG = "modelyard.release"
_SQLITE = "sqlite:///"
_LONGEST = {"param": 6000, "tag": 8000}
_AT_ONCE = 50
_SQL = re.compile(r" \[SQL:| \(Background on this error at")
_REFERENCES = ("env:", "file:")
_BROKEN = ("disk is full", "No space left", "File too large", "disk I/O error", "readonly", "unable to open")


class MlflowRegistry:
    """The registry of one target: experiment and registered model are named after the project.

    `db` and `artifacts` are the local store, made where they are not there, and followed where the project's folder is
    moved. With `uri` that tracking server (or SQLite file) is used instead, and a server's artifacts go where it keeps
    them; `env:NAME` and `file:PATH` say where the URI is. Raises ProjectError where it is not. A password in it is
    in no message.
    """

    def __init__(self, db: Path, artifacts: Path, experiment: str, uri: str | None = None) -> None:
        self.uri = _resolved(uri, db) if uri else f"{_SQLITE}{db}"
        self._shown = masked(self.uri)
        self._own = uri is None
        self._db = Path(self.uri.removeprefix(_SQLITE)) if self.uri.startswith(_SQLITE) else None
        self._artifacts, self._name = artifacts, experiment
        self._open: tuple[MlflowClient, str] | None = None

    def check(self) -> None:
        """Open the store, or make it. Raises UserError with the command that helps, StorageError, Unavailable."""
        self._connect()

    @contextmanager
    def run(self, name: str, since: datetime | None = None) -> Iterator[Run]:
        client, experiment = self._connect()
        run = _start(client, experiment, name, since, {"modelyard.version": __version__}, self._translated)
        with run.ending():
            yield run

    def log_release(
        self, run: Run, model: str, folder: Path, release: str, tags: Mapping[str, str], accepts: frozenset[str]
    ) -> Logged:
        client, experiment = self._connect()
        if (found := self.find(model, release)) is not None:
            with self._translated():
                self._mend(client, model, found, folder)
            return found
        with self._translated():
            logged = client.create_logged_model(experiment, name="model", source_run_id=run.id)
            about = Model(
                artifact_path=logged.artifact_location,
                run_id=run.id,
                model_id=logged.model_id,
                metadata={RELEASE_TAG: release},
            )
            local = _local(logged.artifact_location) if self._db is not None else None
            if local is not None:
                save_release(about, local, folder, accepts)
                _share_files(local, folder)
            else:
                with tempfile.TemporaryDirectory() as spare:
                    save_release(about, Path(spare) / "model", folder, accepts)
                    client.log_model_artifacts(logged.model_id, f"{spare}/model")
            client.finalize_logged_model(logged.model_id, "READY")
            client.log_outputs(run.id, [LoggedModelOutput(logged.model_id, 0)])
            version = self._register(client, model, logged, run.id, {RELEASE_TAG: release, **tags})
        return _logged(version)

    def _mend(self, client: MlflowClient, model: str, found: Logged, folder: Path) -> None:
        """A local store's files of a release are what the release has, also after it was damaged and built again."""
        source = client.get_model_version(model, str(found.version)).source
        local = _local(source) if self._db is not None and source else None
        home = local / "artifacts" / folder.name if local is not None else None
        if home is None or not home.is_dir():
            return
        for ours in folder.rglob("*"):
            copy = home / ours.relative_to(folder)
            if ours.is_file() and copy.is_file() and not (copy.samefile(ours) or filecmp.cmp(ours, copy)):
                spare = copy.with_name(f".{uuid.uuid4().hex}")
                try:
                    os.link(ours, spare)
                except OSError:
                    shutil.copyfile(ours, spare)
                spare.replace(copy)

    def find(self, model: str, release: str) -> Logged | None:
        client, _ = self._connect()
        wanted = f"name='{_escaped(model)}' and tags.`{RELEASE_TAG}`='{_escaped(release)}'"
        with self._translated():
            versions = client.search_model_versions(wanted)
        return _logged(min(versions, key=lambda v: int(v.version))) if versions else None

    def aliases(self, model: str) -> Mapping[str, int]:
        client, _ = self._connect()
        with self._translated(), _allowing("RESOURCE_DOES_NOT_EXIST"):
            return {alias: int(version) for alias, version in client.get_registered_model(model).aliases.items()}
        return {}

    def set_alias(self, model: str, alias: str, version: int | None) -> None:
        client, _ = self._connect()
        with self._translated():
            if version is None:
                with _allowing("RESOURCE_DOES_NOT_EXIST"):
                    client.delete_registered_model_alias(model, alias)
                return
            with _allowing("RESOURCE_DOES_NOT_EXIST"):
                client.set_registered_model_alias(model, alias, str(version))
                return
        raise NotFound(f"the registry has no version {version} of {model}")

    def _connect(self) -> tuple[MlflowClient, str]:
        if self._open is None:
            with self._translated():
                if self._db is not None:
                    self._db.parent.mkdir(parents=True, exist_ok=True)
                    self._artifacts.mkdir(parents=True, exist_ok=True)
                    store.make(self._db)
                    store.check(self._db, self.uri)
                client = MlflowClient(self.uri, self.uri)
                self._open = client, self._experiment(client)
        return self._open

    def _experiment(self, client: MlflowClient) -> str:
        """The id of our experiment, made where it is not there."""
        place = self._artifacts.absolute().as_uri() if self._db is not None else None
        found: Experiment | None = client.get_experiment_by_name(self._name)
        if found is None:
            # Another process may be faster; then it is there.
            with _allowing("RESOURCE_ALREADY_EXISTS"):
                return str(client.create_experiment(self._name, artifact_location=place))
            found = client.get_experiment_by_name(self._name)
        if found is None or found.lifecycle_stage != "active":
            raise UserError(
                f"the experiment {self._name!r} was deleted in MLflow; to have it back: "
                f"MLFLOW_TRACKING_URI={self._shown} mlflow experiments restore --experiment-id "
                f"{found.experiment_id if found else 'ID'}"
            )
        if self._own and self._db is not None and place is not None and found.artifact_location != place:
            store.relocate(self._db, found.artifact_location, place)
        return str(found.experiment_id)

    def _register(
        self, client: MlflowClient, model: str, logged: mlflow.entities.LoggedModel, run: str, tags: Mapping[str, str]
    ) -> ModelVersion:
        with _allowing("RESOURCE_ALREADY_EXISTS"):
            client.create_registered_model(model)
        # A local store would look up `models:/<id>` in the global tracking URI; a server knows its own.
        source = logged.artifact_location if self._db is not None else logged.model_uri
        return client.create_model_version(model, source, run, tags=dict(tags), model_id=logged.model_id)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            # What MLflow logs of a failed database it also raises.
            with quiet("mlflow.store.db.utils", logging.CRITICAL):
                yield
        except (MlflowException, SQLAlchemyError, sqlite3.Error) as e:
            raise _translate(e, self._shown, remote=self._db is None) from e
        except OSError as e:
            raise StorageError(f"cannot write the MLflow store {self._shown}: {e.strerror or e}") from e


class _Run:
    """A run, or a step of one, under way."""

    def __init__(
        self,
        client: MlflowClient,
        experiment: str,
        identity: str,
        translated: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self.id = identity
        self._client, self._experiment, self._translated = client, experiment, translated

    @contextmanager
    def step(self, name: str, since: datetime | None = None, until: datetime | None = None) -> Iterator[Run]:
        step = _start(self._client, self._experiment, name, since, {"mlflow.parentRunId": self.id}, self._translated)
        with step.ending(until):
            yield step

    def params(self, values: Mapping[str, str]) -> None:
        self._log([Param(_key(name), _cut("param", value)) for name, value in values.items()])

    def metrics(self, values: Mapping[str, float]) -> None:
        now = int(SystemClock().now().timestamp() * 1000)
        self._log([Metric(_key(name), value, now, 0) for name, value in values.items()])

    def tags(self, values: Mapping[str, str]) -> None:
        self._log([RunTag(name, _cut("tag", value)) for name, value in values.items()])

    def _log(self, entries: Sequence[Param | Metric | RunTag]) -> None:
        with self._translated():
            for start in range(0, len(entries), _AT_ONCE):
                some = entries[start : start + _AT_ONCE]
                self._client.log_batch(
                    self.id,
                    metrics=[entry for entry in some if isinstance(entry, Metric)],
                    params=[entry for entry in some if isinstance(entry, Param)],
                    tags=[entry for entry in some if isinstance(entry, RunTag)],
                )

    @contextmanager
    def ending(self, until: datetime | None = None) -> Iterator[None]:
        try:
            yield
        except BaseException as e:
            stopped = isinstance(e, KeyboardInterrupt | SystemExit | GeneratorExit | Cancelled)
            # The store may be what failed; the first error is the one to show.
            with suppress(ModelyardError), self._translated():
                self._client.set_terminated(self.id, "KILLED" if stopped else "FAILED")
            raise
        with self._translated():
            self._client.set_terminated(self.id, "FINISHED", _milliseconds(until))


def _start(
    client: MlflowClient,
    experiment: str,
    name: str,
    since: datetime | None,
    tags: Mapping[str, str],
    translated: Callable[[], AbstractContextManager[None]],
) -> _Run:
    with translated():
        made = client.create_run(experiment, _milliseconds(since), run_name=name, tags=dict(tags))
    return _Run(client, experiment, made.info.run_id, translated)


@contextmanager
def _allowing(code: str) -> Iterator[None]:
    """Passes over an answer of MLflow's that says no more than what we know how to go on from."""
    try:
        yield
    except MlflowException as e:
        if e.error_code != code:
            raise


def _share_files(saved: Path, folder: Path) -> None:
    """Copies of a release's files become hard links to them: ten versions do not cost ten copies."""
    for ours in folder.rglob("*"):
        copy = saved / "artifacts" / folder.name / ours.relative_to(folder)
        if not ours.is_file() or not copy.is_file() or not filecmp.cmp(ours, copy, shallow=False):
            continue
        spare = copy.with_name(f".{uuid.uuid4().hex}")
        try:
            os.link(ours, spare)
        except OSError:
            return  # a file system without links keeps the copies
        spare.replace(copy)


def _logged(version: ModelVersion) -> Logged:
    return Logged(int(version.version), str(version.run_id), f"models:/{version.name}/{version.version}")


def _resolved(uri: str, db: Path) -> str:
    return Secret(uri).reveal(find_root(db.parent)) if uri.startswith(_REFERENCES) else uri


def _local(uri: str) -> Path | None:
    parts = urllib.parse.urlsplit(uri)
    if parts.scheme not in ("", "file"):
        return None
    return Path(urllib.request.url2pathname(parts.path) if parts.scheme else uri)


def _milliseconds(moment: datetime | None) -> int | None:
    return int(moment.timestamp() * 1000) if moment is not None else None


def _key(name: str) -> str:
    """MLflow allows letters, digits, - _ . : / and space in a name; recall@5 becomes recall_at_5."""
    return re.sub(r"[^\w\-. :/]", "_", name.replace("@", "_at_"))


def _cut(kind: str, value: str) -> str:
    most = _LONGEST[kind]
    return value if len(value) <= most else f"{value[: most - 1]}…"


def _escaped(value: str) -> str:
    return value.replace("'", "''")


def _translate(error: Exception, uri: str, *, remote: bool) -> Exception:
    """`uri` is shown, and so has no password."""
    # SQLAlchemy goes on with the statement, its parameters and a link to its manual.
    text = masked(_SQL.split(" ".join(str(error).split()))[0])
    if "out-of-date database schema" in text:
        return UserError(store.older(uri))
    if "No such revision" in text or "Can't locate revision" in text:
        return UserError(store.newer(uri))
    if "database is locked" in text:
        return Busy(f"another process keeps the MLflow store {uri} locked: try again")
    if any(sign in text for sign in _BROKEN):
        return StorageError(f"cannot write the MLflow store {uri}: {text[:200]} (is the disk full?)")
    if remote and any(sign in text for sign in ("Max retries", "Connection", "timed out")):
        return Unavailable(f"the MLflow server {uri} does not answer: {text[:200]}")
    return AdapterError(f"MLflow ({uri}): {text[:400]}")
