"""ZIP files within bounds: what Office documents are, and archives of documents."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Iterator

from modelyard.workloads.chatbot.limits import MEGABYTE, Limits, Unreadable

BLOCK = 1 << 16
MEMBER_MARK = b"PK\x01\x02"
# An archive that stores others holds their marks too: only far more than allowed is refused before it is listed.
MARKS_PER_MEMBER = 20
ENCRYPTED = 0x1
DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, ValueError, OSError, OverflowError)
"""What zipfile raises on bytes that are no sound archive, with what its decompressors add."""


class Archive:
    """The members of a ZIP file. What they unfold to is counted as it is read, whatever the archive says of sizes:
    one member and all that is read together may be `limits.max_decoded` bytes.

    Raises Unreadable, here and where members are read, with one sentence for a person.
    """

    def __init__(self, content: bytes, limits: Limits) -> None:
        self._limits, self._left = limits, limits.max_decoded
        if content.count(MEMBER_MARK) > MARKS_PER_MEMBER * limits.max_members:
            raise _many(limits)
        try:
            self._zip = zipfile.ZipFile(io.BytesIO(content))
            members = self._zip.infolist()
        except DAMAGED:
            raise Unreadable("the archive is damaged or cut off: its list of members cannot be read") from None
        if len(members) > limits.max_members:
            raise _many(limits)
        self._members = {_plain(member.filename): member for member in members if not member.is_dir()}

    @property
    def names(self) -> tuple[str, ...]:
        """The members' names in their order, with "/" between folders."""
        return tuple(_slashed(member.filename) for member in self._members.values())

    def __contains__(self, name: str) -> bool:
        return _plain(name) in self._members

    def blocks(self, name: str) -> Iterator[bytes]:
        """A member's bytes in blocks. Names are the same in capitals and without, as Office has them.

        Raises KeyError at once for a name it has not, Unreadable at once for an encrypted one, and Unreadable on the
        way for one that is damaged or too large.
        """
        member = self._members[_plain(name)]
        if member.flag_bits & ENCRYPTED:
            raise Unreadable("it is encrypted with a password")
        return self._blocks(member)

    def read(self, name: str) -> bytes:
        """All of a member, as `blocks`."""
        return b"".join(self.blocks(name))

    def _blocks(self, member: zipfile.ZipInfo) -> Iterator[bytes]:
        try:
            with self._zip.open(member) as source:
                while block := source.read(BLOCK):
                    self._left -= len(block)
                    if self._left < 0:
                        megabytes = self._limits.max_decoded / MEGABYTE
                        raise Unreadable(f"its content unfolds to more than the limit of {megabytes:,.0f} MB")
                    yield block
        except (*DAMAGED, RuntimeError):
            raise Unreadable(f"its part {_slashed(member.filename)!r} is damaged or cut off") from None


def _many(limits: Limits) -> Unreadable:
    return Unreadable(f"the archive has more than the limit of {limits.max_members:,} members")


def _slashed(name: str) -> str:
    return name.replace("\\", "/").lstrip("/")


def _plain(name: str) -> str:
    return _slashed(name).lower()
