"""Tables that go on over pages: caption and column lines stand on the page where a table begins, and nowhere else.

Here a page is seen together with the one before. What is found goes with the page, so that afterwards each stands
alone, whichever batches and processes they are spread over.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from modelyard.workloads.chatbot.chunk import lines_of
from modelyard.workloads.chatbot.reading.regions import Table, head_of, is_amount, tables_of

_AGAIN = re.compile(r"\b(?:continued|cont[.\u2019'\"]?d?)\W*\Z", re.I)
_NOTHING = {"-", "\u2013", "\u2014", "\u2212"}
# Lines at the top of a page among which its first row stands, if it begins with a table.
_TOP = 3
# Words of a column's name, at most, and of what is told under it, on average.
_NAME_WORDS = 3
_TOLD_WORDS = 5

Cells = list[str]


@dataclass(frozen=True, slots=True)
class _Page:
    document: tuple[str, str]
    number: int
    text: str
    section: str
    headings: list[dict[str, Any]]
    above: str

    def tables(self, goes_on: bool) -> tuple[list[str], list[Table]]:
        """(lines, the tables among them)."""
        lines, _, headed = lines_of(self.text, [(heading["start"], heading["end"]) for heading in self.headings])
        return lines, tables_of(lines, headed, goes_on)


def with_heads(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """PAGES rows, with a column `above`: caption and column lines of the table that the page before ends in, where the
    page begins with more of its rows and has no head of its own for them; else "".

    The pages of a document come in order, in one batch or in several that follow each other.
    """
    before: _Page | None = None
    names = ("document", "sha256", "page", "text", "section", "reason")
    for batch in batches:
        found: list[str] = []
        columns = [batch.column(name).to_pylist() for name in names]
        for at, (document, sha256, number, text, section, reason) in enumerate(zip(*columns, strict=True)):
            filled = [line for line in text.split("\n") if line.strip()] if reason is None else []
            begins, ends = any("\t" in line for line in filled[:_TOP]), any("\t" in line for line in filled[-1:])
            above = ""
            # Most pages end in prose or begin with it, and are not looked at any closer.
            if ends or (begins and before is not None):
                headings = batch.column("headings")[at].as_py()
                page = _Page((document, sha256), number, text, section, headings, "")
                above = _above(before, page) if begins and before is not None else ""
                before = _Page((document, sha256), number, text, section, headings, above)
            before = before if ends else None
            found.append(above)
        schema = batch.schema.append(pa.field("above", pa.string(), nullable=False))
        yield pa.RecordBatch.from_arrays([*batch.columns, pa.array(found, pa.string())], schema=schema)


def _above(before: _Page, page: _Page) -> str:
    """The head of the table that `before` ends in, where `page` begins with more of its rows; else ""."""
    section = before.headings[-1]["path"] if before.headings else before.section
    if (page.document, page.number, page.section) != (before.document, before.number + 1, section):
        return ""
    lines, tables = before.tables(bool(before.above))
    here, parts = page.tables(True)
    if not tables or not parts or "".join([*lines[tables[-1].end :], *here[: parts[0].caption]]).strip():
        return ""
    first = parts[0]
    own = [line for line in here[first.caption : first.head] if line.strip()]
    if own and not (len(own) == 1 and _AGAIN.search(own[0])):
        return ""
    head, labels, rows = _read(before, lines, tables)
    return head if _go_on(labels, rows, _cells(here[first.head : first.end])) else ""


def _read(before: _Page, lines: list[str], tables: list[Table]) -> tuple[str, list[Cells], list[Cells]]:
    """(head to repeat, column lines, rows) of the last table of a page."""
    last = tables[-1]
    if before.above and len(tables) == 1:
        return before.above, _cells(before.above.split("\n")), _cells(lines[last.head : last.end])
    labels = _cells(lines[last.head : last.rows])
    if labels and _is_row(labels[0]):
        # Its first line is a row: it has a caption at most.
        bare = Table(last.caption, last.head, last.head, last.end)
        return head_of(lines, bare), [], _cells(lines[last.head : last.end])
    return head_of(lines, last), labels, _cells(lines[last.rows : last.end])


def _go_on(labels: list[Cells], rows: list[Cells], more: list[Cells]) -> bool:
    """Whether `more` are rows below `labels` as `rows` are, and not a table with column lines of its own."""
    if not rows or any(cells in labels for cells in more[:_TOP]):
        return False
    (width, values), (other, found) = _pattern(rows), _pattern(more)
    if len(more) == 1 and values and 1 < other < width:
        # A sum that stands alone is filled from the right.
        return _is_row(more[0]) and all(_is_value(cell) or not cell for cell in more[0][1:])
    if width != other:
        return False
    if not values:
        # Words in two columns are as often a list as a table, and the first line of a list names nothing.
        named = bool(labels) and all(labels[-1])
        return named and not found and (width > 2 or (_names(labels[-1]) and _told(rows) and _told(more)))
    return _is_row(more[0]) and 2 * len(values & found) >= max(len(values), len(found))


def _names(cells: Cells) -> bool:
    """Whether a line of two words or so names columns."""
    return all(len(cell.split()) <= _NAME_WORDS and cell[:1].isupper() and cell[-1:].isalpha() for cell in cells)


def _told(rows: list[Cells]) -> bool:
    """Whether the second column tells something of the first, at more length than a name has."""
    return all(len(cells) == 2 for cells in rows) and (
        sum(len(cells[1].split()) for cells in rows) >= _TOLD_WORDS * len(rows)
    )


def _cells(lines: Sequence[str]) -> list[Cells]:
    return [[cell.strip() for cell in line.strip().split("\t")] for line in lines if "\t" in line.strip()]


def _pattern(rows: list[Cells]) -> tuple[int, set[int]]:
    """(the usual number of cells, the columns whose cells are mostly numbers)."""
    counts = Counter(map(len, rows))
    width = max(counts, key=lambda count: (counts[count], count))
    usual = [cells for cells in rows if len(cells) == width]
    values = {at for at in range(1, width) if 2 * sum(_is_value(cells[at]) for cells in usual) >= len(usual)}
    return width, values


def _is_row(cells: Cells) -> bool:
    """Whether these are a label and values, rather than the names of columns."""
    return bool(cells[0]) and any(map(_is_value, cells[1:]))


def _is_value(cell: str) -> bool:
    return cell in _NOTHING or is_amount(cell)
