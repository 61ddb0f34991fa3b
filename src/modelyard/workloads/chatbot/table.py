"""Tables as rows, columns and labels, read back from lines of text whose cells are separated.

What a reader sees at a glance has to be told from the lines alone: which rows are the head, which caption and scale
belong to it, that a short row ("Total") is filled from the right, that "no 1" carries a footnote.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise, takewhile

_RULE = re.compile(r"[\s|:+=-]*--[\s|:+=-]*\Z")
_PERIOD = re.compile(r"(?:FY|fiscal |year )?(?:19|20)\d\d(?:[/-]\d\d)?|[QH][1-4](?: ?(?:19|20)\d\d)?", re.I)
_VALUE = re.compile(
    r"[^\w\s]*\s*(?:[A-Z]{3}|[$\u20ac\u00a3])?\s*\(?[-\u2013\u2212+]?\d[\d.,\u00a0\u202f ]*\)?\s?(?:%|x|pts|bps)?\)?\Z"
)
_CAPTION = re.compile(r"(?:table|exhibit|schedule)\s+[\w.]{1,6}[.:]?\s", re.I)
_NOTE = re.compile(r"\s*\(?(?P<mark>\d{1,2}|[a-z]|\*{1,3})\)?[.):]?\s+\S", re.I)
_EMPTY = {"", "-", "\u2013", "\u2014", "\u2212"}
_LEADS_ON = "(?:and|at|by|for|from|in|of|on|or|per|that|to|who|which|with|without)"
_UNIT = re.compile(r"[(\[]([^()\[\]]{1,40})[)\]]\s*\Z")


@dataclass(frozen=True)
class Line:
    """One line of a page: its text, offsets, the heading path above it and the header its passage was indexed with."""

    text: str
    start: int
    end: int
    section: str = ""
    header: str = ""

    @cached_property
    def cells(self) -> tuple[str, ...]:
        """The cells of a row; a line of prose is one cell, a rule of Markdown none."""
        text = self.text.strip()
        if "\t" in text:
            return tuple(c.strip() for c in text.split("\t"))
        if text.startswith("|") and text.count("|") >= 2:
            return () if self.is_rule else tuple(c.strip().strip("*_").strip() for c in text.strip("|").split("|"))
        return (text,)

    @property
    def is_rule(self) -> bool:
        """The line of dashes under a head, in Markdown."""
        return "|" in self.text and _RULE.match(self.text) is not None


@dataclass(frozen=True)
class Row:
    """A row of the body. cells: as many as the table has columns. group: the heading it stands under, if any."""

    cells: tuple[str, ...]
    start: int
    end: int
    group: str = ""
    exact: bool = True
    """Whether each cell is known to stand under its column (as many cells as columns, or filled from the right)."""
    marks: tuple[str, ...] = ()
    """Marks of footnotes its cells carried."""


@dataclass(frozen=True)
class Table:
    """A table of a page. columns: labels, "" where there is none. notes: mark -> (text, start, end)."""

    caption: str
    scale: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    section: str
    start: int
    end: int
    notes: Mapping[str, tuple[str, int, int]] = field(default_factory=dict)

    def is_period(self, column: int) -> bool:
        """Whether the column is headed by a year, a half or a quarter."""
        return _PERIOD.fullmatch(self.columns[column]) is not None

    def unit(self, column: int) -> str:
        """What the numbers of the column count, from the label's brackets or the scale line; "" where not told."""
        found = _UNIT.search(self.columns[column])
        return found[1] if found else unit_of_scale(self.scale)


def is_value(cell: str) -> bool:
    """Whether the cell is a number with its signs, rather than words."""
    return _VALUE.match(cell) is not None


def value_of(cell: str) -> float | None:
    """The number of a cell, brackets and minus signs meaning below zero; None where it is none."""
    if not is_value(cell):
        return None
    digits = re.sub(r"[^\d.]", "", cell.replace(",", ""))
    try:
        value = float(digits)
    except ValueError:
        return None
    return -value if re.match(r"\D*(?:\(|[-\u2013\u2212])\s*\D?\d", cell) else value


def is_empty(cell: str) -> bool:
    """Whether the cell says that there is nothing."""
    return cell.strip().lower() in _EMPTY


def read_table(above: Sequence[Line], lines: Sequence[Line], below: Sequence[Line]) -> tuple[Table, int]:
    """The table of `lines`, and how many of the lines `above` are its caption. `below` may hold its notes."""
    caption, scale, used = _caption(above)
    rows = [line for line in lines if not line.is_rule]
    width = _width([line.cells for line in rows if len(line.cells) > 1])
    head = _head(rows, width)
    header = rows[:head]
    over, labels = _repeated(lines[0].header)
    # What a page begins with goes on from the page before.
    blank = not "".join(line.text for line in above).strip()
    goes_on = blank and lines[0].start == sum(len(line.text) + 1 for line in above)
    if labels and (goes_on or not header):
        head, header = 0 if goes_on else head, labels
        named, scaled, _ = _caption(over)
        caption, scale = caption or named, scale or scaled
    notes = _notes(below)
    columns = tuple(strip_mark(c, notes)[0] for c in _columns([line.cells for line in header], width))
    body = _body(rows[head:], width, notes)
    return Table(caption, scale, columns, tuple(body), lines[0].section, lines[0].start, lines[-1].end, notes), used


def _repeated(header: str) -> tuple[list[Line], list[Line]]:
    """(lines of the caption, column lines) that the header of a table's later part repeats."""
    lines = [Line(text, -1, -1) for text in header.splitlines()[1:]]
    over = list(takewhile(lambda line: len(line.cells) == 1, lines))
    return over, [line for line in lines[len(over) :] if len(line.cells) > 1][-2:]


def _caption(above: Sequence[Line]) -> tuple[str, str, int]:
    """(caption, scale line, lines used) from the lines just above; prose is not taken."""
    taken: list[str] = []
    for line in reversed(above):
        text = line.text.strip().strip("*").strip()
        named = _CAPTION.match(text) is not None
        if (
            text
            and not named
            and (len(text) > 100 or text.endswith((".", ":", ";")) or _is_section(text, line.section))
        ):
            break
        taken.append(text)
        if named:
            break
    while taken and not taken[-1]:
        taken.pop()
    words = [t for t in reversed(taken) if t]
    if not words:
        return "", "", 0
    if _CAPTION.match(words[0]):
        return words[0], " ".join(words[1:]), len(taken)
    return "", " ".join(words), len(taken)


def _is_section(text: str, section: str) -> bool:
    bare = text.lstrip("#0123456789. ")
    return any(bare == part.lstrip("#0123456789. ") for part in section.split(" > "))


def _width(rows: Sequence[tuple[str, ...]]) -> int:
    counts = Counter(len(cells) for cells in rows)
    return max(counts, key=lambda n: (counts[n], n))


def _head(rows: Sequence[Line], width: int) -> int:
    """How many lines at the top are the head."""
    head = 0
    full = False
    for line in rows[:5]:
        cells = line.cells
        if len(cells) == 1:
            if head == 0:
                break
            head += 1
            continue
        body = any(is_value(c) and not _PERIOD.fullmatch(c) for c in cells[1:])
        if body and head == 0 and _sizes(rows):
            return 1
        if body or (full and not _goes_on(cells, width)):
            break
        full = full or len(cells) >= width - (not _PERIOD.fullmatch(cells[0]) and bool(head))
        head += 1
    while head and len(rows[head - 1].cells) == 1:
        head -= 1
    return head if head < len(rows) else 0


def _sizes(rows: Sequence[Line]) -> bool:
    """Whether the first line is a head of bare numbers ("Property  15  20  25"): whole, growing, of a column of words
    that below carry their units."""
    first, rest = rows[0].cells, [r.cells for r in rows[1:] if len(r.cells) == len(rows[0].cells)]
    numbers = [c for c in first[1:] if c.isdigit()]
    if len(numbers) < 3 or len(numbers) < len(first) - 1 or not rest or re.search(r"\d", first[0]):
        return False
    growing = all(int(a) < int(b) for a, b in pairwise(numbers))
    return growing and sum(_UNIT.search(r[0]) is not None for r in rest) >= len(rest) / 2


def _goes_on(cells: tuple[str, ...], width: int) -> bool:
    """Whether a short line under a full head is the rest of labels that did not fit."""
    return len(cells) < width and all(c[:1] in "([" or c[:1].islower() for c in cells)


def _columns(header: Sequence[tuple[str, ...]], width: int) -> list[str]:
    columns = [""] * width
    full = False
    for cells in header:
        if len(cells) == 1:
            continue
        spread = [""] * (width - len(cells)) + list(cells) if full and _goes_on(cells, width) else _spread(cells, width)
        columns = [f"{c} {s}".strip() if s not in c else c for c, s in zip(columns, spread, strict=True)]
        full = full or len(cells) >= width - 1
    return columns


def _spread(cells: tuple[str, ...], width: int) -> list[str]:
    """The labels of one line of the head over `width` columns; a label that spans several is repeated."""
    count, rest = len(cells), width - 1
    if count >= width:
        return list(cells[:width])
    if count == rest:
        return ["", *cells]
    if rest % count == 0:
        return ["", *(c for c in cells for _ in range(rest // count))]
    if count > 1 and rest % (count - 1) == 0:
        return [cells[0], *(c for c in cells[1:] for _ in range(rest // (count - 1)))]
    return [""] * (width - count) + list(cells)


def _body(lines: Sequence[Line], width: int, notes: Mapping[str, object]) -> list[Row]:
    out: list[Row] = []
    group = ""
    for line in lines:
        stripped = [strip_mark(c, notes) for c in line.cells]
        cells = [c for c, _ in stripped]
        if len(cells) == 1:
            if out and (cells[0][:1].islower() or cells[0][:1] == "("):
                out[-1] = _longer(out[-1], cells[0], line.end)
            else:
                group = cells[0].rstrip(":")
            continue
        exact = True
        if len(cells) < width:
            tail = cells[1:]
            exact = all(is_value(c) or is_empty(c) for c in tail)
            if not exact and len(cells) == 2 and len(cells[0]) <= 2:
                group = " ".join(cells)  # "E  Customers and readings" above E1, E2, ...
                continue
            cells = [cells[0], *[""] * (width - len(cells)), *tail]
        elif len(cells) > width:
            exact = False
            cells = [*cells[: width - 1], " ".join(cells[width - 1 :])]
        marks = tuple(m for _, m in stripped if m)
        out.append(Row(tuple(cells), line.start, line.end, group, exact, marks))
    return out


def _longer(row: Row, rest: str, end: int) -> Row:
    """`row` with the rest of a cell that went on below: that of its longest words."""
    at = max(range(len(row.cells)), key=lambda j: (not is_value(row.cells[j]), len(row.cells[j])))
    cells = tuple(f"{c} {rest}" if j == at else c for j, c in enumerate(row.cells))
    return replace(row, cells=cells, end=end)


def _notes(below: Sequence[Line]) -> dict[str, tuple[str, int, int]]:
    notes: dict[str, tuple[str, int, int]] = {}
    open_ = ""
    for line in below:
        text = line.text.strip()
        match = _NOTE.match(text)
        if not text and not notes:
            continue
        if match:
            open_ = match["mark"]
            notes[open_] = (text, line.start, line.end)
        elif open_ and text and not notes[open_][0].endswith("."):
            before, start, _ = notes[open_]
            notes[open_] = (f"{before} {text}", start, line.end)
        else:
            break
    return notes


_RAISED = str.maketrans("\u00b9\u00b2\u00b3\u2070\u2074\u2075\u2076\u2077\u2078\u2079", "1230456789")


def strip_mark(cell: str, notes: Mapping[str, object]) -> tuple[str, str]:
    """(`cell` without the mark of a footnote at its end, the mark). A digit glued to a digit is part of the number."""
    raised = re.fullmatch(r"(.+?)\s*([\u00b9\u00b2\u00b3\u2070\u2074-\u2079]{1,2})", cell)
    if raised and not raised[1].endswith("m"):
        return raised[1], raised[2].translate(_RAISED)
    for mark in notes:
        rest = cell.removesuffix(mark).rstrip()
        if rest == cell or not rest:
            continue
        apart = cell[len(rest)] == " "
        plain = is_value(rest) or is_empty(rest)
        year = re.search(r"(?<!\d)(?:19|20)\d\d\Z", rest) is not None  # "Price 20241" is the price of 2024, note 1
        glued = (mark.isdigit() and (not rest[-1].isdigit() or year)) or (mark.isalpha() and plain)
        if (glued and (not apart or mark.isdigit() or plain)) or (apart and plain and mark.isalpha()) or mark[0] == "*":
            return rest, mark
    return cell, ""


def unit_of_scale(scale: str) -> str:
    """The unit a scale line names: "Euros per night, breakfast included" -> "euros per night"."""
    text = re.split(r"[;,(]", scale.strip())[0].strip()
    text = re.sub(r"^(?:all\s+)?(?:amounts?|figures?|values?)?\s*(?:are\s+)?(?:given\s+)?in\s+", "", text, flags=re.I)
    text = re.sub(r"\s+unless\b.*", "", text)
    text = re.sub(r"^(percent|per cent|percentage|points)\b.*", r"\1", text, flags=re.I)
    text = re.sub(rf"^number of (\w+(?: (?!{_LEADS_ON}\b)\w+)?)\b.*", r"\1", text, flags=re.I)
    return text[:1].lower() + text[1:] if text and len(text.split()) <= 6 else ""
