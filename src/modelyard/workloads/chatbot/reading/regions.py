"""Where a page's text is a table, and what its columns are called: rows are lines whose cells are parted by tabs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from modelyard.workloads.chatbot.reading.naming import CAPTION
from modelyard.workloads.chatbot.reading.numbers import is_number

YEAR = re.compile(r"(?:FY|fiscal|year)?\s*(?:(?:19|20)\d\d|'\d\d)(?:\s*\([a-z0-9*]\)|[a-z*¹²³⁴⁵])?", re.I)
# Lines without cells that a table may hold between two rows: a group label and a blank line.
BRIDGE = 2
CAPTION_LENGTH = 240
SHORT_LABEL = 90
REPEATED_LENGTH = 320


@dataclass(frozen=True, slots=True)
class Table:
    """A run of lines, as indices: [caption, head) caption, [head, rows) column lines, [rows, end) the rest."""

    caption: int
    head: int
    rows: int
    end: int


def tables_of(lines: Sequence[str], headings: frozenset[int], goes_on: bool = False) -> list[Table]:
    """The tables among the lines of a page, in order. headings: indices of lines no table reaches across. goes_on: the
    page begins within a table, of which a single row may be left."""
    tables: list[Table] = []
    at = 0
    while at < len(lines):
        if "\t" not in lines[at].strip() or at in headings:
            at += 1
            continue
        end = _end(lines, at, headings)
        least = 1 if goes_on and not "".join(lines[:at]).strip() else 2
        if sum("\t" in line.strip() for line in lines[at:end]) >= least:
            floor = tables[-1].end if tables else 0
            tables.append(Table(_caption(lines, at, floor, headings), at, _first_row(lines, at, end), end))
        at = end
    return tables


def _end(lines: Sequence[str], start: int, headings: frozenset[int]) -> int:
    end = at = start + 1
    while at < len(lines) and at - end <= BRIDGE and at not in headings:
        line = lines[at].strip()
        if "\t" in line:
            end = at + 1
        elif len(line) > SHORT_LABEL or CAPTION.match(line):
            break
        at += 1
    return end


def head_of(lines: Sequence[str], table: Table) -> str:
    """Caption and column lines, to be repeated for later parts; where that is too long, less of the caption."""
    caption = "\n".join(line.strip() for line in lines[table.caption : table.head] if line.strip())
    columns = "\n".join(line.strip() for line in lines[table.head : table.rows] if line.strip())[:REPEATED_LENGTH]
    room = REPEATED_LENGTH - len(columns) - 1
    return f"{caption[: max(0, room)]}\n{columns}".strip()


def _caption(lines: Sequence[str], start: int, floor: int, headings: frozenset[int]) -> int:
    """Where the words over a table begin: short lines right above it, or a paragraph that announces it."""
    at = start
    taken = 0
    while at > floor and at - 1 not in headings:
        line = lines[at - 1].strip()
        gap = not line
        if gap:
            above = lines[at - 2].strip() if at - 2 >= floor else ""
            announces = above.endswith(":") or (0 < len(above) <= SHORT_LABEL and above[-1] not in ".;,")
            if taken or not announces or at - 2 in headings:
                break
        elif taken + len(line) > CAPTION_LENGTH or (line.endswith(".") and len(line) > SHORT_LABEL):
            break
        taken += len(line)
        at -= 1
    while at < start and not lines[at].strip():
        at += 1
    return at


def _first_row(lines: Sequence[str], start: int, end: int) -> int:
    """Where the rows begin below the column lines: the first line names columns whatever it holds, and so does all up
    to the fullest of the lines before the first that has a label and values."""
    last = min(end, start + 8)
    cells = [[cell.strip() for cell in line.rstrip("\n").split("\t")] for line in lines[start:last]]
    values = next((at for at, row in enumerate(cells) if row[0] and any(map(is_amount, row[1:]))), len(cells))
    filled = [sum(map(bool, row)) for row in cells[: max(1, values)]]
    first = filled.index(max(filled)) + 1
    while first < values and not cells[first][0]:
        first += 1
    return min(start + first, end)


def is_amount(cell: str) -> bool:
    """Whether the cell begins with a number, which is not a year."""
    words = cell.split()
    return bool(words) and is_number(words[0]) and not YEAR.fullmatch(cell)
