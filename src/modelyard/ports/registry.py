"""The registry port: runs, metrics and model versions. A projection of the ledger, never the pointer of record."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class Logged:
    """A release in the registry: its integer version there, the run it was logged in, and URIs that load it."""

    version: int
    run: str
    model_uri: str


class Run(Protocol):
    """A run under way: what was measured goes here."""

    id: str

    def step(
        self, name: str, since: datetime | None = None, until: datetime | None = None
    ) -> AbstractContextManager[Run]:
        """A child run. An exception marks it failed and passes on. `since`, `until`: when it began and ended, where
        that is over."""
        ...

    def params(self, values: Mapping[str, str]) -> None: ...

    def metrics(self, values: Mapping[str, float]) -> None: ...

    def tags(self, values: Mapping[str, str]) -> None: ...


class Registry(Protocol):
    """Where runs and versions of models are kept for people and other tools to see."""

    uri: str
    """What other tools set as their tracking URI."""

    def check(self) -> None:
        """Raises UserError, with the command that helps, where the store is of another version or not reachable."""
        ...

    def run(self, name: str, since: datetime | None = None) -> AbstractContextManager[Run]:
        """A run, with `step`s inside. An exception marks it failed and passes on. `since`: when it began, where
        that was before now."""
        ...

    def log_release(
        self, run: Run, model: str, folder: Path, release: str, tags: Mapping[str, str], accepts: frozenset[str]
    ) -> Logged:
        """Log the release in `folder` (manifest.json and members) as a model that needs nothing else, and register it
        as the next version of `model`. A release logged before gives its version again."""
        ...

    def find(self, model: str, release: str) -> Logged | None:
        """The version that holds this release, if any."""
        ...

    def aliases(self, model: str) -> Mapping[str, int]:
        """{alias: version}; empty where there is no such model."""
        ...

    def set_alias(self, model: str, alias: str, version: int | None) -> None:
        """Point an alias to a version; None takes it away."""
        ...
