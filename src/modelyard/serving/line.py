"""Requests that wait for a worker of one release, and which worker takes which.

First come, first served, by the least loaded worker that has a thread free, so that no request waits behind another in
one worker while a second is idle, and a worker that dies takes no more requests with it than it has threads. A request
under which workers died is a suspect: it gets a worker to itself, so that what it does to it is done to no other.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Sequence
from typing import Generic, Protocol, TypeVar

from modelyard.serving.wire import Frame


class Taker(Protocol):
    """As much of a worker as handing out takes. `alone`: what it does now is a suspect's."""

    alone: bool

    @property
    def load(self) -> int: ...


T = TypeVar("T", bound=Taker)


class Asker(Protocol):
    """A request that waits."""

    @property
    def suspect(self) -> bool:
        """Whether it must have a worker to itself."""

    def hear(self, frame: Frame | Exception | None) -> None:
        """What came of it."""

    def moved(self) -> None:
        """It waits here no more, and has to look for another place."""


A = TypeVar("A", bound=Asker)


class Line(Generic[A]):
    """The requests, and the rules. `threads` is how many a worker takes at a time."""

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._waiting: deque[A] = deque()
        self._suspects: deque[A] = deque()

    def __len__(self) -> int:
        return len(self._waiting) + len(self._suspects)

    def join(self, asker: A, first: bool) -> None:
        """`first`: before all others, for it has waited before."""
        line = self._suspects if asker.suspect else self._waiting
        if first:
            line.appendleft(asker)
        else:
            line.append(asker)

    def leave(self, asker: A) -> None:
        """It waits no more; nothing where it does not wait."""
        for line in (self._waiting, self._suspects):
            with contextlib.suppress(ValueError):
                line.remove(asker)

    def clear(self) -> list[A]:
        """Nobody waits any more: those that did."""
        out = [*self._suspects, *self._waiting]
        self._suspects.clear()
        self._waiting.clear()
        return out

    def next(self, workers: Sequence[T]) -> tuple[A, T] | None:
        """Who goes to which of `workers` (those that are ready) now; to be called until there is nobody."""
        if not self._waiting and not self._suspects:
            return None
        shared = [worker for worker in workers if not (worker.alone and worker.load)]
        best = min(shared, key=_load, default=None)
        if self._suspects and best is not None and len(shared) == len(workers):  # one suspect at a time
            if not best.load:
                best.alone = True
                return self._suspects.popleft(), best
            # The least loaded one is left to become idle; the others go on.
            best = min((worker for worker in shared if worker is not best), key=_load, default=None)
        if not self._waiting or best is None or best.load >= self._threads:
            return None
        best.alone = False
        return self._waiting.popleft(), best


def _load(worker: Taker) -> int:
    return worker.load
