"""The endpoints port: the served names of a target, what was configured for each, and the update that is under way.

Where an endpoint points is the ledger's to say; here stands what a name has beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol


@dataclass(frozen=True)
class Served:
    """A release under an endpoint: the name it has there, as which version of which model it was asked for, its share
    of what is new in whole percent, and what else was said of it (`extras`, which is only given back)."""

    name: str
    release: str
    model: str
    version: str
    percent: int
    extras: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Update:
    """A configuration on its way. `running` until all its releases have workers that are ready and traffic has moved;
    `failed` then stays until the endpoint points elsewhere than at `generation`. `first`: nothing was served before.
    `admissions` maps releases that were let in for it to the decision, `states` to the state they get with it."""

    served: tuple[Served, ...]
    who: str
    started: str
    state: Literal["running", "failed"] = "running"
    reason: str = ""
    generation: int = 0
    first: bool = False
    admissions: Mapping[str, str] = field(default_factory=dict)
    states: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class EndpointRow:
    """A served name. `served` is what was last configured and applied, `extras` what else was said of the endpoint and
    is only given back. `version` counts the row's changes. Times as `clock.stamp` writes them."""

    name: str
    id: str
    who: str
    created: str
    changed: str
    tags: tuple[tuple[str, str], ...] = ()
    extras: Mapping[str, Any] = field(default_factory=dict)
    served: tuple[Served, ...] = ()
    update: Update | None = None
    version: int = 0


class Endpoints(Protocol):
    """The served names of one target. Safe between processes."""

    def all(self) -> Sequence[EndpointRow]:
        """By name."""
        ...

    def find(self, name: str) -> EndpointRow | None: ...

    def add(self, row: EndpointRow) -> None:
        """Durable when it returns. Raises RefusedByPolicy where the name is taken."""
        ...

    def change(self, row: EndpointRow) -> EndpointRow:
        """The row as it is given here, whose `version` must be the ledger's; with its new version. Raises Busy where it
        is another, NotFound where there is none any more."""
        ...

    def remove(self, name: str) -> None:
        """One that is not there is no error."""
        ...

    def edition(self) -> int:
        """Another number when rows may have changed since, whoever changed them. Cheap: to be polled."""
        ...

    def close(self) -> None: ...
