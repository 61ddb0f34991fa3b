"""The segment that a log writes to: rows put at its end all or none, and the next one when it is closed."""

from __future__ import annotations

import contextlib
import errno
import os
import uuid
from collections.abc import Sequence
from pathlib import Path

from modelyard.serving.disk import bytes_of, sync, sync_folder
from modelyard.serving.segment import CLOSED, DAMAGED, HEAD_BYTES, OPEN, Head, listed, named, read_head


class Appender:
    """Not safe between threads. Everything raises OSError where the disk refuses; then nothing was added."""

    def __init__(self, folder: Path, synced: bool, segment_bytes: int) -> None:
        """What another one left open in `folder` is closed. `synced`: rows are on the disk when `write` returns."""
        self.closed_bytes = 0
        """Of the closed segments, when they were last looked at or closed."""
        self._folder, self._synced, self._segment_bytes = folder, synced, segment_bytes
        self._epoch = uuid.uuid4().hex
        self._suspect = False
        self.left: list[Path] = []
        """Segments that are written to no more, and not shut yet."""
        self._head, self._file = self._begin(self._recover() + 1)
        self.offset = HEAD_BYTES
        """Bytes of the open segment."""

    @property
    def due(self) -> bool:
        """Whether the segment is as large as one should become."""
        return self.offset >= self._segment_bytes

    def write(self, rows: Sequence[bytes]) -> None:
        """Put the rows at the end, all or none."""
        if self._suspect:
            self.turn(force=True)
        head = self._head
        data = b"".join([piece for row in rows for piece in (head.frame(row), row)])
        suspect = False
        try:
            done = os.write(self._file, data)
            while done < len(data):
                done += os.write(self._file, memoryview(data)[done:])
            if self._synced:
                suspect = True
                sync(self._file)
        except OSError:
            try:
                os.ftruncate(self._file, self.offset)
            except OSError:
                suspect = True
            # After a sync that failed nobody knows what the disk has of this file: the next row goes into another one.
            self._suspect = suspect
            raise
        self.offset += len(data)

    def turn(self, force: bool = False) -> None:
        """Begin the next segment, if anything is in this one, which is `left` to be shut."""
        if self.offset == HEAD_BYTES and not force:
            return
        before, file = self._head, self._file
        self._head, self._file = self._begin(before.number + 1)
        self.closed_bytes += self.offset
        self.offset, self._suspect = HEAD_BYTES, False
        os.close(file)
        self.left.append(named(self._folder, before.number, OPEN))

    def tidy(self) -> None:
        """Shut what is left, oldest first, however long the disk takes: nobody has to wait for it. What cannot be now
        is the next time; until then no reader looks at what comes after it."""
        with contextlib.suppress(OSError):
            while self.left:
                with contextlib.suppress(FileNotFoundError):
                    shut(self.left[0])
                self.left.pop(0)

    def look(self) -> None:
        """See what of the closed segments is still there."""
        self.closed_bytes = bytes_of(listed(self._folder, CLOSED))

    def close(self) -> None:
        """Close the segment for good. Raises nothing."""
        os.close(self._file)
        self.tidy()
        with contextlib.suppress(OSError):
            shut(named(self._folder, self._head.number, OPEN))
            sync_folder(self._folder)

    def _begin(self, number: int) -> tuple[Head, int]:
        head = Head.new(self._epoch, number)
        path = named(self._folder, number, OPEN)
        file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            data = head.encode()
            if os.write(file, data) < len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if self._synced:
                sync(file)
                sync_folder(self._folder)
        except OSError:
            os.close(file)
            with contextlib.suppress(OSError):
                path.unlink()
            raise
        return head, file

    def _recover(self) -> int:
        """Close what was left open; the highest number there is."""
        for path in listed(self._folder, OPEN):
            shut(path)
        self.look()
        last = [listed(self._folder, suffix)[-1:] for suffix in (CLOSED, DAMAGED)]
        return max((int(path.stem) for paths in last for path in paths), default=0)


def shut(path: Path) -> None:
    """Make an open segment a closed one. One that holds nothing goes; one that nobody can
    read is kept aside. Raises OSError."""
    size = path.stat().st_size
    if size <= HEAD_BYTES:
        path.unlink()
        return
    suffix = CLOSED if read_head(path) is not None else DAMAGED
    handle = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        with contextlib.suppress(OSError):
            sync(handle)  # of a process that was killed the end may not be on the disk, and a reader will believe it
    finally:
        os.close(handle)
    path.rename(path.with_suffix(suffix))
