"""The files a log is kept in: how a row lies in one, and how rows are found again in one that was cut or damaged.

A segment is a head and then frames. The head: 16 bytes of magic, 16 of the epoch (random, one for each time the log was
opened), the number in 8, a mark and a salt of 4 random bytes each, and the CRC-32 of all that. A frame: the mark, the
length of the row and the CRC-32 of both over the salt, 4 bytes each, then the row. Numbers are big endian.

Mark and salt never leave the file, so that nothing a caller sends can be taken for a frame, wherever a file was cut.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MAGIC = b"modelyard log 1\n"
OPEN, CLOSED, DAMAGED = ".open", ".log", ".damaged"

_HEAD = struct.Struct(">16s16sQ4s4s")
_CRC = struct.Struct(">I")
_FRAME = struct.Struct(">4sII")
HEAD_BYTES = _HEAD.size + _CRC.size
FRAME_BYTES = _FRAME.size


@dataclass(frozen=True)
class Head:
    """What a segment says of itself. `epoch` is 32 hex digits."""

    epoch: str
    number: int
    mark: bytes
    salt: int

    @classmethod
    def new(cls, epoch: str, number: int) -> Head:
        """With a mark and a salt of its own."""
        return cls(epoch, number, os.urandom(4), int.from_bytes(os.urandom(4), "big"))

    def encode(self) -> bytes:
        """HEAD_BYTES bytes."""
        head = _HEAD.pack(MAGIC, bytes.fromhex(self.epoch), self.number, self.mark, self.salt.to_bytes(4, "big"))
        return head + _CRC.pack(zlib.crc32(head))

    def frame(self, row: bytes) -> bytes:
        """What stands before `row`."""
        length = len(row)
        return _FRAME.pack(self.mark, length, zlib.crc32(row, self.salt ^ length))


@dataclass(frozen=True)
class Segment:
    """A segment read: its head, its rows in order, and how many bytes of it belong to none.

    `cut` counts those after the last row: of one that was under way when the log was killed. `lost` counts those
    before it: somebody damaged the file.
    """

    head: Head
    rows: tuple[memoryview, ...]
    lost: int
    cut: int


def decode_head(data: bytes | memoryview) -> Head | None:
    """The head at the start of `data`; None where none is, or a damaged one."""
    if len(data) < HEAD_BYTES:
        return None
    magic, epoch, number, mark, salt = _HEAD.unpack_from(data)
    if magic != MAGIC or _CRC.unpack_from(data, _HEAD.size)[0] != zlib.crc32(data[: _HEAD.size]):
        return None
    return Head(epoch.hex(), number, mark, int.from_bytes(salt, "big"))


def decode(data: bytes) -> Segment | None:
    """All of a segment's rows that are whole; None where it has no head. Empty rows are passed over: they only try
    whether the disk can be written."""
    head = decode_head(data)
    if head is None:
        return None
    rows: list[memoryview] = []
    lost = 0
    view, at, end = memoryview(data), HEAD_BYTES, len(data)
    while at < end:
        row = _row(head, view, at)
        if row is None:
            # Not a frame: go on at the next one that is whole.
            found = _next(head, data, at + 1)
            if found == end:
                break
            lost += found - at
            at = found
            continue
        if row:
            rows.append(row)
        at += FRAME_BYTES + len(row)
    return Segment(head, tuple(rows), lost, end - at)


def read(path: Path) -> Segment | None:
    """The segment in a file; None where it has no head. Raises OSError."""
    return decode(path.read_bytes())


def read_head(path: Path) -> Head | None:
    """The head of a file alone. Raises OSError."""
    with path.open("rb") as file:
        return decode_head(file.read(HEAD_BYTES))


def named(folder: Path, number: int, suffix: str) -> Path:
    """Where the segment of this number lies."""
    return folder / f"{number:016d}{suffix}"


def listed(folder: Path, suffix: str) -> list[Path]:
    """The segments in `folder`, oldest first. Raises OSError; a folder that is not there has none."""
    try:
        return sorted(path for path in folder.iterdir() if path.suffix == suffix and path.stem.isdigit())
    except FileNotFoundError:
        return []


def _row(head: Head, view: memoryview, at: int) -> memoryview | None:
    if at + FRAME_BYTES > len(view):
        return None
    mark, length, crc = _FRAME.unpack_from(view, at)
    start = at + FRAME_BYTES
    if mark != head.mark or start + length > len(view):
        return None
    row = view[start : start + length]
    return row if zlib.crc32(row, head.salt ^ length) == crc else None


def _next(head: Head, data: bytes, start: int) -> int:
    for at in _marks(head.mark, data, start):
        if _row(head, memoryview(data), at) is not None:
            return at
    return len(data)


def _marks(mark: bytes, data: bytes, start: int) -> Iterator[int]:
    at = data.find(mark, start)
    while at >= 0:
        yield at
        at = data.find(mark, at + 1)
