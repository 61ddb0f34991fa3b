"""Elements of HTML to headings, paragraphs, items and tables."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from modelyard.workloads.chatbot.reading.flow import Flow
from modelyard.workloads.chatbot.reading.spans import RAISED, Cell

HEADINGS = {f"h{level}": level for level in range(1, 7)}
BLOCK_NAMES = (
    "address article aside blockquote center details dd div dl dt fieldset figcaption figure footer form h1 h2 h3 h4 h5"
    " h6 header hgroup hr legend li main ol p pre section summary ul body table caption thead tbody tfoot tr td th"
)
BREAKING = frozenset(BLOCK_NAMES.split())
ATTRIBUTED = frozenset(("ol", "li", "td", "th", "table", "img"))
BLOCKS = BREAKING | ATTRIBUTED
# A table whose cells hold this much, headings or tables is no table but a page laid out by one.
LONGEST_CELL = 1_000
DEEPEST_LIST = 6
# Tables within tables beyond this only lay out a page, whatever they say.
DEEPEST_TABLE = 8
BLANKS = re.compile(r"[ \t\n\r\f\xa0]+")

Attributes = Mapping[str, str | None]


@dataclass(slots=True)
class _Block:
    """kind: "heading", "paragraph", "item", "line" (it belongs to the one above) or "table"."""

    kind: str
    text: str = ""
    level: int = 0
    table: _Table | None = None

    def words(self) -> str:
        """What it says, on one line."""
        if self.table is None:
            return self.text
        return " ".join(cell.text for row in self.table.rows for cell in row)


@dataclass(slots=True)
class _TableCell:
    blocks: list[_Block] = field(default_factory=list)
    columns: int = 1
    rows: int = 1
    head: bool = False

    @property
    def text(self) -> str:
        return " ".join(block.words() for block in self.blocks)


@dataclass(slots=True)
class _Table:
    rows: list[list[_TableCell]] = field(default_factory=list)
    caption: list[_Block] = field(default_factory=list)
    presentation: bool = False
    head_rows: int = 0
    part: str = ""
    in_caption: bool = False

    def blocks(self) -> list[_Block]:
        """The table as one block, or what its cells hold where it only lays out a page."""
        rows = [row for row in self.rows if row]
        if not rows:
            return self.caption
        if self._lays_out(rows):
            return [*self.caption, *(block for row in rows for cell in row for block in cell.blocks)]
        self.rows = rows
        return [_Block("table", table=self)]

    def _lays_out(self, rows: list[list[_TableCell]]) -> bool:
        if self.presentation or max(map(len, rows)) < 2:
            return True
        cells = [cell for row in rows for cell in row]
        if self.caption or any(cell.head for cell in cells):
            return False
        if any(block.kind in ("heading", "table") for cell in cells for block in cell.blocks):
            return True
        several = any(len(cell.blocks) > 1 for cell in cells)
        return several and (len(rows) == 1 or any(len(cell.text) > LONGEST_CELL for cell in cells))

    def cells(self) -> list[list[Cell]]:
        return [[Cell(cell.text, cell.columns, cell.rows, cell.head) for cell in row] for row in self.rows]

    def heads(self) -> int:
        """How many rows at the top are the head: those of thead, else those that hold labels alone."""
        if self.head_rows:
            return self.head_rows
        labels = 0
        for row in self.rows:
            if not all(cell.head for cell in row) or len(row) < 2:
                break
            labels += 1
        return labels if labels < len(self.rows) else 0


class Writer:
    """Follows the walk over a tree and writes what it shows to a flow."""

    def __init__(self, flow: Flow) -> None:
        self._flow = flow
        self._inline: list[str] = []
        self._tables: list[_Table] = []
        self._lists: list[int | None] = []
        self._mark = ""
        self._follows = False
        self._heading: list[int] = []
        self._pre = 0
        self._raised = 0
        self._beyond = 0

    def enter(self, tag: str, attributes: Attributes) -> None:
        """An element begins."""
        if tag == "br":
            self._inline.append("\n")
            return
        if tag == "pre":
            self._end_block()
            self._pre += 1
        elif tag in HEADINGS:
            self._end_block()
            self._heading.append(HEADINGS[tag])
        elif tag in ("ul", "ol"):
            self._end_block()
            self._lists.append(_number(attributes.get("start"), 1, -10_000, 10**6) if tag == "ol" else None)
        elif tag == "li":
            self._end_block()
            self._mark = self._next_mark(attributes)
        elif tag in ("table", "caption", "thead", "tbody", "tfoot", "tr", "td", "th"):
            self._end_block()
            self._enter_table(tag, attributes)
        elif tag in BREAKING:
            self._end_block()
            self._follows = tag == "dd"
        elif tag == "img":
            self._inline.append(" ")
        elif tag == "sup":
            self._raised += 1

    def leave(self, tag: str) -> None:
        """An element ends."""
        if tag in HEADINGS and self._heading:
            self._end_block()
            self._heading.pop()
        elif tag in BREAKING:
            self._end_block()
        if tag == "pre":
            self._pre -= 1
        elif tag in ("ul", "ol") and self._lists:
            self._lists.pop()
        elif tag == "li":
            self._mark = ""
        elif tag == "dd":
            self._follows = False
        elif tag == "sup":
            self._raised -= 1
        elif tag == "caption" and self._tables and not self._beyond:
            self._tables[-1].in_caption = False
        elif tag == "table" and self._beyond:
            self._beyond -= 1
        elif tag == "table" and self._tables:
            for block in self._tables.pop().blocks():
                self._put(block)

    def text(self, text: str) -> None:
        """Characters of the page."""
        if self._raised and text.strip().isdigit():
            # A raised digit is a mark or a power, and not part of the number before it.
            text = text.strip().translate(RAISED)
        self._inline.append(text if self._pre else BLANKS.sub(" ", text))

    def close(self) -> None:
        """The page ends."""
        self._end_block()

    def _enter_table(self, tag: str, attributes: Attributes) -> None:
        if tag == "table":
            presentation = (attributes.get("role") or "").lower() in ("presentation", "none")
            if self._beyond or len(self._tables) >= DEEPEST_TABLE:
                self._beyond += 1
                return
            self._tables.append(_Table(presentation=presentation))
            return
        if not self._tables or self._beyond:
            return
        table = self._tables[-1]
        if tag == "caption":
            table.in_caption = True
        elif tag in ("thead", "tbody", "tfoot"):
            table.part = tag
        elif tag == "tr":
            table.rows.append([])
            if table.part == "thead" and table.head_rows == len(table.rows) - 1:
                table.head_rows += 1
        else:
            if not table.rows:
                table.rows.append([])
            columns = _number(attributes.get("colspan"), 1, 1, 1_000)
            # A span of 0 reaches to the end.
            rows = _number(attributes.get("rowspan"), 1, 0, 65_534) or 65_534
            table.rows[-1].append(_TableCell([], columns, rows, tag == "th"))

    def _next_mark(self, attributes: Attributes) -> str:
        indent = "  " * min(max(len(self._lists) - 1, 0), DEEPEST_LIST)
        number = self._lists[-1] if self._lists else None
        if number is None:
            return f"{indent}- "
        number = _number(attributes.get("value"), number, -10_000, 10**6)
        self._lists[-1] = number + 1
        return f"{indent}{number}. "

    def _end_block(self) -> None:
        if not self._inline:
            return
        text = "".join(self._inline)
        self._inline = []
        lines = text.split("\n") if self._pre else [" ".join(line.split()) for line in text.split("\n")]
        text = "\n".join(line.rstrip() for line in lines).strip("\n")
        if not text.strip():
            return
        if self._tables and self._tables[-1].in_caption:
            self._tables[-1].caption.append(_Block("paragraph", text))
        elif self._heading:
            self._put(_Block("heading", text, self._heading[-1]))
        elif self._follows:
            self._put(_Block("line", text))
        elif self._mark or self._lists:
            mark, self._mark = self._mark, ""
            indent = "" if mark else "  " * min(len(self._lists), DEEPEST_LIST)
            self._put(_Block("item", f"{mark}{indent}{text}"))
        else:
            self._put(_Block("paragraph", text))

    def _put(self, block: _Block) -> None:
        """Into the cell that is open, else onto the page."""
        if self._tables:
            table = self._tables[-1]
            if table.rows and table.rows[-1]:
                table.rows[-1][-1].blocks.append(block)
            else:
                table.caption.append(block)
        elif block.table is not None:
            caption = " ".join(above.text for above in block.table.caption)
            self._flow.table(block.table.cells(), block.table.heads(), caption)
        elif block.kind == "heading":
            self._flow.heading(block.level, block.text)
        elif block.kind == "item":
            self._flow.item(block.text)
        elif block.kind == "line":
            self._flow.line(block.text)
        else:
            self._flow.paragraph(block.text)


def _number(given: str | None, default: int, least: int, most: int) -> int:
    """An attribute's number within bounds; the default where it is none."""
    found = re.match(r"\s*([+-]?\d{1,9})", given or "")
    return min(max(int(found.group(1)), least), most) if found else default
