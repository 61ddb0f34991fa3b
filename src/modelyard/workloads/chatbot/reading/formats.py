"""What can be read, in one table: by a file's ending, who reads it, what it must begin with, what a page of it is.

Readers are named and not imported: the parent process only asks what is supported, and the child imports a reader, with
the libraries it needs, when it first meets such a file.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import cast

from modelyard.workloads.chatbot.limits import Limits
from modelyard.workloads.chatbot.reading.text import Section

Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Reading:
    """What a reader makes of a file.

    title: what the file says of itself, "" where it says nothing. pages: in order; for one that cannot be read the
    reason, a sentence. certainty: how far the characters can be trusted, from 0 to 1.
    """

    title: str
    pages: Sequence[Section | str]
    certainty: float = 1.0


Reader = Callable[[bytes, str, Limits, Progress], Reading]
"""(content, document's path, limits, sign of progress) -> Reading; raises Unreadable where nothing can be read."""

PDF, HTML, XML = "a PDF", "an HTML page", "an XML document"
ZIP, OLE = "a ZIP archive or an Office document", "an old or encrypted Office document"
SIGNATURES: tuple[tuple[bytes, str], ...] = (
    (b"%PDF-", PDF),
    (b"\x89PNG", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"GIF8", "a GIF picture"),
    (b"II*\x00", "a TIFF picture"),
    (b"MM\x00*", "a TIFF picture"),
    (b"PK\x03\x04", ZIP),
    (b"PK\x05\x06", "an empty ZIP archive"),
    (b"\xd0\xcf\x11\xe0", OLE),
    (b"\x1f\x8b", "a gzip archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
    (b"Rar!\x1a", "a RAR archive"),
    (b"{\\rtf", "an RTF document"),
    (b"%!PS", "a PostScript file"),
    (b"\x7fELF", "a program"),
    (b"<!doctype html", HTML),
    (b"<html", HTML),
    (b"<?xml", XML),
)
TEXTUAL = frozenset({HTML, XML})
ARCHIVED = frozenset({ZIP, OLE})


@dataclass(frozen=True, slots=True)
class Format:
    """How files of one ending are read.

    reader: "module:function" in this package, a Reader; "" for PDF, whose pages have boxes and are read apart.
    page: what a page of it is, as people call it.
    accepts: what it may begin with, of the kinds in SIGNATURES; what begins like none of them is accepted too, unless
    `needs` names what it should hold.
    """

    reader: str
    page: str
    accepts: frozenset[str]
    needs: str = ""


FORMATS: Mapping[str, Format] = {
    # What has no known mark may be a PDF all the same, behind other bytes or without its head: its reader tells.
    ".pdf": Format("", "page", frozenset({PDF, "a PostScript file"})),
    ".md": Format("plain:read_markdown", "section", TEXTUAL),
    ".markdown": Format("plain:read_markdown", "section", TEXTUAL),
    ".txt": Format("plain:read_plain", "section", TEXTUAL),
    ".docx": Format("docx:read_docx", "section", ARCHIVED, "Word document"),
    ".docm": Format("docx:read_docx", "section", ARCHIVED, "Word document"),
    ".pptx": Format("pptx:read_pptx", "slide", ARCHIVED, "presentation"),
    ".pptm": Format("pptx:read_pptx", "slide", ARCHIVED, "presentation"),
    ".xlsx": Format("sheet:read_workbook", "sheet", ARCHIVED, "spreadsheet"),
    ".xlsm": Format("sheet:read_workbook", "sheet", ARCHIVED, "spreadsheet"),
    ".csv": Format("delimited:read_delimited", "part of the rows", TEXTUAL),
    ".tsv": Format("delimited:read_delimited", "part of the rows", TEXTUAL),
    ".eml": Format("mail:read_mail", "section", TEXTUAL),
    ".html": Format("html:read_html", "section", TEXTUAL),
    ".htm": Format("html:read_html", "section", TEXTUAL),
    ".xhtml": Format("html:read_html", "section", TEXTUAL),
}
ARCHIVE = ".zip"
"""Not read itself: the files in it are."""
SUPPORTED = (*FORMATS, ARCHIVE)
SAVE_AS: Mapping[str, str] = {
    ".doc": ".docx",
    ".dot": ".docx",
    ".rtf": ".docx",
    ".odt": ".docx",
    ".pages": ".docx",
    ".ppt": ".pptx",
    ".pps": ".pptx",
    ".odp": ".pptx",
    ".key": ".pptx",
    ".xls": ".xlsx",
    ".xlsb": ".xlsx",
    ".ods": ".xlsx",
    ".numbers": ".xlsx",
    ".msg": ".eml",
}
"""Formats that are not read, and which that is their programs can save."""


def format_of(document: str) -> Format | None:
    """The format a file's name says it has; None for one that is not read."""
    return FORMATS.get(PurePosixPath(document).suffix.lower())


def unsupported(document: str) -> str | None:
    """Why files of this ending are not read; None where they are.

    >>> unsupported("notes.doc")
    'files ending in .doc are not supported: save it as .docx'
    """
    suffix = PurePosixPath(document).suffix.lower()
    if suffix in FORMATS:
        return None
    kind = f"files ending in {suffix}" if suffix else "files without an ending"
    better = SAVE_AS.get(suffix)
    if better in FORMATS:
        return f"{kind} are not supported: save it as {better}"
    return f"{kind} are not supported; supported are {', '.join(SUPPORTED)}"


def wrong_type(document: str, head: bytes) -> str | None:
    """Why the first kilobyte of a file does not fit its ending; None where it does, or nothing is known against it."""
    suffix = PurePosixPath(document).suffix.lower()
    format_ = FORMATS[suffix]
    if PDF in format_.accepts and b"%PDF-" in head:
        # Readers accept a PDF that begins within the first kilobyte.
        return None
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    kind = next((name for mark, name in SIGNATURES if start.startswith(mark.lower()) or head.startswith(mark)), None)
    if kind in format_.accepts or (kind is None and not format_.needs):
        return None
    better = SAVE_AS[".rtf"] if kind == "an RTF document" and ".docx" in FORMATS else ""
    advice = f": save it as {better}" if better else ""
    return f"it is named {suffix} but holds {kind or f'no {format_.needs}'}{advice}"


def reader_of(format_: Format) -> Reader:
    """The reader of a format, imported now. Raises what the import raises."""
    module, _, name = format_.reader.partition(":")
    return cast(Reader, getattr(importlib.import_module(f"modelyard.workloads.chatbot.reading.{module}"), name))
