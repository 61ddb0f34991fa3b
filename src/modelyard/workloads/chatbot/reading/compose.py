"""From lines to the text of a page: paragraphs joined, broken words made whole, and where each word went."""

from __future__ import annotations

import re
from collections.abc import Container
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from modelyard.workloads.chatbot.reading.layout import Line
from modelyard.workloads.chatbot.reading.naming import CAPTION
from modelyard.workloads.chatbot.reading.pdf import Floats
from modelyard.workloads.chatbot.reading.script import RIGHT_TO_LEFT, unspaced

BULLET = re.compile(r"(?:[•●▪■◦○◆►✓*·–—-]|\(?(?:\d{1,2}|[a-z]|[ivx]{1,4})[.)])(?:\s|$)")
# In heights of the line: entries of a form that are further apart belong to two.
APART = 3.0
EDGES = "“”\"'‘’()[]{}<>,.;:!?…—–-"


@dataclass(slots=True)
class Composed:
    """A page as text. spans: (start, end) of each word, in the order of `boxes`. headings: (start, end, level)."""

    text: str = ""
    spans: list[tuple[int, int]] = field(default_factory=list)
    boxes: Floats = field(default_factory=lambda: np.empty((0, 4), np.float32))
    headings: list[tuple[int, int, int]] = field(default_factory=list)


def vocabulary(pages: list[list[Line]]) -> set[str]:
    """The words of a document, lower case: they tell whether a word broken at a line's end keeps its hyphen."""
    lines = (line for page in pages for line in page)
    return {word.strip(EDGES).lower() for line in lines for word in line.words[: len(line.words) - line.soft]}


def compose(lines: list[Line], words: Container[str]) -> Composed:
    """words: the document's vocabulary."""
    page = Composed()
    if not lines:
        return page
    parts: list[str] = []
    position = 0
    margins = _margins(lines)
    usual = _usual_gap(lines)
    for at, line in enumerate(lines):
        last = at == len(lines) - 1
        between = "" if last else _between(line, lines[at + 1], margins, usual)
        hyphen = "" if last else _hyphen(line, lines[at + 1], words)
        start = position
        for number, (glue, word) in enumerate(zip(line.glue, line.words, strict=True)):
            if hyphen is None and number == len(line.words) - 1:
                word = word.rstrip("-‐\x02\xad")
            elif hyphen == "-" and line.soft and number == len(line.words) - 1:
                word += "-"
            parts += (glue, word)
            page.spans.append((position + len(glue), position + len(glue) + len(word)))
            position += len(glue) + len(word)
        if line.level:
            _add_heading(page, parts, start, position, line.level)
        closed = between == " " and unspaced(line.text[-1]) and unspaced(lines[at + 1].text[0])
        if closed or hyphen is None or hyphen == "-":
            between = ""
        parts.append(between)
        position += len(between)
    page.text = "".join(parts)
    page.boxes = np.concatenate([line.boxes for line in lines])
    return page


def _add_heading(page: Composed, parts: list[str], start: int, end: int, level: int) -> None:
    # A heading joined to the one before by a blank is its second line.
    before = page.headings[-1] if page.headings else None
    if before is not None and before[1:] == (start - 1, level) and _joined(parts, start, end):
        start = page.headings.pop()[0]
    page.headings.append((start, end, level))


def _joined(parts: list[str], start: int, end: int) -> bool:
    left = end - start
    for part in reversed(parts):
        if left <= 0 and part:
            return part == " "
        left -= len(part)
    return False


Margins = dict[tuple[int, bool], float]


def _margins(lines: list[Line]) -> Margins:
    """Where the lines of prose in each block end, by whether they are read from the right."""
    margins: Margins = {}
    for line in lines:
        if "\t" not in line.text and (len(line.words) >= 6 or (len(line.text) >= 12 and unspaced(line.text[-1]))):
            side, edge = _edge(line)
            margins[line.block, side] = max(margins.get((line.block, side), float("-inf")), edge)
    return margins


def _edge(line: Line) -> tuple[bool, float]:
    """(whether a line is read from the right, where it ends: growing in the direction it is read)."""
    leftward = RIGHT_TO_LEFT.search(line.words[0]) is not None
    return leftward, -line.x0 if leftward else line.x1


def _usual_gap(lines: list[Line]) -> float:
    """The gap between lines of running text, in line heights."""
    gaps = [
        (below.y0 - above.y1) / above.size
        for above, below in pairwise(lines)
        if above.block == below.block and below.y0 > above.y0 and above.size > 0
    ]
    return float(np.percentile(gaps, 30)) if gaps else 0.0


def _between(above: Line, below: Line, margins: Margins, usual: float) -> str:
    if above.entry or below.entry:
        # Entries of one line stand beside each other.
        return "\n" if above.entry and below.entry and below.y0 - above.y1 < APART * above.size else "\n\n"
    if above.block != below.block or below.y0 < above.y0:
        # A sentence may run from the foot of one column to the head of the next.
        runs_on = above.text[-1] not in ".:;!?" and len(above.words) >= 4 and below.text[0].isalpha()
        plain = "\t" not in above.text + below.text and not above.level and not below.level
        return " " if runs_on and plain and abs(above.size - below.size) < 0.1 * above.size else "\n\n"
    gap = (below.y0 - above.y1) / max(above.size, 1.0)
    tabs = "\t" in above.text, "\t" in below.text
    if above.level or below.level:
        return " " if below.continued else "\n\n"
    if gap > max(usual, 0.0) + 0.35:
        return "\n" if tabs == (True, True) and gap < 3 else "\n\n"
    if any(tabs):
        return "\n"
    if CAPTION.match(below.text):
        return "\n\n"
    if abs(above.size - below.size) > 0.12 * above.size or BULLET.match(below.text):
        return "\n"
    return " " if _continues(above, below, margins) else "\n"


def _continues(above: Line, below: Line, margins: Margins) -> bool:
    """The line was broken because the next word did not fit, or the next begins in the middle of a sentence."""
    first = float(below.boxes[0, 2] - below.boxes[0, 0])
    if unspaced(below.text[0]):
        first = below.size  # a line may end between any two characters
    side, edge = _edge(above)
    full = edge + 0.25 * above.size + first > margins.get((above.block, side), float("inf"))
    running = below.text[0].islower() and above.text[-1] not in ".:;!?" and len(above.words) >= 3
    return full or running


def _hyphen(above: Line, below: Line, words: Container[str]) -> str | None:
    """None: the hyphen at the line's end goes. "-": it stays, and the word goes on. "": there is none."""
    last = above.words[-1]
    ends = above.soft or (last[-1:] in ("-", "‐") and len(last) > 2 and last[-2].isalpha())
    if not ends or above.block != below.block or not below.words[0][:1].islower() or "\t" in above.text:
        return ""
    head = last.rstrip("-‐").strip(EDGES).lower()
    tail = below.words[0].strip(EDGES).lower()
    if "-" in head:
        return "-"
    if head + tail in words:
        return None
    if f"{head}-{tail}" in words or (head in words and tail in words):
        return "-"
    return None
