"""Rows of cells to pages: what a spreadsheet and a file of delimited values have in common.

A row is a line whose cells tabs part. A long table is cut between rows, and each part begins with the table's head
again, as a passage is found by the words of its columns.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from modelyard.workloads.chatbot.limits import Limits, Unreadable
from modelyard.workloads.chatbot.reading.numbers import is_number
from modelyard.workloads.chatbot.reading.regions import YEAR
from modelyard.workloads.chatbot.reading.text import Section

PAGE_ROWS = 200
PAGE_CHARACTERS = 24_000
# Lines that keep two tables of a sheet apart: chunks bridge two lines without cells.
BETWEEN_TABLES = ("", "", "")
EMPTY = "–"
LONGEST_LABEL = 80
HEAD_LINES = 3
DATE = re.compile(r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}(?:[ T]\d{1,2}:\d\d.*)?|\d{1,2}:\d\d(?::\d\d)?")


class Pages:
    """The pages of one sheet, filled row by row. name: what a page is called, "" for a file that is one table.

    Raises Unreadable where there are more pages or characters than the limits allow.
    """

    def __init__(self, name: str, limits: Limits) -> None:
        self._name, self._limits = name, limits
        self._done: list[tuple[str, int, int]] = []
        self._lines: list[str] = []
        self._head: Sequence[str] = ()
        self._size = self._total = self._count = 0
        self._first = self._last = 0

    def table(self, lead: Sequence[str], head: Sequence[str]) -> None:
        """A table begins. lead: the words above it. head: the labels of its columns, which each page of it repeats."""
        if self._count >= PAGE_ROWS:
            self._flush()
        if self._lines:
            self._lines += BETWEEN_TABLES
        self._lines += [*lead, *head]
        self._size += sum(map(len, lead))
        caption = lead[-1:] if lead and len(lead[-1]) <= LONGEST_LABEL else ()
        self._head = (*caption, *head)

    def gap(self) -> None:
        """An empty row within the table."""
        if self._count:
            self._lines.append("")

    def row(self, number: int, line: str) -> None:
        """The next row. number: as the sheet counts its rows, from 1."""
        if self._count and (self._count >= PAGE_ROWS or self._size + len(line) > PAGE_CHARACTERS):
            self._flush()
            self._lines += self._head
        self._first = self._first or number
        self._last = number
        self._lines.append(line)
        self._count += 1
        self._size += len(line) + 1

    def sections(self) -> list[Section]:
        """The pages; one that holds only a part of the rows says which."""
        self._flush()
        alone = len(self._done) == 1
        return [_section(self._called(first, last, alone), text) for text, first, last in self._done]

    def _called(self, first: int, last: int, alone: bool) -> str:
        if alone or not first:
            return self._name
        rows = f"rows {first}-{last}" if last > first else f"row {first}"
        return f"{self._name}, {rows}" if self._name else rows.capitalize()

    def _flush(self) -> None:
        text = "\n".join(self._lines).strip("\n")
        if text.strip():
            self._done.append((text, self._first, self._last))
            self._total += len(text)
        if len(self._done) > self._limits.max_pages:
            raise Unreadable(
                f"its rows fill more than the limit of {self._limits.max_pages:,} pages of {PAGE_ROWS} rows"
            )
        if self._total > self._limits.max_characters:
            raise Unreadable(f"its text is longer than the limit of {self._limits.max_characters:,} characters")
        self._lines = []
        self._size = self._count = self._first = self._last = 0


def _section(name: str, text: str) -> Section:
    return Section(f"{name}\n\n{text}", 1, len(name)) if name else Section(text)


def clean(cell: str) -> str:
    """A cell on one line: line breaks, tabs and runs of blanks in it are one blank."""
    return " ".join(cell.split())


def line_of(cells: Sequence[str], width: int, head: bool = False) -> str:
    """The cells with tabs between them. An empty cell at either end is shown as a dash, as what is empty there would
    be taken for a row that is short; the corner above the labels of a head stays empty."""
    padded = [*cells, *[""] * (width - len(cells))]
    if len(padded) > 1:
        padded[0] = padded[0] or ("" if head and all(padded[1:]) else EMPTY)
        padded[-1] = padded[-1] or EMPTY
    return "\t".join(padded)


def head_of(rows: Sequence[Sequence[str]]) -> tuple[int, int]:
    """(how many rows at the top are words over the table, up to which row the labels of its columns go); where the
    first row is already data, both are 0. rows: the first of the table; some twenty will do."""
    width = max((sum(map(bool, row)) for row in rows), default=0)
    if width < 2:
        return 0, 0
    at = 0
    while at < len(rows) - 1 and sum(map(bool, rows[at])) == 1:
        at += 1
    if not _labels(rows[at]) or at + 1 >= len(rows):
        return at, at
    below = rows[at + 1 :]
    typed = any(is_value(cell) for row in below for cell in row)
    if not typed and not _distinct(rows[at], below, width):
        return at, at
    end = at + 1
    # Labels that span columns stand over others.
    while end < min(len(rows) - 1, at + HEAD_LINES) and _spans(rows[end - 1]) and typed and _labels(rows[end]):
        end += 1
    return at, end


def _labels(row: Sequence[str]) -> bool:
    return sum(map(bool, row)) >= 2 and not any(is_value(cell) or len(cell) > LONGEST_LABEL for cell in row)


def _spans(row: Sequence[str]) -> bool:
    filled = [cell for cell in row[1:] if cell]
    return len(filled) < len(row) - 1 or len(set(filled)) < len(filled)


def _distinct(head: Sequence[str], below: Iterable[Sequence[str]], width: int) -> bool:
    """Whether a row of words alone over rows of words alone reads like labels."""
    filled = [cell for cell in head if cell]
    if len(filled) < width or len(set(filled)) < len(filled) or any(len(cell) > 40 for cell in filled):
        return False
    return not any(a and a == b for row in below for a, b in zip(head, row, strict=False))


def is_value(cell: str) -> bool:
    if YEAR.fullmatch(cell):
        return False
    return bool(cell) and (DATE.fullmatch(cell) is not None or is_number(cell.split()[0]))
