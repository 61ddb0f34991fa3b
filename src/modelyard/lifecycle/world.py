"""What the steps of a run work with. The composition root fills it in; nothing here knows which adapters they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from modelyard.clock import Clock
from modelyard.lifecycle.journal import Journal
from modelyard.ports.ledger import Ledger
from modelyard.ports.progress import Progress
from modelyard.ports.rollouts import Rollouts
from modelyard.project.layout import Layout
from modelyard.project.load import Loaded
from modelyard.serving.opened import OpenedRelease

if TYPE_CHECKING:
    from modelyard.ports.registry import Registry
    from modelyard.ports.tables import Tables
    from modelyard.ports.workload import Context, Workload


class Heavy(Protocol):
    """What costs a second to import or open, and is therefore only opened when asked for."""

    @property
    def workload(self) -> Workload: ...

    @property
    def own_code(self) -> Mapping[str, Path]:
        """{name in a release: file} of the code of a workload of the user's own; empty for the others."""
        ...

    @property
    def context(self) -> Context: ...

    @property
    def tables(self) -> Tables: ...

    @property
    def registry_uri(self) -> str:
        """Where other tools find the registry; known without opening it."""
        ...

    @property
    def registry(self) -> Registry: ...

    def open_release(self, folder: Path) -> OpenedRelease: ...


@dataclass(frozen=True)
class World:
    """One target of one project, and who is acting on it."""

    loaded: Loaded
    ledger: Ledger
    journal: Journal
    heavy: Heavy
    clock: Clock
    progress: Progress
    who: str
    code: str
    """Digest of modelyard's own code, recorded beside a release."""
    gateway: Callable[[], str | None]
    """The id of the gateway that serves this target now, if one does."""
    rollouts: Callable[[], Rollouts]
    """Opens what the ledger has of rollouts; to be closed."""
    surroundings: Callable[[], str]
    """What of this machine decides how the data folder is read: a program that reads pictures, say."""

    @property
    def endpoint(self) -> str:
        return self.loaded.config.name

    def at(self, endpoint: str) -> World:
        """The same, for moves of another endpoint of the target: builds and the registry know nothing of it."""
        config = self.loaded.config.model_copy(update={"name": endpoint})
        return replace(self, loaded=replace(self.loaded, config=config))

    @property
    def layout(self) -> Layout:
        return self.loaded.layout
