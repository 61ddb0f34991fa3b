"""Archives to the files in them: what runs in the sandbox's child.

Nothing is ever written to a disk, so a name is only a name; what it would do elsewhere is named all the same. Sizes
that an archive declares are believed only where they forbid: what is counted is what was unpacked.
"""

from __future__ import annotations

import io
import lzma
import stat
import struct
import unicodedata
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import pyarrow as pa

from modelyard.ids import digest_bytes
from modelyard.workloads.chatbot.limits import MEGABYTE, Limits, Unreadable
from modelyard.workloads.chatbot.parse import refusal
from modelyard.workloads.chatbot.reading.formats import ARCHIVE
from modelyard.workloads.chatbot.reading.mail import attachments
from modelyard.workloads.chatbot.schemas import SOURCES

ZIP, MAIL = ARCHIVE, ".eml"
# Files beside documents that say who may see them, in any case of letters: see project.access (which needs a parser of
# YAML).
SIDECARS = (".access.yml", ".access.yaml")
MOST_MEMBERS = 20_000
MOST_DEPTH = 3
# All files of an archive together, in files of the largest size allowed.
TOTAL_FILES = 5
# More than text ever shrinks; only looked at where it costs something.
BOMB_RATIO, BOMB_BYTES = 250, 20 * MEGABYTE
LONGEST_NAME = 500
LONGEST_LIST = 16 * MEGABYTE
BLOCK = 1 << 20
SENT_AT_ONCE = 4 * MEGABYTE
# As in folders, see lifecycle.scan.
IGNORED = frozenset(("__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini"))
LOCK, LONGEST_LOCK = "~$", 1_000
DAMAGE = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, ValueError, struct.error, KeyError)

MEMBERS = SOURCES.append(pa.field("reason", pa.string()))
"""One file of an archive a row: its name below the archive's, the hash of its bytes, the bytes (null where they are
known, or where there is a reason), and the reason why it cannot be read."""

Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Member:
    """A file of an archive: its bytes, or the reason why there are none."""

    name: str
    content: bytes | None = None
    reason: str | None = None


def unpack(
    content: bytes, *, document: str, known: Mapping[str, str], limits: Limits, progress: Progress
) -> Iterator[bytes]:
    """The files of a ZIP archive, or the attachments of a mail, as Arrow streams of MEMBERS.

    known: {name: hash} of those whose bytes need not be sent. Archives in archives, and attachments of mails in them,
    are members of the outermost one. Raises Unreadable where the archive as a whole cannot be read.
    """
    rows: list[dict[str, object]] = []
    size = 0
    taken: set[str] = set()
    for member in _Walk(limits, progress).inside(document, content):
        name, reason = member.name, member.reason
        if name in taken:
            name, reason = _free(name, taken), reason or "another file of the archive has the same name"
        taken.add(name)
        sha256 = digest_bytes(member.content) if member.content is not None and reason is None else ""
        sent = None if reason is not None or known.get(name) == sha256 else member.content
        rows.append({"document": name, "sha256": sha256, "content": sent, "reason": reason})
        size += len(sent or b"") + 200
        if size > SENT_AT_ONCE:
            yield _stream(rows)
            rows, size = [], 0
    if rows:
        yield _stream(rows)


def _stream(rows: list[dict[str, object]]) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, MEMBERS) as writer:
        writer.write_batch(pa.RecordBatch.from_pylist(rows, schema=MEMBERS))
    return bytes(sink.getvalue())


class _Walk:
    """One archive with all that is in it, under one account."""

    def __init__(self, limits: Limits, progress: Progress) -> None:
        self._limits, self._progress = limits, progress
        self._members, self._bytes = 0, 0

    def inside(self, document: str, content: bytes, prefix: str = "", depth: int = 1) -> Iterator[Member]:
        """The files in `content`. Raises Unreadable."""
        opened = self._mail if _suffix(document) == MAIL else self._zip
        for member in opened(content):
            self._progress(0)
            yield from self._seen(member, prefix, depth)

    def _seen(self, member: Member, prefix: str, depth: int) -> Iterator[Member]:
        name = f"{prefix}{member.name}"
        if member.content is None:
            yield Member(name, None, member.reason)
            return
        suffix = _suffix(name)
        if suffix == ZIP and depth >= MOST_DEPTH:
            yield Member(name, None, f"archives are nested deeper than {MOST_DEPTH} levels")
            return
        if suffix != ZIP:
            yield Member(name, member.content)
        if suffix == ZIP or (suffix == MAIL and depth < MOST_DEPTH):
            try:
                yield from self.inside(name, member.content, f"{name}/", depth + 1)
            except Unreadable as reason:
                yield Member(name if suffix == ZIP else f"{name}/attachments", None, str(reason))

    def _mail(self, content: bytes) -> Iterator[Member]:
        for name, inner in attachments(content, self._limits):
            self._count(1)
            label = _label(name)
            yield Member(label, *self._admitted(label, inner))

    def _admitted(self, name: str, inner: bytes) -> tuple[bytes | None, str | None]:
        reason = refused(name, len(inner), self._limits) or self._full(len(inner))
        if reason is None:
            self._bytes += len(inner)
        return (None, reason) if reason is not None else (inner, None)

    def _zip(self, content: bytes) -> Iterator[Member]:
        listed = _listed(content)
        entries = [entry for entry in listed.infolist() if not entry.is_dir() and not _ignored(entry)]
        self._count(len(entries))
        if not entries:
            raise Unreadable("the archive is empty")
        if "[Content_Types].xml" in listed.NameToInfo:
            raise Unreadable("it is an Office document: give it its own ending in place of .zip")
        overlapping, closed = _overlapping(listed.infolist()), _sidecars(listed)
        last = {_label(_spelled(entry)): entry for entry in entries}
        copies: Counter[str] = Counter()
        for entry in entries:
            name, spelled = _label(_spelled(entry)), _spelled(entry)
            if last[name] is not entry:
                if not _same(entry, last[name]):
                    copies[name] += 1
                    yield Member(f"{name} ({copies[name]})", None, _TWICE)
                continue
            reason = _unsafe(spelled) or (_OVERLAP if entry.header_offset in overlapping else None)
            reason = (
                reason
                or _said_of(name, closed)
                or _closed(entry)
                or refused(name, entry.file_size, self._limits)
                or _bomb(entry)
            )
            reason = reason or self._full(entry.file_size)
            inner: bytes | None = None
            if reason is None:
                inner, reason = self._unpacked(listed, entry)
            if reason is None and inner is not None:
                reason = refused(name, len(inner), self._limits)
            yield Member(name, None if reason is not None else inner, reason)

    def _unpacked(self, listed: zipfile.ZipFile, entry: zipfile.ZipInfo) -> tuple[bytes | None, str | None]:
        out = io.BytesIO()
        try:
            with listed.open(entry) as source:
                while block := source.read(BLOCK):
                    self._progress(0)
                    out.write(block)
                    if out.tell() > self._limits.max_bytes:
                        return None, f"it unpacks to more than the limit of {_megabytes(self._limits.max_bytes)}"
        except NotImplementedError:
            return None, f"it is packed in a way that is not supported (method {entry.compress_type})"
        except RuntimeError:
            return None, _ENCRYPTED
        except MemoryError:
            return None, "it needs too much memory to unpack"
        except DAMAGE as error:
            return None, f"it is damaged in the archive ({error})"[:200]
        self._bytes += out.tell()
        return out.getvalue(), None

    def _full(self, size: int) -> str | None:
        most = TOTAL_FILES * self._limits.max_bytes
        if self._bytes + size <= most:
            return None
        return f"the files of the archive unpack to more than the limit of {_megabytes(most)} in all"

    def _count(self, members: int) -> None:
        self._members += members
        if self._members > MOST_MEMBERS:
            raise Unreadable(f"the archive holds {self._members:,} files, more than the limit of {MOST_MEMBERS:,}")


_TWICE = "the archive holds several files of this name, and the last of them is read"
_OVERLAP = "it shares its bytes with another file of the archive, as only a decompression bomb does"
_ENCRYPTED = "it is encrypted: pack the archive without a password"


def refused(name: str, size: int, limits: Limits) -> str | None:
    """Why a file of this name and size is not read; archives are read."""
    return refusal(name if _suffix(name) != ZIP else "archive.txt", size, limits)


def _listed(content: bytes) -> zipfile.ZipFile:
    _check_list(content)
    try:
        return zipfile.ZipFile(io.BytesIO(content))
    except UnicodeDecodeError:
        raise Unreadable("the names of the files in the archive are not valid Unicode") from None
    except NotImplementedError:
        raise Unreadable("the archive is of a kind that is not supported") from None
    except DAMAGE as error:
        raise Unreadable(f"the archive is damaged ({error})"[:200]) from None


def _check_list(content: bytes) -> None:
    """The list of files at an archive's end is made into objects at once: its length comes first."""
    end = content.rfind(b"PK\x05\x06", max(0, len(content) - 65_557))
    if end < 0 or len(content) < end + 22:
        if not content.startswith(b"PK"):
            raise Unreadable("it is no ZIP archive")
        raise Unreadable("the archive is cut off: the list of its files is missing")
    size = int.from_bytes(content[end + 12 : end + 16], "little")
    if size == 0xFFFFFFFF and (wide := content.rfind(b"PK\x06\x06", 0, end)) >= 0:
        size = int.from_bytes(content[wide + 40 : wide + 48], "little")
    if size > LONGEST_LIST:
        raise Unreadable(f"the archive holds more than the limit of {MOST_MEMBERS:,} files")


def _overlapping(entries: Sequence[zipfile.ZipInfo]) -> frozenset[int]:
    """Where files begin whose bytes are another's as well."""
    found: set[int] = set()
    end, start = -1, -1
    for entry in sorted(entries, key=lambda each: each.header_offset):
        if entry.header_offset < end:
            found.update((start, entry.header_offset))
        reach = entry.header_offset + 30 + len(entry.orig_filename) + entry.compress_size
        if reach > end:
            end, start = reach, entry.header_offset
    return frozenset(found)


def _spelled(entry: zipfile.ZipInfo) -> str:
    """A name as it was meant: UTF-8 without the mark that says so, and the backslashes of old Windows tools."""
    name = entry.filename
    if not entry.flag_bits & 0x800 and not name.isascii():
        try:
            name = name.encode("cp437").decode("utf-8")
        except UnicodeError:
            name = entry.filename
    return name if "/" in name else name.replace("\\", "/")


def _label(name: str) -> str:
    """What a file is called in the corpus: below its archive, whatever its name says."""
    parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")]
    label = "/".join("__" if part == ".." else part for part in parts) or "unnamed"
    return label if len(label) <= LONGEST_NAME else f"{label[:LONGEST_NAME]}…"


def _unsafe(name: str) -> str | None:
    slashed = name.replace("\\", "/")
    if slashed.startswith("/") or (slashed[1:2] == ":" and slashed[:1].isalpha()):
        return f"its name in the archive is an absolute path: {name[:200]}"
    if ".." in slashed.split("/"):
        return f"its name in the archive leads out of it: {name[:200]}"
    if len(name) > LONGEST_NAME:
        return f"its name in the archive is longer than {LONGEST_NAME} characters"
    return None


def _sidecars(listed: zipfile.ZipFile) -> dict[str, str]:
    """{path: the file that says who may see what is there or below}, "" for all of the archive."""
    labels = [_label(_spelled(entry)) for entry in listed.infolist() if not entry.is_dir()]
    ends = [(label, end) for label in labels for end in SIDECARS if label.lower().endswith(end)]
    return {unicodedata.normalize("NFC", label[: -len(end)].rstrip("/")): label for label, end in ends}


def _said_of(name: str, closed: Mapping[str, str]) -> str | None:
    """What was meant to close a file does not leave it open."""
    path = unicodedata.normalize("NFC", name) if closed else ""
    while closed:
        if path in closed:
            return (
                f"{closed[path]} in the archive says who may see it, and is not followed there: unpack the archive, or "
                "say so beside the archive and pack it without"
            )
        if not path:
            break
        path = path.rpartition("/")[0]
    return None


def _closed(entry: zipfile.ZipInfo) -> str | None:
    if stat.S_ISLNK(entry.external_attr >> 16):
        return "a link: links in archives are not followed"
    return _ENCRYPTED if entry.flag_bits & 0x1 else None


def _bomb(entry: zipfile.ZipInfo) -> str | None:
    if entry.file_size > BOMB_BYTES and entry.file_size > BOMB_RATIO * max(1, entry.compress_size):
        times = entry.file_size // max(1, entry.compress_size)
        return f"it would unpack to {times:,} times its size, as only a decompression bomb does"
    return None


def _same(one: zipfile.ZipInfo, other: zipfile.ZipInfo) -> bool:
    return (one.CRC, one.file_size) == (other.CRC, other.file_size)


def _ignored(entry: zipfile.ZipInfo) -> bool:
    """Hidden files are left out, and what programs leave beside documents, as in folders."""
    parts = _spelled(entry).split("/")
    if any((part.startswith(".") and part not in (".", "..")) or part.lower() in IGNORED for part in parts):
        return True
    return parts[-1].startswith(LOCK) and entry.file_size <= LONGEST_LOCK


def _free(name: str, taken: set[str]) -> str:
    at = 2
    while f"{name} ({at})" in taken:
        at += 1
    return f"{name} ({at})"


def _suffix(name: str) -> str:
    return PurePosixPath(name).suffix.lower()


def _megabytes(size: int) -> str:
    return f"{size / MEGABYTE:,.0f} MB"
