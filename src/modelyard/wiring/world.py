"""One target of a project, ready to work with. Light to import: moving a pointer needs no numpy."""

from __future__ import annotations

import getpass
import importlib
import os
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelyard import __version__
from modelyard.clock import Clock, SystemClock
from modelyard.ids import digest_bytes
from modelyard.lifecycle.journal import Journal
from modelyard.lifecycle.world import World
from modelyard.ports.endpoints import Endpoints
from modelyard.ports.ledger import Ledger
from modelyard.ports.progress import Progress, Silent
from modelyard.ports.rollouts import Rollouts
from modelyard.ports.tokens import Tokens
from modelyard.project.layout import Layout
from modelyard.project.load import Loaded, find_root, load
from modelyard.serving.route import alive
from modelyard.wiring.catalogue import adapter
from modelyard.wiring.own_code import sources as own_sources
from modelyard.wiring.ports import ProjectPorts
from modelyard.workloads import surroundings

if TYPE_CHECKING:
    from modelyard.ports.registry import Registry
    from modelyard.ports.tables import Tables
    from modelyard.ports.workload import Context, Workload
    from modelyard.serving.opened import OpenedRelease


def code_digest(own: Mapping[str, Path]) -> str:
    """Digest of modelyard's code and the user's `own`: recorded beside a release, and part of what decides whether work
    is repeated."""
    folder = Path(__file__).parents[1]
    parts = [p.relative_to(folder).as_posix().encode() + b"\0" + p.read_bytes() for p in sorted(folder.rglob("*.py"))]
    parts += [name.encode() + b"\0" + path.read_bytes() for name, path in sorted(own.items())]
    return digest_bytes(__version__.encode(), *parts)


def open_ledger(layout: Layout) -> Ledger:
    """The ledger of a target. Nothing heavy is imported."""
    ledger: Ledger = adapter("ledger", "sqlite")(layout.ledger)
    return ledger


def open_tokens(layout: Layout) -> Tokens:
    """The tokens of a target. Nothing heavy is imported."""
    tokens: Tokens = adapter("tokens", "sqlite")(layout.ledger)
    return tokens


def open_endpoints(layout: Layout) -> Endpoints:
    """The served names of a target. Nothing heavy is imported."""
    endpoints: Endpoints = adapter("endpoints", "sqlite")(layout.ledger)
    return endpoints


def open_rollouts(layout: Layout) -> Rollouts:
    """What the ledger of a target has of rollouts. Nothing heavy is imported."""
    rollouts: Rollouts = adapter("rollouts", "sqlite")(layout.ledger)
    return rollouts


class _Heavy:
    """What is opened only when a step needs it."""

    def __init__(self, loaded: Loaded, clock: Clock, progress: Progress, cancelled: Callable[[], bool]) -> None:
        self._loaded, self._clock, self._progress, self._cancelled = loaded, clock, progress, cancelled
        self._ports = ProjectPorts(loaded)

    @cached_property
    def workload(self) -> Workload:
        workload: Workload = _opening().open_workload(self._loaded.config.workload, self._loaded.root)
        return workload

    @property
    def own_code(self) -> Mapping[str, Path]:
        return own_sources(self._loaded.config.workload, self._loaded.root)

    @cached_property
    def context(self) -> Context:
        context: Context = _opening().Context(
            self._loaded.workload_settings(),
            self._ports,
            self._clock,
            self._progress,
            self._cancelled,
            self._loaded.documents,
        )
        return context

    @property
    def tables(self) -> Tables:
        return self._ports.tables

    @property
    def registry_uri(self) -> str:
        return self._loaded.config.mlflow.tracking_uri or f"sqlite:///{self._loaded.layout.mlflow_db}"

    @cached_property
    def registry(self) -> Registry:
        layout, config = self._loaded.layout, self._loaded.config
        uri = config.mlflow.tracking_uri
        registry: Registry = adapter("registry", "mlflow")(layout.mlflow_db, layout.mlflow_artifacts, config.name, uri)
        return registry

    def open_release(self, folder: Path) -> OpenedRelease:
        opened: OpenedRelease = _opening().open_release(folder, project=self._loaded.root, target=self._loaded.target)
        return opened


def _opening() -> Any:
    # Imports numpy and Arrow, which moving a pointer and an unchanged run have no need of.
    return importlib.import_module("modelyard.wiring.opening")


def open_world(
    start: Path,
    target: str = "test",
    *,
    clock: Clock | None = None,
    progress: Progress | None = None,
    cancelled: Callable[[], bool] = lambda: False,
    who: str | None = None,
) -> World:
    """One target of the project at or above `start`, ready for the steps of a run. Raises NotFound, ProjectError."""
    loaded = load(find_root(start), target)
    clock, progress = clock or SystemClock(), progress or Silent()
    layout = loaded.layout

    def gateway() -> str | None:
        found = alive(layout)
        return found.gateway_id if found is not None else None

    return World(
        loaded=loaded,
        ledger=open_ledger(layout),
        journal=Journal(layout.journal),
        heavy=_Heavy(loaded, clock, progress, cancelled),
        clock=clock,
        progress=progress,
        who=who or _who(),
        code=code_digest(own_sources(loaded.config.workload, loaded.root)),
        gateway=gateway,
        rollouts=lambda: open_rollouts(layout),
        surroundings=lambda: surroundings(loaded.config.workload, loaded.workload_settings()),
    )


def _who() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"
