"""How many requests each release had lately, how many failed, and how long they took: in short slots, in memory.

For a page that shows the last hour. What is measured for good is the meter's, and the record's.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

SLOT_SECONDS = 10
SLOTS = 360
BOUNDS = tuple(0.25 * 1.2**i for i in range(72))
"""Upper bounds in milliseconds of what latencies are told apart by: a quantile is right to a fifth; the last is over
two minutes."""


@dataclass
class Tally:
    """Requests of one release in some time. `failed` are the model's and our faults (5xx), `refused` the callers' own
    (4xx, and those who went away). `milliseconds` counts what was answered, by the place of its bound."""

    requests: int = 0
    failed: int = 0
    refused: int = 0
    milliseconds: Counter[int] = field(default_factory=Counter)

    def add(self, status: int, milliseconds: float) -> None:
        """One request more."""
        self.requests += 1
        if status >= 500:
            self.failed += 1
        elif status >= 400:
            self.refused += 1
        else:
            self.milliseconds[bisect_left(BOUNDS, milliseconds)] += 1

    def merge(self, other: Tally) -> None:
        """The requests of `other` too."""
        self.requests += other.requests
        self.failed += other.failed
        self.refused += other.refused
        self.milliseconds.update(other.milliseconds)

    def quantile(self, share: float) -> float | None:
        """Milliseconds that `share` of what was answered took at most; None where nothing was."""
        total = self.milliseconds.total()
        if not total:
            return None
        seen = 0
        for place in sorted(self.milliseconds):
            seen += self.milliseconds[place]
            if seen >= share * total:
                return BOUNDS[min(place, len(BOUNDS) - 1)]
        return BOUNDS[-1]


class Windows:
    """Used from one event loop. Times are seconds of the wall clock."""

    def __init__(self) -> None:
        self._slots: OrderedDict[int, dict[str, Tally]] = OrderedDict()

    def count(self, at: float, release: str, status: int, milliseconds: float) -> None:
        """One request that is over."""
        slot = int(at // SLOT_SECONDS)
        by_release = self._slots.get(slot)
        if by_release is None:
            by_release = self._slots[slot] = {}
            while len(self._slots) > SLOTS:
                self._slots.popitem(last=False)
        tally = by_release.get(release)
        if tally is None:
            tally = by_release[release] = Tally()
        tally.add(status, milliseconds)

    def read(self, now: float, points: int, seconds: int) -> list[Mapping[str, Tally]]:
        """The last `points` spans of `seconds` each, oldest first, by release, up to the last slot that is over.
        `seconds` is a multiple of SLOT_SECONDS."""
        each = max(1, seconds // SLOT_SECONDS)
        first = int(now // SLOT_SECONDS) - points * each
        return [self._merged(range(first + n * each, first + (n + 1) * each)) for n in range(points)]

    def _merged(self, slots: Iterable[int]) -> Mapping[str, Tally]:
        found: dict[str, Tally] = {}
        for slot in slots:
            for release, tally in self._slots.get(slot, {}).items():
                found.setdefault(release, Tally()).merge(tally)
        return found
