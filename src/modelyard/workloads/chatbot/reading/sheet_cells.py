"""The parts of a workbook (SpreadsheetML, ECMA-376 part 1, 18) read as streams: what is empty costs nothing.

Names are taken without their namespace, as the strict and the transitional form differ in nothing else here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from xml.parsers import expat

from modelyard.workloads.chatbot.limits import Limits, Unreadable
from modelyard.workloads.chatbot.reading.sheet_format import BUILT_IN, shown
from modelyard.workloads.chatbot.reading.sheet_pages import clean

MOST_CELLS = 3_000_000
MOST_MERGES = 20_000
SIGN_EVERY = 2_000
REFERENCE = re.compile(r"\$?([A-Za-z]{1,3})\$?(\d{1,7})$")

Attributes = Mapping[str, str]
Progress = Callable[[int], None]
Area = tuple[int, int, int, int]
"""First row, first column, last row, last column, from 1."""


@dataclass
class Cells:
    """The filled cells of a sheet: {row: {column: text}}, both from 1, and the areas of merged cells."""

    rows: dict[int, dict[int, str]] = field(default_factory=dict)
    merged: list[Area] = field(default_factory=list)


@dataclass(frozen=True)
class Book:
    """What the cells of every sheet refer to. formats: the number format of each style."""

    strings: Sequence[str] = ()
    formats: Sequence[str] = ()
    from_1904: bool = False


class Element:
    """What a part is read with: `start` and `end` of each element by its local name, and its text."""

    def start(self, name: str, attributes: Attributes) -> None: ...

    def end(self, name: str) -> None: ...

    def text(self, data: str) -> None: ...


def read_xml(blocks: Iterable[bytes], reader: Element) -> None:
    """Feed a part to its reader. Raises Unreadable where it is damaged, or declares entities of its own."""
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler = lambda name, attributes: reader.start(name.rpartition(":")[2], attributes)
    parser.EndElementHandler = lambda name: reader.end(name.rpartition(":")[2])
    parser.CharacterDataHandler = reader.text
    parser.StartDoctypeDeclHandler = _refuse
    try:
        for block in blocks:
            parser.Parse(block, False)
        parser.Parse(b"", True)
    except expat.ExpatError as error:
        raise Unreadable(f"its XML is damaged ({error})") from None


def _refuse(*_: object) -> None:
    raise Unreadable("its XML declares a document type, which no spreadsheet does")


class Strings(Element):
    """The strings that cells share, in order; readings of Asian words beside them are left out."""

    def __init__(self, limits: Limits) -> None:
        self.found: list[str] = []
        self._parts: list[str] = []
        self._wanted = self._aside = False
        self._size, self._limits = 0, limits

    def start(self, name: str, attributes: Attributes) -> None:
        self._aside = self._aside or name == "rPh"
        self._wanted = name == "t" and not self._aside
        if name == "si":
            self._parts = []

    def end(self, name: str) -> None:
        if name == "rPh":
            self._aside = False
        elif name == "si":
            text = clean("".join(self._parts))
            self.found.append(text)
            self._size += len(text)
            if self._size > self._limits.max_characters:
                raise Unreadable(f"its text is longer than the limit of {self._limits.max_characters:,} characters")
        self._wanted = False

    def text(self, data: str) -> None:
        if self._wanted:
            self._parts.append(data)


class Styles(Element):
    """The number format of each style of cells."""

    def __init__(self) -> None:
        self._codes: dict[int, str] = dict(BUILT_IN)
        self._styles: list[int] = []
        self._inside = False

    @property
    def formats(self) -> list[str]:
        return [self._codes.get(number, "") for number in self._styles]

    def start(self, name: str, attributes: Attributes) -> None:
        if name == "numFmt":
            self._codes[_whole(attributes.get("numFmtId"), -1)] = attributes.get("formatCode", "")
        elif name == "cellXfs":
            self._inside = True
        elif name == "xf" and self._inside:
            self._styles.append(_whole(attributes.get("numFmtId"), 0))

    def end(self, name: str) -> None:
        self._inside = self._inside and name != "cellXfs"


class SheetCells(Element):
    """The cells of one sheet as they are shown. A formula shows the value it had when the file was saved; one that was
    saved without a value shows itself."""

    def __init__(self, book: Book, progress: Callable[[], None]) -> None:
        self.cells = Cells()
        self._book, self._progress = book, progress
        self._row = self._column = self._count = self._seen = 0
        self._type, self._style = "n", 0
        self._value: list[str] = []
        self._formula: list[str] | None = None
        self._target: list[str] | None = None
        self._aside = False

    def start(self, name: str, attributes: Attributes) -> None:
        if name == "c":
            place = place_of(attributes.get("r", ""))
            self._column = place[1] if place else self._column + 1
            self._type, self._style = attributes.get("t", "n"), _whole(attributes.get("s"), 0)
            self._value, self._formula = [], None
        elif name == "v" or (name == "t" and not self._aside):
            self._target = self._value
        elif name == "f":
            self._formula = self._target = []
        elif name == "rPh":
            self._aside = True
        elif name == "row":
            self._row, self._column = _whole(attributes.get("r"), self._row + 1), 0
            self._seen += 1
            if self._seen % SIGN_EVERY == 0:
                self._progress()
        elif name == "mergeCell" and len(self.cells.merged) < MOST_MERGES:
            first, _, last = attributes.get("ref", "").partition(":")
            a, b = place_of(first), place_of(last)
            if a and b:
                self.cells.merged.append((*a, *b))

    def end(self, name: str) -> None:
        if name == "c":
            text = self._shown()
            if text:
                self.cells.rows.setdefault(self._row, {})[self._column] = text
                self._count += 1
                if self._count > MOST_CELLS:
                    raise Unreadable(f"it has more than the limit of {MOST_CELLS:,} filled cells")
        elif name == "rPh":
            self._aside = False
        self._target = None

    def text(self, data: str) -> None:
        if self._target is not None:
            self._target.append(data)

    def _shown(self) -> str:
        value = "".join(self._value)
        if not value.strip():
            return clean(f"={''.join(self._formula)}") if self._formula else ""
        if self._type == "n":
            return _number(value, self._format(), self._book.from_1904)
        if self._type == "s":
            at = _whole(value, -1)
            return self._book.strings[at] if 0 <= at < len(self._book.strings) else ""
        if self._type == "b":
            return "TRUE" if value.strip() == "1" else "FALSE"
        if self._type == "d":
            return value.strip().removesuffix("T00:00:00").replace("T", " ")
        return clean(value)

    def _format(self) -> str:
        return self._book.formats[self._style] if 0 <= self._style < len(self._book.formats) else ""


def place_of(reference: str) -> tuple[int, int] | None:
    """(row, column), from 1, of a cell's name.

    >>> place_of("B7"), place_of("XFD1048576"), place_of("?")
    ((7, 2), (1048576, 16384), None)
    """
    found = REFERENCE.match(reference)
    if found is None:
        return None
    column = 0
    for letter in found.group(1).upper():
        column = column * 26 + ord(letter) - 64
    return int(found.group(2)), column


def _number(text: str, code: str, from_1904: bool) -> str:
    try:
        value = float(text)
    except ValueError:
        return clean(text)
    return shown(value, code, from_1904) if math.isfinite(value) else clean(text)


def _whole(text: str | None, otherwise: int) -> int:
    try:
        return int(text) if text is not None else otherwise
    except ValueError:
        return otherwise
