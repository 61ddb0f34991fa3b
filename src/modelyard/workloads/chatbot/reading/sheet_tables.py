"""The filled cells of a sheet to its tables: what empty rows and columns part is not one table."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from modelyard.workloads.chatbot.reading.sheet_cells import Cells
from modelyard.workloads.chatbot.reading.sheet_pages import Pages, head_of, is_value, line_of

Row = tuple[int, dict[int, str]]
# Filled cells that merged areas may add, and columns one of them may span.
MOST_FILLED = 200_000
WIDEST_SPAN = 200
DEPTH = 16
SEEN = 20
# Empty rows that still part the rows of one table, and words from the table they stand over.
SPACER = 2


@dataclass
class Block:
    """Rows that belong together, and the columns they use."""

    rows: list[Row]
    columns: list[int]


def write_tables(cells: Cells, pages: Pages) -> None:
    """Put the tables of a sheet on its pages, from the top, those side by side from the left."""
    blocks = [Block(rows, _used(rows)) for rows in _parts(_filled(cells), DEPTH)]
    table: Block | None = None
    before = 0
    for block in _titled(blocks):
        first, last = block.rows[0][0], block.rows[-1][0]
        if table is not None and 0 < first - before <= SPACER + 1 and _goes_on(table, block):
            pages.gap()
            _write_rows(block.rows, table.columns, pages)
        else:
            _begin(block, pages)
            table = block
        before = last


def _begin(block: Block, pages: Pages) -> None:
    grid = [[cells.get(column, "") for column in block.columns] for _, cells in block.rows[:SEEN]]
    lead, end = head_of(grid)
    words = ["".join(cells) for cells in grid[:lead]]
    pages.table(words, [line_of(cells, len(block.columns), head=True) for cells in grid[lead:end]])
    _write_rows(block.rows[end:], block.columns, pages)


def _write_rows(rows: Sequence[Row], columns: Sequence[int], pages: Pages) -> None:
    for number, cells in rows:
        if len(cells) == 1 and columns[0] in cells:
            # The name of a group of rows, or a remark.
            pages.row(number, next(iter(cells.values())))
        else:
            pages.row(number, line_of([cells.get(column, "") for column in columns], len(columns)))


def _goes_on(table: Block, block: Block) -> bool:
    """Whether the rows below an empty row are more of the table above it."""
    if len(table.columns) < 2 or not set(block.columns) <= set(table.columns):
        return False
    grid = [[cells.get(column, "") for column in block.columns] for _, cells in block.rows[:SEEN]]
    lead, end = head_of(grid)
    return lead == end and len(block.columns) > 1


def _titled(blocks: Sequence[Block]) -> Iterator[Block]:
    """Words alone right above a table are its caption, though an empty row parts them."""
    waiting: Block | None = None
    for block in blocks:
        if waiting is not None:
            near = 0 < block.rows[0][0] - waiting.rows[-1][0] <= SPACER + 1
            if near and len(block.columns) > 1:
                rows = [*waiting.rows, *block.rows]
                block = Block(rows, _used(rows))
            else:
                yield waiting
            waiting = None
        if len(block.rows) <= SPACER and all(len(cells) == 1 for _, cells in block.rows):
            waiting = block
        else:
            yield block
    if waiting is not None:
        yield waiting


def _filled(cells: Cells) -> list[Row]:
    """The rows from the top, each cell of a merged area with the area's text: a label holds for all it spans. Where a
    row has nothing else, the text stands once."""
    numbers = sorted(cells.rows)
    left = MOST_FILLED
    for top, first, bottom, last in cells.merged:
        text = cells.rows.get(top, {}).get(first)
        if text is None or left <= 0:
            continue
        reach, last = last, min(last, first + WIDEST_SPAN)
        for at in range(bisect_left(numbers, top), bisect_right(numbers, bottom)):
            row = cells.rows[numbers[at]]
            left -= last - first + 1
            if left <= 0:
                break
            if not all(first <= column <= reach for column in row):
                row.update((column, text) for column in range(first, last + 1) if column not in row)
    return [(number, cells.rows[number]) for number in numbers]


def _parts(rows: list[Row], depth: int) -> Iterator[list[Row]]:
    """Cut at empty rows, then at empty columns where what stands to the right is a table of its own, and so on."""
    for band in _bands(rows):
        cut = _side_by_side(band) if depth else None
        if cut is None:
            yield band
            continue
        for right in (False, True):
            side = [(number, {c: text for c, text in cells.items() if (c >= cut) == right}) for number, cells in band]
            yield from _parts([row for row in side if row[1]], depth - 1)


def _bands(rows: list[Row]) -> Iterator[list[Row]]:
    begin = 0
    for at, (above, below) in enumerate(pairwise(rows), start=1):
        if below[0] > above[0] + 1:
            yield rows[begin:at]
            begin = at
    if rows:
        yield rows[begin:]


def _side_by_side(band: list[Row]) -> int | None:
    """The first column of a second table beside the first; None where there is none. A column of air between numbers
    parts nothing: what stands to the right must have labels of its own."""
    used = _used(band)
    starts = {b for at, (a, b) in enumerate(pairwise(used), start=1) if b > a + 1 and at >= 2 and len(used) - at >= 2}
    if not starts:
        return None
    cells, words = Counter[int](), Counter[int]()
    for _, row in band:
        for column in starts.intersection(row):
            cells[column] += 1
            words[column] += not is_value(row[column])
    return min((at for at in starts if words[at] >= 2 and words[at] > 0.8 * cells[at]), default=None)


def _used(rows: Sequence[Row]) -> list[int]:
    return sorted({column for _, cells in rows for column in cells})
