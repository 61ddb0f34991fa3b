"""Headings, paragraphs, items and tables in reading order to sections, for documents that know no pages."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from modelyard.workloads.chatbot.limits import Limits, Unreadable
from modelyard.workloads.chatbot.reading.spans import Cell, grid_of
from modelyard.workloads.chatbot.reading.text import Section

# A section longer than the first is cut into parts of about the second, a table into parts of the first.
LONGEST_SECTION = 6_000
PART = 3_000
LONGEST_HEADING = 300
BETWEEN_TABLES = "\n\n\n\n"
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\x85\u2028\u2029\ufeff]")
# Lone halves of a pair are no characters and cannot be stored.
LONE = re.compile(r"[\ud800-\udfff]")


@dataclass(slots=True)
class _Block:
    """glue: what parts it from the block above. again: lines that stand before it where a part begins with it."""

    text: str
    glue: str
    again: str = ""
    table: bool = False
    row: bool = False


class Flow:
    """What a reader finds, one thing after the other. Raises Unreadable past the limits on characters and pages.

    whole: sections are never cut, as they are pages of the document's own.
    """

    def __init__(self, limits: Limits, whole: bool = False) -> None:
        self._limits, self._whole = limits, whole
        self._sections: list[Section] = []
        self._heading: tuple[int, str] | None = None
        self._blocks: list[_Block] = []
        self._caption = ""
        self._captioned = self._item = False
        self._size = 0

    def heading(self, level: int, text: str) -> None:
        """A section begins. level: from 1."""
        name = " ".join(safe(text).split())
        if len(name) > LONGEST_HEADING:
            self.paragraph(name)
        elif name:
            self._close()
            self._count(name)
            self._heading = level, name

    def paragraph(self, text: str) -> None:
        """A paragraph; line breaks in it are kept."""
        self._add(text, "\n\n")
        self._item = False

    def item(self, text: str) -> None:
        """An item of a list, with its mark."""
        self._add(text, "\n" if self._item else "\n\n")
        self._item = True

    def end_list(self) -> None:
        """The next item begins another list."""
        self._item = False

    def line(self, text: str) -> None:
        """A line that belongs to the one above."""
        self._add(text, "\n")

    def caption(self, text: str) -> None:
        """The caption of the table that follows, or of one right above that has none."""
        text = " ".join(safe(text).split())
        if not text:
            return
        last = self._table_above()
        if last is None or self._captioned or not text.lower().startswith("tab"):
            self._flush_caption()
            self._caption = text
            return
        first = self._blocks[last]
        self._blocks.insert(last, _Block(text, first.glue, table=True))
        first.glue = "\n"
        for block in self._blocks[last + 1 :]:
            block.again = f"{text}\n{block.again}" if block.again else text
        self._captioned = True
        self._count(text)

    def table(self, rows: Sequence[Sequence[Cell]], head_rows: int = 0, caption: str = "") -> None:
        """A table. head_rows: how many rows at the top are its head by the document's own word."""
        if caption:
            self._flush_caption()
            self._caption = " ".join(safe(caption).split())
        grid = grid_of(rows, head_rows)
        if not grid.rows and not grid.head:
            return
        caption, self._caption = self._caption, ""
        lead = [*([caption] if caption else []), *grid.lead, *([grid.head] if grid.head else [])]
        again = "\n".join(line for line in (caption, grid.head) if line)
        glue = BETWEEN_TABLES if self._blocks and self._blocks[-1].table else "\n\n"
        for number, line in enumerate([*lead, *grid.rows]):
            line = safe(line)
            row = number >= len(lead)
            self._blocks.append(_Block(line, glue, again if row else "", table=True, row=row))
            self._count(line)
            glue = "\n"
        self._captioned, self._item = bool(caption), False

    def sections(self) -> list[Section]:
        """All of it. The flow is over."""
        self._close()
        return self._sections

    def _add(self, text: str, glue: str) -> None:
        text = safe(text).rstrip().lstrip("\n")
        if text:
            self._flush_caption()
            self._count(text)
            self._blocks.append(_Block(text, glue))

    def _count(self, text: str) -> None:
        self._size += len(text)
        if self._size > self._limits.max_characters:
            raise Unreadable(f"its text is longer than the limit of {self._limits.max_characters:,} characters")

    def _flush_caption(self) -> None:
        """A caption of something that is no table is a paragraph."""
        caption, self._caption = self._caption, ""
        if caption:
            self._count(caption)
            self._blocks.append(_Block(caption, "\n\n"))

    def _table_above(self) -> int | None:
        """Where the table begins that is the last thing said."""
        at = len(self._blocks)
        while at and self._blocks[at - 1].table:
            at -= 1
            if self._blocks[at].glue != "\n":
                return at
        return None

    def _close(self) -> None:
        self._flush_caption()
        level, name = self._heading or (0, "")
        parts = ["".join(_glued(self._blocks))] if self._whole and self._blocks else _parts(self._blocks)
        if name:
            first = f"{name}\n\n{parts[0]}" if parts else name
            self._sections.append(Section(first, level, len(name)))
        elif parts:
            self._sections.append(Section(parts[0]))
        self._sections += [Section(part) for part in parts[1:]]
        if len(self._sections) > self._limits.max_pages:
            raise Unreadable(f"it has more than the limit of {self._limits.max_pages:,} sections")
        self._heading, self._blocks = None, []
        self._captioned = self._item = False


def safe(text: str) -> str:
    """Without characters that show nothing or cannot be stored; tabs and line ends stay."""
    return LONE.sub("\ufffd", CONTROL.sub(" ", text)) if not text.isascii() or not text.isprintable() else text


def _parts(blocks: Sequence[_Block]) -> list[str]:
    if not blocks:
        return []
    if sum(len(block.text) + len(block.glue) for block in blocks) <= LONGEST_SECTION:
        return ["".join(_glued(blocks))]
    parts: list[str] = []
    open_: list[str] = []
    size = 0
    for block in blocks:
        for piece in _pieces(block):
            room = LONGEST_SECTION if piece.table else PART
            # What stands over a table stays with its rows.
            cut = size + len(piece.text) > room and (not piece.table or piece.row or piece.glue != "\n")
            if open_ and cut:
                parts.append("".join(open_))
                open_, size = [], 0
                if piece.again:
                    open_ = [piece.again]
            open_ += (piece.glue if open_ else "", piece.text)
            size += len(piece.text) + len(piece.glue)
    return [*parts, "".join(open_)]


def _glued(blocks: Sequence[_Block]) -> list[str]:
    return [part for at, block in enumerate(blocks) for part in (block.glue if at else "", block.text)]


def _pieces(block: _Block) -> list[_Block]:
    """A paragraph longer than a part, cut at line ends, else after sentences, else at blanks, else anywhere."""
    if block.table or len(block.text) <= PART:
        return [block]
    pieces: list[_Block] = []
    start, glue = 0, block.glue
    while len(block.text) - start > PART:
        end = start + PART
        found = (block.text.rfind(mark, start + PART // 2, end) + len(mark) for mark in ("\n", ". ", " "))
        at = next((at for at in found if at > start + PART // 2), end)
        pieces.append(_Block(block.text[start:at].rstrip(), glue))
        start, glue = at, " "
    return [*pieces, _Block(block.text[start:], glue)]
