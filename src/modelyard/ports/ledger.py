"""The ledger port: the pointer of record. One transaction per move; its history is only ever added to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from modelyard.ports.records import Decision, Move, Pointers, Release, State


class Ledger(Protocol):
    """Releases, moves and decisions of one target. Safe between processes."""

    def add_release(self, release: Release) -> None:
        """Write down a release. One that is there keeps its state, time and version."""
        ...

    def set_state(self, release: str, state: State) -> None:
        """Raises NotFound."""
        ...

    def set_version(self, release: str, version: int) -> None:
        """The registry's number for it. Raises NotFound."""
        ...

    def releases(self) -> Sequence[Release]:
        """Newest first."""
        ...

    def release(self, name: str) -> Release:
        """By id, by a unique prefix of at least 8 digits, or by version as `v7`. Raises NotFound, and UserError for a
        prefix that fits several (it lists them)."""
        ...

    def pointers(self, endpoint: str) -> Pointers:
        """Where it points; generation 0 and nothing for an endpoint never moved."""
        ...

    def move(self, endpoint: str, expected: int, to: Pointers, who: str, why: str, decision: str | None) -> Pointers:
        """Compare and swap: when the endpoint is still at generation `expected`, it points to `to` (whose generation
        is ignored) under generation expected + 1. Raises Busy when it moved meanwhile, NotFound for releases the
        ledger does not know, Damaged never. Durable when it returns."""
        ...

    def history(self, endpoint: str | None = None) -> Sequence[Move]:
        """Newest first."""
        ...

    def add_decision(self, decision: Decision) -> str:
        """Its id. The same decision again is the same row, as of the newer time."""
        ...

    def decision(self, name: str) -> Decision:
        """By id or a unique prefix of at least 8 digits. Raises NotFound."""
        ...

    def decisions(self, kind: str | None = None) -> Sequence[Decision]:
        """Newest first."""
        ...

    def report_warm(self, endpoint: str, release: str, gateway: str) -> None:
        """A gateway says that it has a worker of this release ready."""
        ...

    def is_warm(self, endpoint: str, release: str, gateway: str) -> bool:
        """Whether it said so."""
        ...

    def report_failed(self, endpoint: str, release: str, gateway: str, reason: str) -> None:
        """A gateway says that it cannot get a worker of this release up."""
        ...

    def failure(self, endpoint: str, release: str, gateway: str) -> str | None:
        """The reason it gave, if it gave one since the release was last warm."""
        ...

    def report_gone(self, endpoint: str, release: str, gateway: str) -> None:
        """A gateway says that it keeps no worker of this release any more: what it said of it before is forgotten."""
        ...

    def close(self) -> None: ...
