"""The SQLite file of a local MLflow store: made whole, checked before use, and moved with its project.

Imported by `registry_mlflow` alone, after it has set MLflow's switches.
"""

from __future__ import annotations

import fcntl
import logging
import os
import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import mlflow
import sqlalchemy
from alembic.config import Config
from alembic.script import ScriptDirectory
from mlflow.store.db import utils

from modelyard.errors import UserError

_LOCATIONS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)


def make(db: Path) -> None:
    """Make the store where there is none. Safe between processes: MLflow's own way is not, and leaves half a store when
    it is interrupted.

    The migrations run on a file of another name, without waiting for the disk after each of some hundred steps.
    """
    if _is_there(db):
        return
    with _locked(db.with_suffix(".lock")):
        if _is_there(db):
            return
        for leftover in db.parent.glob(f".{db.name}.*"):
            leftover.unlink(missing_ok=True)
        spare = db.with_name(f".{db.name}.{uuid.uuid4().hex}")
        engine = sqlalchemy.create_engine(f"sqlite:///{spare}")
        sqlalchemy.event.listen(engine, "connect", _hurry)
        try:
            utils._initialize_tables(engine)  # type: ignore[no-untyped-call]
        finally:
            engine.dispose()
        with closing(sqlite3.connect(spare)) as base:
            # Readers of the UI and writers of a run then do not wait for each other.
            base.execute("PRAGMA journal_mode = WAL")
        with spare.open("rb") as file:
            os.fsync(file.fileno())
        spare.replace(db)


def check(db: Path, uri: str) -> None:
    """Refuse a store that another MLflow made, before it half works. Raises UserError, and sqlite3.OperationalError for
    a file that cannot be opened."""
    try:
        with closing(sqlite3.connect(f"{db.absolute().as_uri()}?mode=ro", uri=True, timeout=30)) as base:
            row = base.execute("SELECT version_num FROM alembic_version").fetchone()
    except sqlite3.OperationalError as e:
        if "no such table" not in str(e):
            raise
        raise UserError(f"{db} is no MLflow store of ours: move it away, or set mlflow.tracking_uri") from None
    except sqlite3.DatabaseError as e:
        raise UserError(f"{db} is damaged ({e}): restore it from a backup, or move it away") from None
    known = _revisions()
    found = row[0] if row else None
    if found == known[-1]:
        return
    raise UserError(older(uri) if found in known else newer(uri))


def older(uri: str) -> str:
    """The line for a store that this MLflow would have to migrate."""
    return f"the MLflow store {uri} is of an older version: back it up, then run `mlflow db upgrade {uri}`"


def newer(uri: str) -> str:
    """The line for a store that this MLflow does not know."""
    return (
        f"the MLflow store {uri} was written by a newer MLflow than {mlflow.__version__}: install a newer mlflow "
        "(`pip install -U modelyard mlflow`)"
    )


def relocate(db: Path, old: str, new: str) -> None:
    """Every artifact of the store lies under the URI `new` now, no longer under `old`: the project was moved."""
    with closing(sqlite3.connect(db, timeout=30)) as base, base:
        for table, column in _LOCATIONS:
            base.execute(
                f"UPDATE {table} SET {column} = ? || substr({column}, ?)"
                f" WHERE {column} = ? OR substr({column}, 1, ?) = ?",
                (new, len(old) + 1, old, len(old) + 1, old + "/"),
            )


def _is_there(db: Path) -> bool:
    return db.exists() and db.stat().st_size > 0


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _hurry(connection: sqlite3.Connection, _record: object) -> None:
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute("PRAGMA journal_mode = MEMORY")


def _revisions() -> list[str]:
    """MLflow's schema revisions, oldest first."""
    config = Config()
    config.set_main_option("script_location", str(Path(mlflow.__file__).parent / "store" / "db_migrations"))
    return [r.revision for r in reversed(list(ScriptDirectory.from_config(config).walk_revisions()))]


# Alembic tells of every migration; there is nobody to read it.
logging.getLogger("alembic").setLevel(logging.WARNING)
