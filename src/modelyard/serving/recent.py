"""What was answered lately, as far as a page that shows it, and feedback that comes for it, must know. In memory."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Sequence
from typing import NamedTuple

from modelyard.serving.windows import Windows

SHOWN = 200
REMEMBERED = 50_000
"""Requests that feedback can be told to a rollout of; that of older ones is on record all the same."""


class Seen(NamedTuple):
    """A request that is over. `at` is seconds of the wall clock, `milliseconds` from arrival to the last byte."""

    id: str
    at: float
    dialect: str
    release: str
    arm: str
    status: int
    milliseconds: float
    unit: str
    error: str | None = None


class Recent:
    """Used from one event loop. `windows` has what was noted in figures, for longer."""

    def __init__(self) -> None:
        self.windows = Windows()
        self._shown: deque[Seen] = deque(maxlen=SHOWN)
        self._units: OrderedDict[str, tuple[str, str]] = OrderedDict()

    def note(self, seen: Seen) -> None:
        self._shown.append(seen)
        self.windows.count(seen.at, seen.release, seen.status, seen.milliseconds)
        self._units[seen.id] = seen.unit, seen.release
        if len(self._units) > REMEMBERED:
            self._units.popitem(last=False)

    def newest(self) -> Sequence[Seen]:
        """The newest first."""
        return tuple(reversed(self._shown))

    def answered(self, request: str) -> tuple[str, str] | None:
        """The unit and the release of a request, where it is remembered."""
        return self._units.get(request)
