"""Runs, metrics and model versions in MLflow: a SQLite file of the target's own, or the tracking server that is named.

MLflow shows what the ledger decided; it is never asked where traffic goes.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# Before mlflow is imported: it reads these once. A value the user set stays.
for _name, _value in (
    ("MLFLOW_DISABLE_TELEMETRY", "true"),
    ("DO_NOT_TRACK", "true"),
    ("MLFLOW_MODEL_CATALOG_URI", ""),
    ("MLFLOW_ENABLE_ASYNC_TRACE_LOGGING", "false"),
    ("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true"),
    ("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false"),
    ("MLFLOW_LOGGING_LEVEL", "WARNING"),
    ("GIT_PYTHON_REFRESH", "quiet"),
):
    os.environ.setdefault(_name, _value)

import mlflow
from alembic.config import Config
from alembic.script import ScriptDirectory
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.tracking import MlflowClient
from mlflow.types.schema import Array, ColSpec, Object, Property, Schema

from modelyard import __version__
from modelyard.errors import AdapterError, NotFound, StorageError, Unavailable, UserError
from modelyard.ids import digest_file
from modelyard.ports.registry import Logged, Run

RELEASE_TAG = "modelyard.release"
MODEL_CODE = Path(__file__).parents[1] / "pyfunc.py"
_MESSAGES = Schema([ColSpec(Array(Object([Property("role", "string"), Property("content", "string")])), "messages")])
_OLDER = ("out-of-date", "No such revision", "Can't locate revision")


class MlflowRegistry:
    """The registry of one target: experiment and registered model are named after the project.

    `db` and `artifacts` are the local store, made where they are not there; with `uri` that tracking server is used
    instead, and artifacts go where it keeps them.
    """

    def __init__(self, db: Path, artifacts: Path, experiment: str, uri: str | None = None) -> None:
        self.uri = uri or f"sqlite:///{db}"
        self._db, self._artifacts, self._experiment = (None if uri else db), artifacts, experiment
        self._client: MlflowClient | None = None

    def check(self) -> None:
        """Open the store, or make it. Raises UserError with the command that helps, Unavailable."""
        self._connect()

    def _connect(self) -> MlflowClient:
        if self._client is not None:
            return self._client
        with self._translated():
            if self._db is not None:
                self._db.parent.mkdir(parents=True, exist_ok=True)
                self._artifacts.mkdir(parents=True, exist_ok=True)
                _version(self._db, self.uri)
                # Two processes that make one new store at once break it: one makes it, the other waits.
                with open(self._db.with_suffix(".lock"), "w") as lock:
                    fcntl.flock(lock, fcntl.LOCK_EX)
                    client = MlflowClient(self.uri, self.uri)
                    self._experiment_id(client)
                    _write_ahead(self._db)
            else:
                client = MlflowClient(self.uri, self.uri)
                self._experiment_id(client)
        self._client = client
        return client

    def _experiment_id(self, client: MlflowClient) -> str:
        found = client.get_experiment_by_name(self._experiment)
        if found is not None:
            return str(found.experiment_id)
        location = self._artifacts.absolute().as_uri() if self._db is not None else None
        return str(client.create_experiment(self._experiment, artifact_location=location))

    @contextmanager
    def run(self, name: str) -> Iterator[Run]:
        client = self._connect()
        with self._translated():
            experiment = self._experiment_id(client)
            found = client.create_run(experiment, run_name=name, tags={"modelyard.version": __version__})
        with _ending(client, found.info.run_id):
            yield _Run(client, experiment, found.info.run_id, self._translated)

    def log_release(
        self, run: Run, model: str, folder: Path, release: str, tags: Mapping[str, str], accepts: frozenset[str]
    ) -> Logged:
        client = self._connect()
        if (found := self.find(model, release)) is not None:
            return found
        signature = ModelSignature(inputs=_MESSAGES) if "messages" in accepts else None
        with self._translated(), self._active(run.id), warnings.catch_warnings():
            # It would like an example input to guess from; the signature is given.
            warnings.simplefilter("ignore")
            info = mlflow.pyfunc.log_model(
                name="model",
                python_model=str(MODEL_CODE),
                artifacts={"release": str(folder)},
                signature=signature,
                # Named, so that MLflow does not load the model in another process to guess them.
                pip_requirements=[f"modelyard=={__version__}"],
                metadata={RELEASE_TAG: release},
            )
            self._share_files(info.artifact_path, folder)
            try:
                client.create_registered_model(model)
            except MlflowException as e:
                if e.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
            version = client.create_model_version(
                model, info.model_uri, run.id, tags={RELEASE_TAG: release, **tags}, model_id=info.model_id
            )
        return Logged(int(version.version), run.id, info.model_uri)

    @contextmanager
    def _active(self, run: str) -> Iterator[None]:
        """MLflow's fluent API logs into a global active run; it is set back, so that a notebook's own stays."""
        before = mlflow.get_tracking_uri(), mlflow.get_registry_uri()
        mlflow.set_tracking_uri(self.uri)
        mlflow.set_registry_uri(self.uri)
        try:
            with mlflow.start_run(run_id=run, nested=mlflow.active_run() is not None):
                yield
        finally:
            mlflow.set_tracking_uri(before[0])
            mlflow.set_registry_uri(before[1])
            # Leaving `start_run` marks the run finished; the step that is still under way says so itself.
            MlflowClient(self.uri).update_run(run, status="RUNNING")

    def _share_files(self, location: str | None, folder: Path) -> None:
        """In a local artifact store a release's files become hard links to the release's own: ten versions do not
        cost ten copies."""
        root = Path(str(location or "").removeprefix("file://"))
        if self._db is None or not root.is_dir():
            return
        for copy in root.rglob("*"):
            parts = copy.relative_to(root).parts
            if "artifacts" not in parts or not copy.is_file():
                continue
            ours = folder.joinpath(*parts[parts.index("artifacts") + 2 :])
            if ours.is_file() and not ours.samefile(copy) and digest_file(ours) == digest_file(copy):
                spare = copy.with_name(f".{copy.name}.link")
                try:
                    os.link(ours, spare)
                except OSError:
                    return
                spare.replace(copy)

    def find(self, model: str, release: str) -> Logged | None:
        client = self._connect()
        with self._translated():
            quoted = release.replace("'", "")
            versions = client.search_model_versions(f"name='{model}' and tags.`{RELEASE_TAG}`='{quoted}'")
        if not versions:
            return None
        first = min(versions, key=lambda v: int(v.version))
        return Logged(int(first.version), str(first.run_id), f"models:/{model}/{first.version}")

    def aliases(self, model: str) -> Mapping[str, int]:
        client = self._connect()
        with self._translated():
            try:
                return {alias: int(version) for alias, version in client.get_registered_model(model).aliases.items()}
            except MlflowException as e:
                if e.error_code == "RESOURCE_DOES_NOT_EXIST":
                    return {}
                raise

    def set_alias(self, model: str, alias: str, version: int | None) -> None:
        client = self._connect()
        with self._translated():
            try:
                if version is None:
                    client.delete_registered_model_alias(model, alias)
                else:
                    client.set_registered_model_alias(model, alias, str(version))
            except MlflowException as e:
                if e.error_code == "RESOURCE_DOES_NOT_EXIST":
                    raise NotFound(f"the registry has no version {version} of {model}") from None
                raise

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except MlflowException as e:
            text = " ".join(str(e).split())
            if any(sign in text for sign in _OLDER):
                raise UserError(_outdated(self.uri)) from None
            if "disk is full" in text or "No space left" in text:
                raise StorageError("the disk is full: MLflow could not write; free some space and run again") from None
            if self._db is None and any(sign in text for sign in ("Max retries", "Connection", "timed out")):
                raise Unavailable(f"the MLflow server {self.uri} does not answer: {text[:200]}") from None
            raise AdapterError(f"MLflow ({self.uri}): {text[:400]}") from e


class _Run:
    """A run, or a step of one, under way."""

    def __init__(self, client: MlflowClient, experiment: str, identity: str, translated: Any) -> None:
        self._client, self._experiment, self.id, self._translated = client, experiment, identity, translated

    @contextmanager
    def step(self, name: str) -> Iterator[Run]:
        with self._translated():
            tags = {"mlflow.parentRunId": self.id}
            found = self._client.create_run(self._experiment, run_name=name, tags=tags)
        with _ending(self._client, found.info.run_id):
            yield _Run(self._client, self._experiment, found.info.run_id, self._translated)

    def params(self, values: Mapping[str, str]) -> None:
        with self._translated():
            for name, value in values.items():
                self._client.log_param(self.id, name, value[:6000])

    def metrics(self, values: Mapping[str, float]) -> None:
        with self._translated():
            for name, value in values.items():
                # MLflow allows no @ in a metric's name.
                self._client.log_metric(self.id, name.replace("@", "_at_"), value)

    def tags(self, values: Mapping[str, str]) -> None:
        with self._translated():
            for name, value in values.items():
                self._client.set_tag(self.id, name, value[:5000])


@contextmanager
def _ending(client: MlflowClient, run: str) -> Iterator[None]:
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        client.set_terminated(run, "KILLED")
        raise
    except BaseException:
        client.set_terminated(run, "FAILED")
        raise
    client.set_terminated(run, "FINISHED")


def _version(db: Path, uri: str) -> None:
    """Refuse a store that another MLflow made, before it half works. Raises UserError."""
    if not db.exists() or not db.stat().st_size:
        return
    try:
        with sqlite3.connect(f"file:{db}?mode=ro", uri=True, timeout=30) as base:
            row = base.execute("SELECT version_num FROM alembic_version").fetchone()
    except sqlite3.OperationalError:
        raise UserError(f"{db} is no MLflow store of ours: move it away, or set mlflow.tracking_uri") from None
    except sqlite3.DatabaseError as e:
        raise UserError(f"{db} is damaged ({e}): restore it from a backup, or move it away") from None
    found = row[0] if row else None
    known = _revisions()
    if found == known[-1]:
        return
    if found in known:
        raise UserError(_outdated(uri))
    raise UserError(
        f"the MLflow store {db} was written by a newer MLflow than {mlflow.__version__}: pip install -U mlflow"
    )


def _outdated(uri: str) -> str:
    return f"the MLflow store {uri} is of an older version: back it up, then run `mlflow db upgrade {uri}`"


def _revisions() -> list[str]:
    """MLflow's schema revisions, oldest first."""
    config = Config()
    config.set_main_option("script_location", str(Path(mlflow.__file__).parent / "store" / "db_migrations"))
    return [r.revision for r in reversed(list(ScriptDirectory.from_config(config).walk_revisions()))]


def _write_ahead(db: Path) -> None:
    with sqlite3.connect(db, timeout=30) as base:
        if base.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
            base.execute("PRAGMA journal_mode = WAL")
