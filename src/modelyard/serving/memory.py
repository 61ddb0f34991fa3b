"""How much memory processes take, and when what is kept only for a rollback may."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path

STEADY_SECONDS = 60.0
"""So long there must have been room before what went cold is warmed again, the first time."""
LONGEST_SECONDS = 3600.0
"""And the most, where it goes cold again and again. What stays warm for so long begins anew."""
_ROOM = 0.9
"""Room is where all would be under this share of the limit."""


class Thermostat:
    """Says when a release that is kept warm for a rollback only goes cold over a `limit` in bytes, and when it is
    warmed again: each start of it costs, so it must not go to and fro with what the others take. Times are in seconds
    of any monotonic clock."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._pause = STEADY_SECONDS
        self._warmed: float | None = None
        self._room: float | None = None

    def too_much(self, kept: int, now: float) -> bool:
        """Whether it goes cold. `kept` is what all take together without those that are about to be let go: their
        memory will be there in a moment anyway."""
        if kept <= self.limit:
            return False
        if self._warmed is not None:
            again = now - self._warmed < LONGEST_SECONDS
            self._pause = min(LONGEST_SECONDS, 2 * self._pause) if again else STEADY_SECONDS
        self._room = None
        return True

    def room(self, total: int, size: int, now: float) -> bool:
        """Whether it is warmed again: there has been room for its `size` beside the `total` of all for long enough."""
        if total + size >= _ROOM * self.limit:
            self._room = None
            return False
        self._room = now if self._room is None else self._room
        if now - self._room < self._pause:
            return False
        self._warmed = now
        return True


def resident(pids: Collection[int]) -> dict[int, int]:
    """Bytes in memory of each process that is there.

    On Linux a page that several processes share (a release's segments, mapped by each of its workers) is divided among
    them; elsewhere it counts in each.
    """
    if sys.platform == "linux":
        return {pid: size for pid in pids if (size := _proportional(pid)) is not None}
    found = {}
    names = ",".join(str(pid) for pid in pids)
    done = subprocess.run(["ps", "-o", "pid=,rss=", "-p", names], capture_output=True, text=True, check=False)
    for line in done.stdout.splitlines():
        with contextlib.suppress(ValueError):
            pid, kilobytes = line.split()
            found[int(pid)] = int(kilobytes) * 1024
    return found


def _proportional(pid: int) -> int | None:
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        return int(text.split("\nPss:", 1)[1].split(None, 1)[0]) * 1024
    except (OSError, IndexError, ValueError):
        pass
    try:  # a kernel without it
        text = Path(f"/proc/{pid}/status").read_text()
        return int(text.split("\nVmRSS:", 1)[1].split(None, 1)[0]) * 1024
    except (OSError, IndexError, ValueError):
        return None
