"""The rollouts port: which challenger is on its way, as far as it came, and every step of it one transaction with the
move of the pointer that it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from modelyard.ports.records import Pointers, Rollout


class Rollouts(Protocol):
    """The rollouts of one target. Safe between processes. At most one of an endpoint is live."""

    def live(self, endpoint: str) -> Rollout | None:
        """The one that still decides there. Cheap: to be polled."""
        ...

    def rollout(self, name: str) -> Rollout:
        """By id. Raises NotFound."""
        ...

    def all(self, endpoint: str) -> Sequence[Rollout]:
        """Newest first."""
        ...

    def start(self, rollout: Rollout, to: Pointers, why: str, decision: str | None) -> Rollout:
        """Write it down and point the endpoint to `to`, both or nothing. Its `generation` is the one the endpoint must
        be at; that of what comes back is the new one. Raises Busy where the endpoint moved meanwhile or another rollout
        is live there, NotFound for releases that the ledger does not know."""
        ...

    def step(self, rollout: Rollout, to: Pointers | None, who: str, why: str, decision: str | None) -> Rollout:
        """The row as it is given here, and with `to` the endpoint pointed there: both or nothing. `rollout.version`
        and, for a move, `rollout.generation` must be those of the ledger. Raises Busy where they are not, NotFound."""
        ...

    def rehearse(self, endpoint: str, to: Pointers) -> None:
        """Everything that moving the endpoint to `to` (at its `generation` + 1) does, taken back at the end: for a
        drill, and to measure. Raises what `Ledger.move` raises."""
        ...

    def close(self) -> None: ...
