"""The body of a Word document as headings, paragraphs, items, captions and tables."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from modelyard.workloads.chatbot.reading.docx_styles import Numbering, Style, Styles, number, numbering_of
from modelyard.workloads.chatbot.reading.docx_text import Notes, Text, text_of
from modelyard.workloads.chatbot.reading.office import Node
from modelyard.workloads.chatbot.reading.spans import WIDEST_SPAN, Cell

TITLE_LEVEL = 1
CONTENTS = re.compile(r"toc \d|toc heading|table of figures", re.I)
TABLE_CAPTION = re.compile(r"(?:table|tab\.|tabelle|tableau|tabla|tabel|tabella|exhibit|schedule)\b", re.I)
LONGEST_CELL = 1_000
DEEPEST_LIST = 6


@dataclass(slots=True)
class Block:
    """kind: "heading", "paragraph", "item", "caption" or "table". level: of a heading from 1; of a table, how many rows
    at its top are its head."""

    kind: str
    text: str = ""
    level: int = 0
    rows: Sequence[Sequence[Cell]] = ()
    bold: bool = False
    notes: list[int] = field(default_factory=list)


@dataclass(slots=True)
class _Cell:
    cell: Cell
    blocks: list[Block]
    column: int = 0
    goes_on: bool = False


class Blocks:
    """Elements of the body to blocks, in order: lists are counted on the way."""

    def __init__(self, styles: Styles, numbering: Numbering, notes: Notes) -> None:
        self._styles, self._numbering, self._notes = styles, numbering, notes
        self._carried: list[Text] = []

    def of(self, node: Node) -> Iterator[Block]:
        """The blocks of a paragraph or table."""
        if node.name == "p":
            yield from self._paragraph(node)
        else:
            yield from self.rest()
            yield from self._table(node)

    def rest(self) -> Iterator[Block]:
        """What is left of a paragraph whose end was deleted, where no other follows."""
        carried, self._carried = self._carried, []
        yield from self._said(carried, Style(), None)

    def _inside(self, node: Node) -> Iterator[Block]:
        """The blocks within an element that holds some: a cell, a text box, a content control."""
        for child in node.children:
            if child.name in ("p", "tbl"):
                yield from self.of(child)
            elif child.name == "AlternateContent":
                yield from self._inside(child.child("Choice") or child.child("Fallback") or child)
            elif child.name not in ("del", "moveFrom", "sdtPr", "tcPr"):
                yield from self._inside(child)
        yield from self.rest()

    def _paragraph(self, node: Node) -> Iterator[Block]:
        style = self._styles.of(node.value("pPr", "pStyle"))
        text = text_of(node, self._styles, self._notes)
        if node.child("pPr", "rPr", "del") is not None or node.child("pPr", "rPr", "moveFrom") is not None:
            # The mark at its end was deleted: it runs on into the next.
            self._carried.append(text)
            return
        carried, self._carried = self._carried, []
        yield from self._said([*carried, text], style, node.child("pPr"))

    def _said(self, texts: list[Text], style: Style, properties: Node | None) -> Iterator[Block]:
        said = _tidy("".join(text.said for text in texts))
        notes = [number for text in texts for number in text.notes]
        bold = bool(texts) and all(text.bold for text in texts)
        if said and not CONTENTS.match(style.name):
            yield self._block(said, style, properties, bold, notes)
        elif notes:
            yield Block("paragraph", "", notes=notes)
        for text in texts:
            for box in text.boxes:
                yield from self._inside(box)

    def _block(self, said: str, style: Style, properties: Node | None, bold: bool, notes: list[int]) -> Block:
        level = style.level
        outline = properties.value("outlineLvl") if properties is not None else None
        if outline is not None:
            level = number(outline, 9) + 1 if number(outline, 9) < 9 else 0
        place = numbering_of(properties) or style.numbering
        mark = self._numbering.mark(*place) if place is not None else None
        if style.name.lower() == "title" and outline is None:
            return Block("heading", said, TITLE_LEVEL, notes=notes)
        if level:
            return Block(
                "heading", f"{mark} {said}" if mark and mark != "-" else said, TITLE_LEVEL + level, notes=notes
            )
        if mark:
            indent = "  " * min(place[1], DEEPEST_LIST) if place is not None else ""
            return Block("item", f"{indent}{mark} {said}", notes=notes)
        if style.name.lower() == "caption" and TABLE_CAPTION.match(said):
            return Block("caption", said, notes=notes)
        return Block("paragraph", said, bold=bold, notes=notes)

    def _table(self, node: Node) -> Iterator[Block]:
        rows: list[list[_Cell]] = []
        heads = 0
        for row in _rows(node):
            properties = row.child("trPr")
            if properties is not None and (properties.child("del") is not None or properties.on("hidden")):
                continue
            if properties is not None and properties.on("tblHeader") and heads == len(rows):
                heads += 1
            rows.append(self._row(row, number(row.value("trPr", "gridBefore"), 0)))
        notes = [mark for cells in rows for cell in cells for block in cell.blocks for mark in block.notes]
        if _lays_out(rows):
            yield from (block for cells in rows for cell in cells for block in cell.blocks)
            return
        yield Block("table", "", heads if heads < len(rows) else 0, _spanned(rows), notes=notes)

    def _row(self, row: Node, before: int) -> list[_Cell]:
        cells: list[_Cell] = []
        column = 0
        if before:
            column = min(before, WIDEST_SPAN)
            cells.append(_Cell(Cell("", column), []))
        for node in _cells(row):
            if node.child("tcPr", "cellDel") is not None:
                continue
            merge = node.child("tcPr", "vMerge")
            goes_on = merge is not None and merge.attributes.get("val", "continue") == "continue"
            width = max(1, min(number(node.value("tcPr", "gridSpan"), 1), WIDEST_SPAN))
            if cells and node.value("tcPr", "hMerge") == "continue":
                cells[-1].cell.columns = min(cells[-1].cell.columns + width, WIDEST_SPAN)
            else:
                blocks = [] if goes_on else list(self._inside(node))
                cells.append(_Cell(Cell(_flat(blocks), width), blocks, column, goes_on))
            column += width
        return cells


def _rows(node: Node) -> Iterator[Node]:
    """The rows of a table, also those in content controls; not those of tables within."""
    for child in node.children:
        if child.name == "tr":
            yield child
        elif child.name in ("sdt", "sdtContent", "customXml", "ins", "moveTo"):
            yield from _rows(child)


def _cells(node: Node) -> Iterator[Node]:
    for child in node.children:
        if child.name == "tc":
            yield child
        elif child.name in ("sdt", "sdtContent", "customXml"):
            yield from _cells(child)


def _lays_out(rows: Sequence[Sequence[_Cell]]) -> bool:
    """Whether a table only places its cells on the page: a single one, or few that hold much."""
    if max(map(len, rows), default=0) < 2:
        return True
    blocks = [block for row in rows for cell in row for block in cell.blocks]
    if any(block.kind == "heading" for block in blocks):
        return True
    several = any(len(cell.blocks) > 1 for row in rows for cell in row)
    return several and (len(rows) == 1 or any(len(cell.cell.text) > LONGEST_CELL for row in rows for cell in row))


def _spanned(rows: Sequence[Sequence[_Cell]]) -> list[list[Cell]]:
    """The rows with what is merged downwards as cells that span rows."""
    open_: dict[int, Cell] = {}
    out: list[list[Cell]] = []
    for row in rows:
        kept: list[Cell] = []
        below: dict[int, Cell] = {}
        for found in row:
            above = open_.get(found.column)
            if found.goes_on and above is not None and above.columns == found.cell.columns:
                above.rows += 1
                below[found.column] = above
            else:
                kept.append(found.cell)
                below[found.column] = found.cell
        open_ = below
        out.append(kept)
    return out


def _flat(blocks: Sequence[Block]) -> str:
    """What a cell holds, on one line."""
    parts = [block.text if not block.rows else _flat_rows(block.rows) for block in blocks]
    return " ".join(" ".join(parts).split())


def _flat_rows(rows: Sequence[Sequence[Cell]]) -> str:
    return " ".join(cell.text for row in rows for cell in row)


def _tidy(text: str) -> str:
    """Lines without blanks around them; tabs that only align are one."""
    lines = (re.sub(r"[^\S\n]*\t\s*", "\t", re.sub(r"[ \xa0]+", " ", line)).strip() for line in text.split("\n"))
    return "\n".join(lines).strip("\n")
