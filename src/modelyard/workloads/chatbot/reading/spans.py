"""Tables whose cells span rows and columns, as rows of equally many cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from modelyard.workloads.chatbot.reading.sheet_pages import clean, head_of, line_of

WIDEST_SPAN = 200
# Cells that are filled with the text of one that spans them: beyond, a span counts once. What a hostile table costs.
MOST_FILLED = 100_000
SAMPLE_ROWS = 20
RAISED = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")
OPENING = frozenset("$€£¥(")
CLOSING = frozenset((")", "%", ")%", "%)", "pp"))


@dataclass(slots=True)
class Cell:
    """A cell as it is written. columns, rows: how many it spans, at least 1. head: it is a label by its own word."""

    text: str
    columns: int = 1
    rows: int = 1
    head: bool = False


@dataclass(frozen=True)
class Grid:
    """A table as lines of text whose cells tabs part.

    lead: words over the table that stood in it. head: the labels of its columns on one line, "" where it has none.
    rows: each with as many cells as the head; a row of one cell is a label over the rows below it.
    """

    lead: tuple[str, ...]
    head: str
    rows: tuple[str, ...]


def grid_of(rows: Sequence[Sequence[Cell]], head_rows: int) -> Grid:
    """The table without its empty rows and columns. A cell that spans several stands in each, as a label holds for all
    it spans; where a row has nothing else, it stands once. head_rows: how many rows at the top are the head by the
    document's own word; with 0 it is told from what stands there."""
    filled = _joined(_filled(rows))
    told = sum(any(row) for row in filled[:head_rows])
    filled = [row for row in filled if any(row)]
    if not filled:
        return Grid((), "", ())
    lead, end = (0, told) if 0 < told < len(filled) else head_of([_once(row) for row in filled[:SAMPLE_ROWS]])
    while lead < end - 1 and len(set(filter(None, filled[lead]))) == 1:
        lead += 1
    width = len(filled[0])
    head = line_of(_merged(filled[lead:end]), width, head=True) if end > lead else ""
    body = [_once(row) for row in filled[end:]]
    return Grid(
        tuple(next(filter(None, row)) for row in filled[:lead]),
        head,
        tuple(row[0] if len(row) == 1 else line_of(row, width) for row in body),
    )


def _filled(rows: Sequence[Sequence[Cell]]) -> list[list[str]]:
    """Every row with as many texts as the table has columns."""
    grid: list[dict[int, str]] = [{} for _ in rows]
    kept: set[int] = set()
    spanning: list[tuple[int, int]] = []
    left = MOST_FILLED
    for number, row in enumerate(rows):
        at = 0
        for cell in row:
            while at in grid[number]:
                at += 1
            width = max(1, min(cell.columns, WIDEST_SPAN))
            height = max(1, min(cell.rows, len(rows) - number))
            if width * height > 1:
                left -= width * height
                if left < 0:
                    width = height = 1
            text = clean(cell.text)
            for line in grid[number : number + height]:
                line.update((column, text) for column in range(at, at + width) if column not in line)
            if text and width == 1:
                kept.add(at)
            elif text:
                spanning.append((at, at + width))
            at += width
    # A column nothing stands in on its own is air between others, or the second half of one that spans.
    for first, last in spanning:
        if not any(column in kept for column in range(first, last)):
            kept.add(first)
    columns = sorted(kept)
    return [[line.get(column, "") for column in columns] for line in grid]


def _joined(rows: list[list[str]]) -> list[list[str]]:
    """Signs of currency, brackets and per cent that stand in columns of their own, as part of the value they belong
    to."""
    if not rows:
        return rows
    width = len(rows[0])
    columns = [[row[at] for row in rows] for at in range(width)]
    at = 1
    while at < len(columns):
        signs = {text for text, beside in zip(columns[at], columns[at - 1], strict=True) if text and text != beside}
        before = {text for text, after in zip(columns[at - 1], columns[at], strict=True) if text and text != after}
        if (signs and signs <= CLOSING) or (at > 1 and before and before <= OPENING):
            columns[at - 1 : at + 1] = [
                [a if a == b else a + b for a, b in zip(columns[at - 1], columns[at], strict=True)]
            ]
        else:
            at += 1
    return [list(row) for row in zip(*columns, strict=True)]


def _once(row: list[str]) -> list[str]:
    """The row; of one that holds a single text, across all or alone in its first column, the text."""
    found = set(filter(None, row))
    alone = len(found) == 1 and (all(row) or (row[0] and not any(row[1:])))
    return [row[0]] if alone and len(row) > 1 else row


def _merged(head: list[list[str]]) -> list[str]:
    """The labels of each column over several lines, as one."""
    return [" ".join(dict.fromkeys(filter(None, column))) for column in zip(*head, strict=True)]
