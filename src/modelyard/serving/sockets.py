"""The folder in which workers listen: for its user alone, and gone when its gateway is, however that ended."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from pathlib import Path

from modelyard.serving.disk import hold

# Not TMPDIR: the path of a socket must stay below some 100 bytes, and macOS has 60 of them in TMPDIR.
_ROOT = Path("/tmp")
_PREFIX = "modelyard-sockets-"
_LOCK = "lock"


class SocketFolder:
    """A new one. What gateways of this user that were killed left behind is removed. Raises StorageError."""

    def __init__(self) -> None:
        for left in _ROOT.glob(f"{_PREFIX}*"):
            with contextlib.suppress(OSError):
                _remove_abandoned(left)
        self.path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=_ROOT))
        self._held = hold(self.path, _LOCK)

    def close(self) -> None:
        """Remove it. Raises nothing."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._held)


def _remove_abandoned(folder: Path) -> None:
    """One without a lock was made just now; one whose lock is held is in use. Raises OSError."""
    if folder.is_symlink() or folder.lstat().st_uid != os.getuid():
        return
    lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(lock)
