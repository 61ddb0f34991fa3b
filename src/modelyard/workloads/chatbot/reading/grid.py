"""Rows of tables on a common grid: an empty cell leaves its tab, and a cell that runs over lines becomes one again.

A tab begins the next column, so that a value stands under the same number of tabs as its column's name.
"""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import pairwise

import numpy as np

from modelyard.workloads.chatbot.reading.forms import entries
from modelyard.workloads.chatbot.reading.layout import Line
from modelyard.workloads.chatbot.reading.naming import CAPTION
from modelyard.workloads.chatbot.reading.numbers import is_number
from modelyard.workloads.chatbot.reading.script import RIGHT_TO_LEFT

# Lines without cells that may stand between two rows of one table.
BRIDGE = 2
# In heights of the line: how far a label may be indented, and how close the lines of one cell follow each other.
INDENT = 4.0
TIGHT = 0.4
NAME_GAP = 0.5
ALIGNED = 0.3
NUMBERED = re.compile(
    r"\*{0,2}(?:\(?\d{1,3}(?:\.\d{1,3})*(?:\(\w{1,3}\))?[.):]?|\(?(?:[a-zA-Z]|[ivxIVX]{1,5})[.)])\*{0,2}"
)
# Characters of a cell that is a paragraph.
LONG_CELL = 250

Interval = tuple[float, float]
Cell = list[int]


def align(lines: list[Line]) -> list[Line]:
    """The lines of a page, those of tables with tabs for their empty cells. Order and words stay as they are, except
    that the lines of one cell come together, and the entries of forms stand apart."""
    lines = entries(lines)
    result: list[Line] = []
    at = 0
    while at < len(lines):
        if not _tabular(lines[at]):
            result.append(lines[at])
            at += 1
            continue
        end = _end(lines, at)
        above = _heads_above(result, lines[at])
        below = _tails_below(lines, end)
        run = [*result[len(result) - above :], *lines[at : end + below]]
        del result[len(result) - above :]
        result += _table(run)
        at = end + below
    return result


def _tabular(line: Line) -> bool:
    # Columns are counted from the left: a line read from the right keeps its cells as they come.
    return line.turn == 0 and "\t" in line.glue and RIGHT_TO_LEFT.search(line.text) is None


def _end(lines: list[Line], start: int) -> int:
    end = at = start + 1
    while at < len(lines) and at - end <= BRIDGE and lines[at].block == lines[start].block and lines[at].turn == 0:
        line, above = lines[at], lines[at - 1]
        if line.y0 - above.y1 > 4 * line.size or line.y0 < above.y0:
            break
        if CAPTION.match(line.text) or (not _tabular(line) and line.size > 1.15 * lines[start].size):
            break
        if _tabular(line) or (at == end and _in_cell(lines[start:end], line)):
            end = at + 1
        at += 1
    return end


def _in_cell(rows: list[Line], line: Line) -> bool:
    """Whether a line without cells goes on right below a cell of words of the last row."""
    last = next(row for row in reversed(rows) if _tabular(row))
    return _tight(rows[-1], line) and any(
        abs(float(last.boxes[cell[0], 0]) - line.x0) < ALIGNED * line.size and not _numeric(last, cell)
        for cell in _cells(last)[1:]
    )


def _tight(above: Line, line: Line) -> bool:
    """Whether a line follows as closely as those of one cell do."""
    close = above.y0 <= line.y0 and line.y0 - above.y1 <= TIGHT * line.size
    return close and abs(line.size - above.size) <= 0.1 * line.size


def _heads_above(result: list[Line], first: Line) -> int:
    """How many lines right above a table stand over its value columns: column names that have no neighbour."""
    count = 0
    while count < min(3, len(result)):
        line = result[-1 - count]
        near = line.block == first.block and line.turn == 0 and 0 <= first.y0 - line.y1 + line.size < 3 * line.size
        if not near or line.x0 < first.x0 + INDENT * line.size or "\t" in line.glue:
            break
        count, first = count + 1, replace(first, y0=line.y0)
    return count


def _tails_below(lines: list[Line], end: int) -> int:
    """How many lines right below the last row may be the rest of its cells."""
    count = 0
    while count < 2 and end + count < len(lines):
        above, line = lines[end + count - 1], lines[end + count]
        tight = line.y0 >= above.y0 and line.y0 - above.y1 < TIGHT * line.size and line.block == above.block
        if not tight or line.turn != 0 or len(line.words) > 6 or line.size > 1.05 * above.size:
            break
        count += 1
    return count


def _table(run: list[Line]) -> list[Line]:
    cells = [_cells(line) for line in run]
    left = min((line.x0 for line in run if _tabular(line)), default=0.0)
    columns = _columns(run, cells, left)
    if columns is None:
        return _divided(run)
    cells = [_resplit(line, parts, columns, left) for line, parts in zip(run, cells, strict=True)]
    rows: list[tuple[Line, dict[int, Cell]]] = []
    rights = [right for _, right in columns]
    apart = _apart(run)
    for line, parts in zip(run, cells, strict=True):
        placed = _placed(line, parts, columns, left)
        if rows and _continues(*rows[-1], line, placed, rights, apart):
            rows[-1] = _joined(*rows[-1], line, placed)
        else:
            rows.append((line, placed))
    if not any(0 in placed for _, placed in rows):
        rows = [(line, {column - 1: cell for column, cell in placed.items()}) for line, placed in rows]
    first = next((at for at, (_, placed) in enumerate(rows) if len(placed) > 1), 0)
    # What stands alone above the names of the columns speaks for all of them.
    last = max((at for at, (_, placed) in enumerate(rows) if len(placed) > 1), default=0)
    return [_glued(line, placed) if first <= at <= last else line for at, (line, placed) in enumerate(rows)]


def _divided(run: list[Line]) -> list[Line]:
    """Two tables in one run: cut where the rows stand furthest apart, as long as both parts are tables."""
    gaps = [below.y0 - above.y1 for above, below in pairwise(run)]
    if len(run) < 4 or not gaps:
        return run
    cut = int(np.argmax(gaps)) + 1
    parts = run[:cut], run[cut:]
    if any(sum(map(_tabular, part)) < 2 for part in parts):
        return run
    return [line for part in parts for line in _table(part)]


def _cells(line: Line) -> list[Cell]:
    cells: list[Cell] = [[]]
    for word, glue in enumerate(line.glue):
        if glue == "\t" and cells[-1]:
            cells.append([])
        cells[-1].append(word)
    return cells


def _extent(line: Line, cell: Cell) -> Interval:
    return float(line.boxes[cell[0], 0]), float(line.boxes[cell[-1], 2])


def _is_label(line: Line, cell: Cell, left: float) -> bool:
    return cell[0] == 0 and line.x0 < left + INDENT * line.size


def _numeric(line: Line, cell: Cell) -> bool:
    return any(is_number(line.words[word]) for word in cell) and not any(
        line.words[word].isalpha() and len(line.words[word]) > 1 for word in cell
    )


def _columns(run: list[Line], cells: list[list[Cell]], left: float) -> list[Interval] | None:
    """The columns from left to right, the labels' first; None where no common ones are found.

    Values make columns where they overlap from row to row. Words make further ones where no value stands.
    """
    labels = [
        _extent(line, parts[0]) for line, parts in zip(run, cells, strict=True) if _is_label(line, parts[0], left)
    ]
    others = [
        (line, cell)
        for line, parts in zip(run, cells, strict=True)
        for cell in parts
        if len(parts) > 1 and not _is_label(line, cell, left)
    ]
    values = _merged([_extent(line, cell) for line, cell in others if _numeric(line, cell)])
    words = [_extent(line, cell) for line, cell in others if not _numeric(line, cell)]
    free = [extent for extent in words if not any(_overlap(extent, column) > 0 for column in values)]
    columns = _widened(sorted(values + _merged(free)), words)
    if not columns or len(columns) > 40:
        return None
    for line, parts in zip(run, cells, strict=True):
        numbers = [cell for cell in parts if _numeric(line, cell) and not _is_label(line, cell, left)]
        homes = [_home(_extent(line, cell), columns) for cell in numbers]
        if len(set(homes)) < len(homes):
            return None
    edge = columns[0][0]
    label_right = max((right for _, right in labels if right < edge), default=left)
    return [(left, label_right), *columns]


def _resplit(line: Line, parts: list[Cell], columns: list[Interval], left: float) -> list[Cell]:
    """Names of neighbouring columns stand close: cut a cell where a wider gap meets the border of two columns."""
    split: list[Cell] = []
    for cell in parts:
        split.append(cell[:1])
        for before, word in pairwise(cell):
            gap = float(line.boxes[word, 0] - line.boxes[before, 2]) / max(line.size, 1.0)
            apart = gap > NAME_GAP and not _is_label(line, cell, left)
            if apart and _home(_extent(line, [before]), columns) != _home(_extent(line, [word]), columns):
                split.append([word])
            else:
                split[-1].append(word)
    return split


def _merged(extents: list[Interval]) -> list[Interval]:
    merged: list[Interval] = []
    for x0, x1 in sorted(extents):
        if merged and x0 < merged[-1][1]:
            merged[-1] = merged[-1][0], max(merged[-1][1], x1)
        else:
            merged.append((x0, x1))
    return merged


def _widened(columns: list[Interval], words: list[Interval]) -> list[Interval]:
    """The columns as wide as the words over them, where these touch no other column."""
    wide = list(columns)
    for extent in words:
        over = [at for at, column in enumerate(wide) if _overlap(extent, column) > 0]
        if len(over) == 1:
            x0, x1 = wide[over[0]]
            wide[over[0]] = min(x0, extent[0]), max(x1, extent[1])
    return wide


def _overlap(one: Interval, other: Interval) -> float:
    return min(one[1], other[1]) - max(one[0], other[0])


def _home(extent: Interval, columns: list[Interval]) -> int:
    """The column a cell stands in; words over several belong to the first of them, a cell beside all to the nearest."""
    over = [at for at, column in enumerate(columns) if _overlap(extent, column) > 0]
    if over:
        return over[0]
    return max(range(len(columns)), key=lambda at: _overlap(extent, columns[at]))


def _placed(line: Line, parts: list[Cell], columns: list[Interval], left: float) -> dict[int, Cell]:
    """Column number to words; what begins left of the first values is a label, column 0. Never two cells in one
    column: a cell that would share one goes to the next."""
    placed: dict[int, Cell] = {}
    last = -1
    for cell in parts:
        x0, x1 = _extent(line, cell)
        first = columns[1][0]
        beside = cell[0] == 0 and x0 < first - 1 and (x0 < left + INDENT * line.size or (x0 + x1) / 2 < first)
        home = 0 if beside else 1 + _home((x0, x1), columns[1:])
        last = max(home, last + 1)
        placed[last] = cell
    return placed


def _apart(run: list[Line]) -> bool:
    """Whether the rows of a table stand further apart than the lines of a cell: then what is close is one row."""
    loose = [line for above, line in pairwise(run) if not _tight(above, line)]
    return len(loose) >= 2 and all(map(_tabular, loose))


def _continues(
    above: Line, upper: dict[int, Cell], line: Line, lower: dict[int, Cell], rights: list[float], apart: bool
) -> bool:
    """Whether every cell of a line goes on with the cell above it, as words do that did not fit their column."""
    if not _tight(above, line):
        return False
    values = any(_numeric(above, cell) for cell in upper.values()) or any(
        _numeric(line, cell) for cell in lower.values()
    )
    if (0 not in lower or (apart and not values)) and len(upper) > 1 and set(lower) <= set(upper):
        limits = {column: _beyond(above, upper, column) for column in lower}
        centred = len(upper) > 2 and len(lower) > 1
        if all(
            _under(above, upper[column], line, cell, centred) and _right(line, cell) < limits[column]
            for column, cell in lower.items()
        ):
            return True
    only_label = set(upper) == {0}
    if not (set(lower) <= set(upper) or (only_label and 0 in lower)):
        return False
    return all(
        _goes_on(above, upper[column], line, cell, column, rights, only_label or len(lower) == 1)
        for column, cell in lower.items()
        if column in upper
    )


def _under(above: Line, upper: Cell, line: Line, cell: Cell, centred: bool) -> bool:
    """Whether words stand right under words, from the same edge or around the same middle."""
    if _numeric(above, upper) or _numeric(line, cell):
        return False
    (left, right), (x0, x1) = (_extent(above, upper[:1])[0], _right(above, upper)), _extent(line, cell)
    if abs(left - x0) < ALIGNED * line.size:
        return True
    return centred and abs(left + right - x0 - x1) < 2 * ALIGNED * line.size


def _beyond(line: Line, placed: dict[int, Cell], column: int) -> float:
    """Where the next cell begins."""
    return min((_extent(line, cell)[0] for at, cell in placed.items() if at > column), default=float("inf"))


def _right(line: Line, cell: Cell) -> float:
    return max(float(line.boxes[word, 2]) for word in cell)


def _goes_on(above: Line, upper: Cell, line: Line, cell: Cell, column: int, rights: list[float], alone: bool) -> bool:
    before, first = above.words[upper[-1]], line.words[cell[0]]
    value = _numeric(above, upper) and before[-1] != ","
    if before[-1] in ".:;" or (value and not first.startswith("(")):
        return False
    ends = _right(above, upper)
    right = rights[column] if column < len(rights) else ends
    full = ends + 0.2 * line.size + float(line.boxes[cell[0], 2] - line.boxes[cell[0], 0]) > right
    running = first[0].islower()
    if column == 0:
        return (running and alone) or (full and (running or first[0] == "(" or before[-1] == ","))
    return full or (running and not _numeric(line, cell))


def _joined(above: Line, upper: dict[int, Cell], line: Line, lower: dict[int, Cell]) -> tuple[Line, dict[int, Cell]]:
    """One line of two: column by column, the upper words before the lower."""
    shift = len(above.words)
    words, glue, first = above.words + line.words, above.glue + line.glue, above.first + line.first
    boxes = np.concatenate([above.boxes, line.boxes])
    order: list[int] = []
    placed: dict[int, Cell] = {}
    for column in sorted({*upper, *lower}):
        both = [*upper.get(column, []), *(shift + word for word in lower.get(column, []))]
        placed[column] = list(range(len(order), len(order) + len(both)))
        order += both
    merged = replace(
        above,
        words=[words[at] for at in order],
        glue=["", *(" " if at in (0, shift) else glue[at] for at in order[1:])],
        boxes=boxes[order],
        first=[first[at] for at in order],
        x1=max(above.x1, line.x1),
        y1=max(above.y1, line.y1),
        soft=line.soft and order[-1] == len(words) - 1,
    )
    return merged, placed


def _clause(line: Line, label: Cell, cell: Cell) -> bool:
    """Whether a row is a numbered paragraph: prose, of which sentences are wanted and not the whole."""
    return (
        len(label) == 1
        and NUMBERED.fullmatch(line.words[label[0]]) is not None
        and sum(len(line.words[word]) + 1 for word in cell) > LONG_CELL
    )


def _glued(line: Line, placed: dict[int, Cell]) -> Line:
    glue = list(line.glue)
    last = 0
    numbered = len(placed) == 2 and 0 in placed and _clause(line, *placed.values())
    for column, cell in placed.items():
        glue[cell[0]] = " " if numbered and column else "\t" * (column - last)
        for word in cell[1:]:
            glue[word] = " " if "\t" in glue[word] else glue[word]
        last = column
    return replace(line, glue=glue)
