"""What a log asks of a disk: one holder of a folder, and bytes that are there when it says so."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sys
from collections.abc import Iterable
from pathlib import Path

from modelyard.errors import Busy, StorageError


def sync(file: int) -> None:
    """Have what was written to `file` on the disk before this returns. Raises OSError."""
    if sys.platform == "darwin":
        fcntl.fcntl(file, fcntl.F_FULLFSYNC)
    else:
        os.fdatasync(file)


def sync_folder(folder: Path) -> None:
    """Have the names in `folder` on the disk before this returns. Raises OSError."""
    handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def bytes_of(paths: Iterable[Path]) -> int:
    """Bytes of the files; those that are gone have none. Raises OSError."""
    total = 0
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            total += path.stat().st_size
    return total


def hold(folder: Path, name: str = "lock") -> int:
    """Make `folder`, for its user alone, and be its one holder of that `name` until the handle that this returns is
    closed, by whatever end the process comes to. Raises Busy, StorageError."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle = os.open(folder / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StorageError(f"{folder} cannot be written: {error.strerror}") from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        raise Busy(f"another process works on the log in {folder}: stop it, or wait for it") from None
    return handle
