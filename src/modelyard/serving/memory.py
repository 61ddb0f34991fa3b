"""How much memory processes take."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path


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
