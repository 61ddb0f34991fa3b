"""Forms: labels and what was filled in, beside or under them. Each label goes with its value on a line of its own.

Left as rows of cells, the first row of a form would pass for the names of columns, and its values for labels.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from modelyard.workloads.chatbot.reading.layout import Line
from modelyard.workloads.chatbot.reading.numbers import is_number
from modelyard.workloads.chatbot.reading.script import RIGHT_TO_LEFT

# Words of a label, at most.
LABEL_WORDS = 8
# In heights of the line: how far two edges that are one may differ, how far a value stands under its label.
ALIGNED = 0.5
BELOW = 1.2
# Labels of boxes are set smaller than what stands in them, by this share.
SMALLER = 0.87
BRIDGE = 2

Cell = list[int]
# Indices of the words of a label, and of its value.
Pair = tuple[Cell, Cell]


def entries(lines: list[Line]) -> list[Line]:
    """The lines of a page, those of forms cut into entries of one label and its value, in reading order."""
    result: list[Line] = []
    at = 0
    while at < len(lines):
        end, made = _boxes(lines, at)
        if not made:
            end, made = _pairs(lines, at)
        result += made or [lines[at]]
        at = end if made else at + 1
    return result


def cells_of(line: Line) -> list[Cell]:
    """The words of each cell."""
    cells: list[Cell] = [[]]
    for word, glue in enumerate(line.glue):
        if "\t" in glue and cells[-1]:
            cells.append([])
        cells[-1].append(word)
    return cells


def _upright(line: Line) -> bool:
    return line.turn == 0 and not line.level and RIGHT_TO_LEFT.search(line.text) is None


def _pairs(lines: list[Line], start: int) -> tuple[int, list[Line]]:
    """(where the lines of labels with colons that begin at `start` end, their entries); none where they are no form."""
    if not _is_form(lines[start]):
        return start, []
    found: list[tuple[Line, list[Pair]]] = []
    made: list[Line] = []
    end = at = start
    waiting: list[Line] = []
    while at < len(lines) and lines[at].block == lines[start].block and len(waiting) <= BRIDGE and _upright(lines[at]):
        line = lines[at]
        pairs = _labelled(line)
        at += 1
        if pairs and not ("\t" not in line.glue and waiting):
            made += [*waiting, *(_entry(line, *pair) for pair in pairs)]
            found.append((line, pairs))
            waiting, end = [], at
        elif "\t" in line.glue:
            break
        elif made and not waiting and _under_value(*found[-1], line):
            made[-1] = _longer(made[-1], line)
            end = at
        else:
            waiting.append(line)
    tabular = [pairs for line, pairs in found if "\t" in line.glue]
    follows = start and "\t" in lines[start - 1].glue and lines[start].y0 - lines[start - 1].y1 < lines[start].size
    beside = any(len(pairs) > 1 for pairs in tabular)
    return (end, made) if (len(tabular) > 1 or beside) and not follows else (start, [])


def _is_form(line: Line) -> bool:
    return "\t" in line.glue and _upright(line) and bool(_labelled(line))


def _labelled(line: Line) -> list[Pair]:
    """The pairs of a line whose cells are labels with a colon, each with a value behind it or in the next cell."""
    if ":" not in line.text:
        return []
    pairs: list[Pair] = []
    open_ = False
    for cell in cells_of(line):
        colon = next((at for at, word in enumerate(cell) if line.words[word].endswith(":")), None)
        if colon is not None and colon < LABEL_WORDS and not is_number(line.words[cell[0]]):
            pairs.append((cell[: colon + 1], cell[colon + 1 :]))
            open_ = colon + 1 == len(cell)
        elif open_:
            pairs[-1] = pairs[-1][0], cell
            open_ = False
        else:
            return []
    # Labels alone, side by side, are heads of columns.
    return pairs if len(pairs) == 1 or any(value for _, value in pairs) else []


def _under_value(above: Line, pairs: list[Pair], line: Line) -> bool:
    """Whether a line goes on with the value above it."""
    value = pairs[-1][1]
    close = line.y0 >= above.y0 and line.y0 - above.y1 < 0.4 * line.size and line.words[-1][-1] != ":"
    return bool(value) and close and abs(float(above.boxes[value[0], 0]) - line.x0) < ALIGNED * line.size


def _boxes(lines: list[Line], start: int) -> tuple[int, list[Line]]:
    """(where the rows of small labels over values that begin at `start` end, their entries); none where they are no
    form: at least two such rows follow each other, and one has two boxes or more."""
    made: list[Line] = []
    rows, wide = 0, False
    at = start
    while at + 1 < len(lines):
        labels, values = lines[at], lines[at + 1]
        homes = _homes(labels, values) if labels.block == lines[start].block else None
        if homes is None:
            break
        cells = cells_of(labels)
        made += [_over(labels, cell, values, homes.get(number, [])) for number, cell in enumerate(cells)]
        rows, wide = rows + 1, wide or len(cells) > 1
        at += 2
    if rows < 2 or not wide:
        return start, []
    # A line in the size of the last values right below them is another row: of a table.
    if at < len(lines) and "\t" in lines[at].glue and lines[at].y0 - lines[at - 1].y1 < lines[at].size:
        return start, []
    return at, made


def _homes(labels: Line, values: Line) -> dict[int, Cell] | None:
    """Which cell of `values` stands under which of `labels`; None where these are not labels of boxes and values."""
    if not (_upright(labels) and _upright(values)) or labels.block != values.block:
        return None
    near = values.y0 >= labels.y0 and values.y0 - labels.y1 < BELOW * values.size
    if not near or labels.size > SMALLER * values.size:
        return None
    cells = cells_of(labels)
    if any(len(cell) > LABEL_WORDS or is_number(labels.words[cell[0]]) for cell in cells):
        return None
    edges = [float(labels.boxes[cell[0], 0]) for cell in cells]
    homes: dict[int, Cell] = {}
    for cell in cells_of(values):
        edge = float(values.boxes[cell[0], 0])
        home = min(range(len(edges)), key=lambda at: abs(edges[at] - edge))
        if abs(edges[home] - edge) > ALIGNED * values.size or home in homes:
            return None
        homes[home] = cell
    return homes


def _entry(line: Line, label: Cell, value: Cell) -> Line:
    return _cut(line, [*label, *value])


def _over(labels: Line, label: Cell, values: Line, value: Cell) -> Line:
    """A label and the value under it, as one line."""
    entry = _cut(labels, label)
    if not value:
        return entry
    return _longer(entry, _cut(values, value), " " if entry.words[-1].endswith(":") else ": ")


def _cut(line: Line, words: Cell) -> Line:
    """Some words of a line as a line, without cells."""
    boxes = line.boxes[words]
    glue = ["", *(" " if "\t" in line.glue[word] else line.glue[word] for word in words[1:])]
    return replace(
        line,
        words=[line.words[word] for word in words],
        glue=glue,
        boxes=boxes,
        x0=float(boxes[:, 0].min()),
        y0=float(boxes[:, 1].min()),
        x1=float(boxes[:, 2].max()),
        y1=float(boxes[:, 3].max()),
        first=[line.first[word] for word in words],
        soft=line.soft and words[-1] == len(line.words) - 1,
        entry=True,
    )


def _longer(line: Line, more: Line, between: str = " ") -> Line:
    """Two lines as one."""
    return replace(
        line,
        words=line.words + more.words,
        glue=[*line.glue, between, *more.glue[1:]],
        boxes=np.concatenate([line.boxes, more.boxes]),
        first=line.first + more.first,
        x0=min(line.x0, more.x0),
        x1=max(line.x1, more.x1),
        y1=max(line.y1, more.y1),
        soft=more.soft,
    )
