"""One run at a time: a file lock that the kernel lets go of however its holder ends, and that says who holds it."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from modelyard.clock import Clock, stamp
from modelyard.errors import Busy, StorageError


@contextmanager
def hold(path: Path, what: str, clock: Clock, wait: float = 0.0) -> Iterator[None]:
    """Hold the lock at `path` while inside. Somebody else holding it is waited for up to `wait` seconds.

    Raises Busy, naming the holder, and StorageError.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as e:
        raise StorageError(f"{path} cannot be written: {e.strerror}") from None
    try:
        until = clock.monotonic() + wait
        while not _try(handle):
            if clock.monotonic() >= until:
                raise Busy(f"{_holder(handle)} holds {path}: wait for it, or give --wait SECONDS")
            clock.sleep(0.2)
        os.ftruncate(handle, 0)
        os.pwrite(handle, json.dumps({"pid": os.getpid(), "what": what, "since": stamp(clock.now())}).encode(), 0)
        yield
        os.ftruncate(handle, 0)
    finally:
        os.close(handle)


def _try(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _holder(handle: int) -> str:
    try:
        held = json.loads(os.pread(handle, 4096, 0))
        return f"{held['what']} (process {held['pid']}, since {held['since']})"
    except (ValueError, KeyError, TypeError):
        return "another process"
