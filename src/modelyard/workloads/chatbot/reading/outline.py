"""The outline of a document: its headings, the heading path in force, its title."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise

from modelyard.workloads.chatbot.reading.layout import Line
from modelyard.workloads.chatbot.reading.naming import CAPTION, YEAR, name_words, speaks
from modelyard.workloads.chatbot.reading.numbers import is_number

LARGER = 1.1
LONGEST_HEADING = 120
PATH_DEPTH = 4
ENTRY_LENGTH = 90

PART = re.compile(r"(?:part|teil|chapter|kapitel)\s+(?:[ivxlc]+|\d+)\b", re.I)
ITEM = re.compile(r"(?:item|article|artikel|appendix|annex|schedule|section)\s+\d*[a-z]?\d*[.:)–—-]?(?:\s|$)", re.I)
NOTE = re.compile(r"note\s+\d+[a-z]?\b", re.I)
DECIMAL = re.compile(r"(\d{1,2}(?:\.\d{1,2}){0,4})[.)]?\s+(?=\S*[^\W\d_])")
LETTERS = re.compile(r"[^\W\d_].*[^\W\d_].*[^\W\d_]")
CONNECTIVES = frozenset(("and", "or", "of", "the", "for", "in", "on", "to", "with", "by", "from", "at", "a", "an"))
NO_HEADING = frozenset(("none", "or", "and", "yes", "no", "not applicable", "n/a"))
COLUMN_HEAD = re.compile(
    r"\(?(?:year|years|fiscal|quarter|three|six|nine|twelve|months|in millions|in thousands|dollars|as of|for the"
    r"|january|february|march|april|may|june|july|august|september|october|november|december|change|total)\b",
    re.I,
)


def body_size(pages: Sequence[list[Line]]) -> float:
    """The height most characters of prose are set in; of anything, where there is no prose."""
    prose: Counter[float] = Counter()
    others: Counter[float] = Counter()
    for lines in pages:
        for line in lines:
            running = "\t" not in line.text and len(line.words) >= 6
            (prose if running else others)[round(line.size * 2) / 2] += len(line.text)
    sizes = prose or others
    return max(sizes, key=lambda size: sizes[size]) if sizes else 0.0


def mark_bold(lines: list[Line], bold: Callable[[int], bool]) -> None:
    """Ask for the font only where a line may be a heading at all: asking costs a call into the library."""
    for line in lines:
        if len(line.words) <= 18 and _may_be_heading(line):
            line.bold = bold(line.first[0]) and (len(line.first) == 1 or bold(line.first[-1]))


def mark_headings(pages: Sequence[list[Line]]) -> None:
    """Set `level` (from 1) on every line of the document that is a heading, in place."""
    body = body_size(pages)
    styles: Counter[tuple[float, int]] = Counter()
    found: list[tuple[Line, tuple[float, int]]] = []
    for lines in pages:
        extents = _extents(lines)
        # An annex may be set larger than the rest: what is prose on its page is no heading.
        local = max(body, _page_body(lines))
        for at, line in enumerate(lines):
            style = _style(line, local)
            if style is None or _runs_on(lines, at):
                continue
            if not _in_table(lines, at) and not _column_head(lines, at, *extents[line.block]):
                found.append((line, style))
                styles[style] += 1
    ranks = _ranks(set(styles))
    named = [_named_level(line.text) for line, _ in found]
    base = max(named, default=0)
    for (line, style), level in zip(found, named, strict=True):
        number = DECIMAL.match(line.text)
        depth = number.group(1).count(".") if number else 0
        line.level = level or base + ranks[style] + depth
    for lines in pages:
        for above, line in pairwise(lines):
            if above.level and line.level and _second_line(above, line, body):
                line.level, line.continued = above.level, True


def _page_body(lines: list[Line]) -> float:
    """The height most of a page's prose is set in; 0 where there is too little of it to tell."""
    sizes: Counter[float] = Counter()
    for line in lines:
        if "\t" not in line.text and len(line.words) >= 8:
            sizes[round(line.size * 2) / 2] += 1
    return max(sizes, key=lambda size: sizes[size]) if sum(sizes.values()) >= 6 else 0.0


def _runs_on(lines: list[Line], at: int) -> bool:
    """Whether a line that is not bold is the beginning, or a part, of a sentence that goes on below."""
    if at + 1 == len(lines) or lines[at].bold or lines[at].text.isupper():
        return False
    line, below = lines[at], lines[at + 1]
    close = below.block == line.block and below.y0 >= line.y0 and below.y0 - line.y1 < 0.6 * line.size
    return close and len(line.words) >= 8 and below.text[0].islower() and abs(below.size - line.size) < 0.05 * line.size


def _extents(lines: list[Line]) -> dict[int, tuple[float, float]]:
    """Where the lines of each block begin and end."""
    extents: dict[int, tuple[float, float]] = {}
    for line in lines:
        left, right = extents.get(line.block, (line.x0, line.x1))
        extents[line.block] = min(left, line.x0), max(right, line.x1)
    return extents


def _ranks(styles: set[tuple[float, int]]) -> dict[tuple[float, int], int]:
    """Styles from the most to the least prominent, from 1; sizes that differ by little are one."""
    sizes: dict[float, float] = {}
    for size in sorted({size for size, _ in styles}, reverse=True):
        leader = min(sizes.values(), default=0.0)
        sizes[size] = leader if leader and size > 0.94 * leader else size
    order = sorted({(sizes[size], weight) for size, weight in styles}, reverse=True)
    return {(size, weight): order.index((sizes[size], weight)) + 1 for size, weight in styles}


def _second_line(above: Line, line: Line, body: float) -> bool:
    """Whether a heading goes on with the one above: set alike, close below, and not begun anew."""
    alike = abs(above.size - line.size) < 0.03 * line.size and above.bold == line.bold
    close = above.block == line.block and line.y0 >= above.y0 and line.y0 - above.y1 < 0.4 * line.size
    if not alike or not close or _named_level(line.text) or DECIMAL.match(line.text):
        return False
    running = line.text[0].islower() or above.words[-1].lower() in CONNECTIVES or above.text[-1] in ",&–—-"
    return running or (line.size > LARGER * body and above.text.isupper() == line.text.isupper())


def _may_be_heading(line: Line) -> bool:
    text = line.text
    if not 3 <= len(text) <= LONGEST_HEADING or not LETTERS.search(text):
        return False
    if "\t" in text and not (_named_level(text) or DECIMAL.match(text.replace("\t", " "))):
        return False
    if CAPTION.match(text) or (is_number(line.words[-1]) and "\t" in text) or text.lower() in NO_HEADING:
        return False
    if text[-1] in ";:" or not (text[0].isupper() or text[0].isdigit() or text[0] in "“\"'§"):
        return False
    return not (text[-1] == "." and len(line.words) > 12)


def _style(line: Line, body: float) -> tuple[float, int] | None:
    """(size, weight) of a heading, None where the line is none. Weight: 3 bold capitals, 2 bold, 1 capitals."""
    if not _may_be_heading(line) or sum(map(is_number, line.words[1:])) > 0.4 * len(line.words):
        return None
    size = round(line.size * 2) / 2
    larger = size > LARGER * body
    capitals = line.text.isupper()
    if not (larger or line.bold or (_named_level(line.text) >= 2 and line.text.isupper())):
        return None
    if line.text[-1] == "." and not larger and not _named_level(line.text):
        return None
    return (size if larger else body), 2 * line.bold + capitals


def _named_level(text: str) -> int:
    for level, pattern in ((1, PART), (2, ITEM), (3, NOTE)):
        if pattern.match(text):
            return level
    return 0


def _in_table(lines: list[Line], at: int) -> bool:
    """A bold label between rows of a table is a row, and so is one before a row of values that goes on with a table."""
    if at == 0 or at + 1 == len(lines):
        return False
    above, line, below = lines[at - 1 : at + 2]
    if "\t" not in above.text or "\t" not in below.text or line.size > 1.2 * above.size:
        return False
    gap = line.y0 - above.y1
    return gap < 1.2 * line.size or (gap < 4 * line.size and _is_row(above) and _is_row(below))


def _is_row(line: Line) -> bool:
    label, *values = line.text.split("\t")
    return bool(label) and any(
        is_number(word) and not YEAR.fullmatch(word) for value in values for word in value.split()
    )


def _column_head(lines: list[Line], at: int, left: float, right: float) -> bool:
    """Words over the value columns of a table: neither at the left nor in the middle, or a date or unit alone.

    left, right: where the lines of the same block begin and end.
    """
    line = lines[at]
    tabular = any("\t" in below.text for below in lines[at + 1 : at + 4])
    if tabular and COLUMN_HEAD.match(line.text):
        return True
    middle, width = (line.x0 + line.x1) / 2 - left, max(right - left, 1.0)
    aside = line.x0 > left + 0.12 * width and abs(middle - 0.5 * width) > 0.06 * width
    return (tabular and aside) or (middle > 0.62 * width and line.x0 > left + 0.3 * width)


class Path:
    """The headings in force while a document is read from top to bottom."""

    def __init__(self) -> None:
        self._open: list[tuple[int, str]] = []

    def enter(self, level: int, heading: str) -> None:
        while self._open and self._open[-1][0] >= level:
            self._open.pop()
        self._open.append((level, " ".join(heading.split())[:ENTRY_LENGTH]))

    def __str__(self) -> str:
        return " > ".join(text for _, text in self._open[-PATH_DEPTH:])


def title_of(document: str, first_page: Sequence[Line], body: float, metadata: str) -> str:
    """The largest text of the first page, else the file's own metadata, else the file's name."""
    large = [line for line in first_page if line.size > 1.15 * body and sum(char.isalpha() for char in line.text) >= 4]
    if large:
        size = max(line.size for line in large)
        lead = next(at for at, line in enumerate(large) if line.size > 0.95 * size)
        parts = [large[lead].text]
        for above, line in zip(large[lead:], large[lead + 1 : lead + 3], strict=False):
            if line.size < 0.95 * size or line.y0 - above.y1 > 1.5 * size:
                break
            parts.append(line.text)
        return " ".join(" ".join(parts).split())[:160]
    if speaks(metadata):
        return " ".join(metadata.split())[:160]
    return _opening(first_page) or name_words(document)


def _opening(lines: Sequence[Line]) -> str:
    """The first line of a page, where it stands over a form like its title."""
    line = next(iter(lines), None)
    titled = line is not None and len(lines) > 1 and lines[1].entry and not line.entry
    return " ".join(line.text.split())[:160] if line is not None and titled and _may_be_heading(line) else ""
