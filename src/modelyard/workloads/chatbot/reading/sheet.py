"""Spreadsheets (XLSX, XLSM) to pages: a sheet is a page, a long one is several."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from modelyard.workloads.chatbot.limits import Limits, Unreadable
from modelyard.workloads.chatbot.reading.formats import Progress, Reading
from modelyard.workloads.chatbot.reading.naming import speaks
from modelyard.workloads.chatbot.reading.office import Package
from modelyard.workloads.chatbot.reading.sheet_cells import (
    Attributes,
    Book,
    Element,
    SheetCells,
    Strings,
    Styles,
    read_xml,
)
from modelyard.workloads.chatbot.reading.sheet_pages import Pages
from modelyard.workloads.chatbot.reading.sheet_tables import write_tables
from modelyard.workloads.chatbot.reading.text import Section

MOST_SHEETS = 2_000
WORKBOOK = "xl/workbook.xml"

Open = Callable[[str], Iterable[bytes]]
"""The bytes of a part by its name, in blocks; raises KeyError where there is none, Unreadable where it is damaged."""


@dataclass(frozen=True)
class Sheet:
    """A sheet as the workbook lists it. state: "visible", "hidden" or "veryHidden"."""

    name: str
    state: str
    relation: str


def read_workbook(content: bytes, document: str, limits: Limits, progress: Progress) -> Reading:
    """The sheets of a workbook as pages. Raises Unreadable where it is no workbook, encrypted or over the limits."""
    package = Package(content, limits, "xl", PurePosixPath(document).suffix.lower())
    title, pages = read_sheets(package.archive.blocks, limits, progress)
    return Reading(title, pages)


def read_sheets(open_part: Open, limits: Limits, progress: Progress) -> tuple[str, list[Section | str]]:
    """(title or "", pages in the order of the sheets; for one that cannot be read the reason).

    Values are as shown. Hidden sheets, rows and columns are read: to hide is a way to tidy, a filter hides rows, and
    the page says that its sheet is hidden. What only a macro can show is named and not read. Comments, charts and
    pictures are left out. Raises Unreadable where there is no workbook.
    """
    listed = _Workbook()
    try:
        read_xml(open_part(WORKBOOK), listed)
    except KeyError:
        raise Unreadable("it holds no workbook: it is no spreadsheet, or damaged") from None
    if len(listed.sheets) > MOST_SHEETS:
        raise Unreadable(f"it has {len(listed.sheets):,} sheets, more than the limit of {MOST_SHEETS:,}")
    targets = _targets(open_part)
    strings, styles = Strings(limits), Styles()
    _read(open_part, targets.kinds.get("sharedStrings", "xl/sharedStrings.xml"), strings)
    _read(open_part, targets.kinds.get("styles", "xl/styles.xml"), styles)
    book = Book(strings.found, styles.formats, listed.from_1904)
    pages: list[Section | str] = []
    characters = 0
    for number, sheet in enumerate(listed.sheets, start=1):
        progress(number)
        for page in _pages(open_part, sheet, targets, book, limits, lambda: progress(0)):
            pages.append(page)
            characters += len(page.text) if isinstance(page, Section) else 0
        if characters > limits.max_characters:
            raise Unreadable(f"its text is longer than the limit of {limits.max_characters:,} characters")
        if len(pages) > limits.max_pages:
            raise Unreadable(f"its sheets fill more than the limit of {limits.max_pages:,} pages")
    return _title(open_part), pages


def _pages(
    open_part: Open, sheet: Sheet, targets: _Targets, book: Book, limits: Limits, sign: Callable[[], None]
) -> Iterator[Section | str]:
    """Of an empty sheet one page without text, so that the pages of a workbook are counted as its sheets are."""
    part, kind = targets.parts.get(sheet.relation, ("", ""))
    if sheet.state == "veryHidden":
        yield f"the sheet {sheet.name!r} is hidden so that only a macro can show it: it is not read"
        return
    if kind in ("chartsheet", "dialogsheet"):
        yield f"the sheet {sheet.name!r} is a {'chart' if kind == 'chartsheet' else 'dialog'}: it holds no cells"
        return
    reader = SheetCells(book, sign)
    pages = Pages(f"{sheet.name} (hidden sheet)" if sheet.state == "hidden" else sheet.name, limits)
    try:
        read_xml(open_part(part), reader)
    except KeyError:
        yield f"the sheet {sheet.name!r} is missing from the file: it is damaged"
        return
    except Unreadable as reason:
        yield f"the sheet {sheet.name!r} cannot be read: {reason}"
        return
    write_tables(reader.cells, pages)
    yield from pages.sections() or [Section("")]


class _Workbook(Element):
    def __init__(self) -> None:
        self.sheets: list[Sheet] = []
        self.from_1904 = False

    def start(self, name: str, attributes: Attributes) -> None:
        if name == "sheet":
            relation = next((value for key, value in attributes.items() if key.rpartition(":")[2] == "id"), "")
            called = " ".join(attributes.get("name", "").split()) or f"Sheet {len(self.sheets) + 1}"
            self.sheets.append(Sheet(called, attributes.get("state", "visible"), relation))
        elif name == "workbookPr":
            self.from_1904 = attributes.get("date1904", "0") in ("1", "true")


class _Targets(Element):
    """Where the parts of the workbook are: by the id of the relation, and by its kind."""

    def __init__(self) -> None:
        self.parts: dict[str, tuple[str, str]] = {}
        self.kinds: dict[str, str] = {}

    def start(self, name: str, attributes: Attributes) -> None:
        if name == "Relationship" and attributes.get("TargetMode") != "External":
            target = attributes.get("Target", "")
            part = target.lstrip("/") if target.startswith("/") else posixpath.normpath(f"xl/{target}")
            kind = attributes.get("Type", "").rpartition("/")[2]
            self.parts[attributes.get("Id", "")] = (part, kind)
            self.kinds.setdefault(kind, part)


class _Title(Element):
    def __init__(self) -> None:
        self.found = ""
        self._inside = False

    def start(self, name: str, attributes: Attributes) -> None:
        self._inside = name == "title"

    def end(self, name: str) -> None:
        self._inside = False

    def text(self, data: str) -> None:
        if self._inside and len(self.found) < 500:
            self.found += data


def _targets(open_part: Open) -> _Targets:
    found = _Targets()
    _read(open_part, "xl/_rels/workbook.xml.rels", found)
    return found


def _title(open_part: Open) -> str:
    found = _Title()
    try:
        _read(open_part, "docProps/core.xml", found)
    except Unreadable:
        return ""
    title = " ".join(found.found.split())[:160]
    return title if speaks(title) else ""


def _read(open_part: Open, name: str, reader: Element) -> None:
    """A part that a workbook may do without."""
    try:
        read_xml(open_part(name), reader)
    except KeyError:
        return
