"""What a log asks of a disk: one holder of a folder, and bytes that are there when it says so."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sys
from collections.abc import Iterable
from pathlib import Path

from modelyard.errors import Busy, StorageError

SPARE_BYTES = 64 << 20
"""A log leaves so much of its disk free: whoever makes room for it needs some to work in."""


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


def scarce(folder: Path) -> bool:
    """Whether on the disk of `folder` less is free than SPARE_BYTES, and than an eighth of it. Raises OSError."""
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize < min(SPARE_BYTES, disk.f_blocks * disk.f_frsize // 8)


def free(folder: Path) -> int:
    """Bytes that may still be written to the disk of `folder`. Raises OSError."""
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize


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
