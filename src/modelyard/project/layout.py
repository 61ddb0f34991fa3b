"""Where a project keeps its state. Targets live apart; content-addressed data is shared between them.

.modelyard/
  store/                     shared: everything in it is named by its digest
    releases/<id>/           manifest.json and members
    objects/<ab>/<sha-256>   every member once; releases hold hard links
    index/                   segments and snapshots of the default index
  <target>/
    ledger.db                pointer of record (SQLite, WAL)
    journal.db               what was seen and done, so that unchanged work is skipped; may be deleted
    tables/<name>/           Delta
    mlflow.db  mlartifacts/  the local registry
    run.lock                 held while a run is under way
    serve.lock serve.json    held while a gateway serves, and where it listens
    record/                  requests and answers on their way to the tables
    rollouts/                who was assigned what, of the rollout that is under way
    rollouts-of/<endpoint>/  the same, of endpoints beside the project's own
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Layout:
    """Paths of one target of the project in `root`. Nothing is created by asking."""

    root: Path
    target: str

    @property
    def home(self) -> Path:
        return self.root / ".modelyard"

    @property
    def store(self) -> Path:
        return self.home / "store"

    @property
    def releases(self) -> Path:
        return self.store / "releases"

    @property
    def objects(self) -> Path:
        return self.store / "objects"

    @property
    def index(self) -> Path:
        return self.store / "index"

    @property
    def state(self) -> Path:
        return self.home / self.target

    @property
    def ledger(self) -> Path:
        return self.state / "ledger.db"

    @property
    def journal(self) -> Path:
        return self.state / "journal.db"

    @property
    def tables(self) -> Path:
        return self.state / "tables"

    @property
    def mlflow_db(self) -> Path:
        return self.state / "mlflow.db"

    @property
    def mlflow_artifacts(self) -> Path:
        return self.state / "mlartifacts"

    @property
    def run_lock(self) -> Path:
        return self.state / "run.lock"

    @property
    def serve_lock(self) -> Path:
        return self.state / "serve.lock"

    @property
    def serve_info(self) -> Path:
        return self.state / "serve.json"

    @property
    def record(self) -> Path:
        return self.state / "record"

    @property
    def trials(self) -> Path:
        return self.state / "rollouts"

    def trials_of(self, endpoint: str) -> Path:
        """Of an endpoint beside the project's own."""
        return self.trials.with_name("rollouts-of") / endpoint
