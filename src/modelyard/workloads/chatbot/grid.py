"""Tables in the text of a page, read strictly: a row that is not plainly one is left out.

For making questions, not for answering them: the exam must not read tables with the eyes of what it examines.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_NUMBER = re.compile(r"[-–(]?[$€£]?\s?\d[\d.,]*\s?[%)]?")
_VALUE = re.compile(r"[$€£@]|\d,\d{3}|\d{1,2}, \d{4}|\d[-/.]\d{1,2}[-/.]\d")
"""What is written in cells and not over them: money, addresses, dates, large numbers."""
_YEAR = re.compile(r"(?:19|20)\d\d")


@dataclass(frozen=True)
class Cell:
    """A value of a table with the labels of its row and column. `start`: where the table begins in the text."""

    row: str
    column: str
    value: str
    start: int


def cells(text: str) -> Iterator[Cell]:
    """The cells of lines that tabs part, under a first line of short labels.

    >>> [(c.row, c.column, c.value) for c in cells("City\\tHotel\\tMeals\\nBrno\\t95\\t40\\nLeeds\\t140\\t55")][:2]
    [('Brno', 'Hotel', '95'), ('Brno', 'Meals', '40')]
    """
    for start, lines in _blocks(text):
        header, body = lines[0], lines[1:]
        if len(body) < 2 or not all(map(_is_label, header[1:])) or not _is_label(header[0]):
            continue
        if len(header) == 2 and re.search(r"\d", header[1]) and not _YEAR.fullmatch(header[1]):
            # "Document  TI-12" heads a list of particulars, not a table.
            continue
        width = max(set(map(len, body)), key=[len(row) for row in body].count)
        if width == len(header):
            columns = header[1:]
        elif width == len(header) + 1:
            columns = header
        else:
            continue
        yield from _of_rows(body, columns, width, start)


def _of_rows(body: list[list[str]], columns: list[str], width: int, start: int) -> Iterator[Cell]:
    labels = [row[0] for row in body]
    values = {value for row in body for value in row[1:]}
    for at, row in enumerate(body):
        # A line of fewer cells below is the rest of this one: its labels are not whole.
        whole = len(row) == width and (at + 1 == len(body) or len(body[at + 1]) == width)
        if not whole or not _is_row_label(row[0]) or labels.count(row[0]) > 1:
            continue
        for column, value in zip(columns, row[1:], strict=True):
            # A label that is also a value heads no column: the table goes on from the page before.
            if value and columns.count(column) == 1 and column not in values:
                yield Cell(row[0], column, value, start)


def _blocks(text: str) -> Iterator[tuple[int, list[list[str]]]]:
    block: list[list[str]] = []
    begin = at = 0
    for line in [*text.split("\n"), ""]:
        if "\t" in line:
            begin = begin if block else at
            block.append([" ".join(cell.split()) for cell in line.split("\t")])
        elif block:
            yield begin, block
            block = []
        at += len(line) + 1


def _is_label(cell: str) -> bool:
    if _YEAR.fullmatch(cell):
        return True
    short = 0 < len(cell) <= 40 and len(cell.split()) <= 6
    return short and re.search(r"[^\W\d_]", cell) is not None and not _VALUE.search(cell) and cell[-1] not in ".;,:"


def _is_row_label(cell: str) -> bool:
    short = 2 <= len(cell) <= 60 and len(cell.split()) <= 8
    named = re.search(r"[^\W\d_]", cell) is not None and "@" not in cell
    return short and named and not _NUMBER.fullmatch(cell) and cell[-1] not in ".;,:"
