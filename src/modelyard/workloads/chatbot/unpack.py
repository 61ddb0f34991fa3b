"""Archives, and mails with attachments, as many documents of one file: `a.zip/b/c.pdf` is the file b/c.pdf in a.zip.

An archive that is what it was is not opened. One that changed is, and only those of its files that changed are read.
The archive's own row is written last: until then it counts as not opened, whatever of it is already there. One whose
run was cut short is opened again even when it is what its row says: it may have been another in between.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

import pyarrow as pa

from modelyard.workloads.chatbot import corpus
from modelyard.workloads.chatbot.corpus import OPENED, QUARANTINED
from modelyard.workloads.chatbot.limits import MISSING, OFF, Limits, Unreadable
from modelyard.workloads.chatbot.reading.unpack import MAIL, ZIP
from modelyard.workloads.chatbot.sandbox import Died, Refused, Sandbox
from modelyard.workloads.chatbot.writer import Piece


@dataclass(frozen=True)
class Marks:
    """What makes a document up to date: how it was prepared and embedded, and how it was refused or opened."""

    prepared: str
    embedder: str
    refused: str
    ocr: str = OFF
    """How pages that are pictures are read now, see `Limits`: documents that have some are read again when that is
    another way. Where this system lacks a language, or Tesseract, what was read before stays."""


def holds_documents(name: str) -> bool:
    """Whether a file of this name may hold others that are documents."""
    return PurePosixPath(name).suffix.lower() in (ZIP, MAIL)


def is_archive(name: str) -> bool:
    """Whether a file of this name is nothing but the files in it."""
    return PurePosixPath(name).suffix.lower() == ZIP


def up_to_date(row: corpus.Document, held: corpus.Holdings, marks: Marks) -> bool:
    """Whether the tables hold all of a document, made as it would be made now."""
    if row.state in (QUARANTINED, OPENED):
        return row.prepared == marks.refused
    prepared, ocr = corpus.ocr_of(row.prepared)
    if ocr not in (None, marks.ocr) and not marks.ocr.startswith(MISSING):
        return False
    whole = held.pages.get(row.document) == (row.sha256, row.pages)
    whole = whole and held.chunks.get(row.document) == (row.sha256, row.chunks)
    return whole and (prepared, row.embedder) == (marks.prepared, marks.embedder)


class Beneath:
    """Documents by the file that they are in."""

    def __init__(self, current: Mapping[str, corpus.Document]) -> None:
        self._current = current
        self._names = sorted(current)

    def of(self, name: str) -> list[str]:
        """The documents that are in the file `name`."""
        if not holds_documents(name):
            return []
        found = bisect_left(self._names, f"{name}/"), bisect_left(self._names, f"{name}0")  # "0" comes after "/"
        return self._names[found[0] : found[1]]

    def root(self, name: str) -> str | None:
        """The file of the documents folder that the document `name` is in; None where it is one itself."""
        at = name.find("/")
        while at >= 0:
            if holds_documents(name[:at]) and name[:at] in self._current:
                return name[:at]
            at = name.find("/", at + 1)
        return None


class Unpacker:
    """Opens archives and mails, one after the other. Afterwards `found` are the documents in them, `gone` those that
    were in them and are no longer, `archives` the rows to write of the archives themselves.

    A context manager that ends the child it opens them in.
    """

    def __init__(self, held: corpus.Holdings, marks: Marks, limits: Limits) -> None:
        self._held, self._marks, self._limits = held, marks, limits
        self._current = held.current
        self._beneath = Beneath(self._current)
        self._sandbox = Sandbox(limits)
        self.found: set[str] = set()
        self.gone: set[str] = set()
        self.archives: list[Piece] = []
        self._seen: dict[str, str] = {}

    def __enter__(self) -> Unpacker:
        return self

    def __exit__(self, *_: object) -> None:
        self._sandbox.close()

    def pieces(self, boxes: Iterable[Piece]) -> Iterator[Piece]:
        """The documents to read of these archives and mails; those that are up to date are passed over."""
        for box in boxes:
            seen: set[str] = set()
            broken = box.reason
            try:
                for piece in self._inside(box) if broken is None else ():
                    seen.add(piece.document)
                    if not self._stands(piece):
                        yield piece
            except Unreadable as reason:
                broken = str(reason)
                if not is_archive(box.document):
                    rest = Piece(f"{box.document}/attachments", "", None, box.modified_ns, broken)
                    seen.add(rest.document)
                    yield rest
            # An archive that breaks off is no archive: what was found in it before is not kept.
            kept = set() if broken is not None and is_archive(box.document) else seen
            self._seen[box.document] = box.sha256
            self.found |= kept
            self.gone |= {*self._beneath.of(box.document), *seen} - kept
            if is_archive(box.document):
                self.archives.append(
                    replace(box, content=None, size=len(box.content or b""), reason=broken, opened=True)
                )

    def unmoved(self, groups: Iterable[list[Piece]]) -> Iterator[list[Piece]]:
        """Mails, now to be read themselves: those that changed since they were opened are given up for now."""
        for group in groups:
            for piece in group:
                if piece.reason is None and piece.sha256 != self._seen.get(piece.document):
                    piece.give_up("it was being changed while it was read")
            yield group

    def _inside(self, box: Piece) -> Iterator[Piece]:
        """Every file in it, with its bytes where they are not known. Raises Unreadable."""
        prefix = f"{box.document}/"
        known = {
            name.removeprefix(prefix): row.sha256
            for name in self._beneath.of(box.document)
            if (row := self._current[name]).sha256 and up_to_date(row, self._held, self._marks)
        }
        arguments = {"document": box.document, "known": known}
        try:
            for stream in self._sandbox.run("unpack", arguments, box.content or b""):
                for row in pa.ipc.open_stream(stream).read_all().to_pylist():
                    name = f"{prefix}{row['document']}"
                    yield Piece(name, row["sha256"], row["content"], box.modified_ns, row["reason"])
        except (Refused, Died) as reason:
            raise Unreadable(str(reason)) from None

    def _stands(self, piece: Piece) -> bool:
        row = self._current.get(piece.document)
        if row is None or row.sha256 != piece.sha256 or not up_to_date(row, self._held, self._marks):
            return False
        return piece.reason is None or (row.state, row.reason) == (QUARANTINED, piece.reason)
