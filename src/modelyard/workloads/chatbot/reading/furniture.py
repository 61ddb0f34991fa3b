"""What a page carries because it is a page: running headers and footers, page numbers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

from modelyard.workloads.chatbot.reading.layout import Line

# How many lines from either end of a page may be furniture, and how near to the edge (share of the height).
DEPTH = 3
MARGIN = 0.14
SHARE = 0.2
LEAST = 3
DIGITS = re.compile(r"\d+")
PAGE_NUMBER = re.compile(
    r"(?:page|p\.|seite)?\s*[-–—|]?\s*(?:\d{1,4}|[ivxlc]{1,6}|[A-Z]-?\d{1,3})(?:\s*(?:/|of|\|)\s*\d{1,4})?\s*[-–—|]?",
    re.I,
)

Key = tuple[str, int]


def repeated(pages: Iterable[tuple[list[Line], float]]) -> frozenset[Key]:
    """Lines that stand at the edge of more than a fifth of the pages (and of three at least), digits taken as equal.

    pages: lines and height of each page that has text.
    """
    counts: Counter[Key] = Counter()
    total = 0
    for lines, height in pages:
        total += 1
        counts.update({_key(lines[at]) for at in _edges(lines, height)})
    return frozenset(key for key, count in counts.items() if count >= LEAST and count > SHARE * total)


def without(lines: list[Line], height: float, furniture: frozenset[Key]) -> list[Line]:
    """The lines that belong to the content."""
    dropped: set[int] = set()
    edges = _edges(lines, height)
    for at in edges:
        if _key(lines[at]) in furniture or _is_page_number(lines, at, height):
            dropped.add(at)
    return [line for at, line in enumerate(lines) if at not in dropped]


def _edges(lines: list[Line], height: float) -> list[int]:
    order = sorted(range(len(lines)), key=lambda at: float(lines[at].boxes[0, 1]))
    # Some pages end half way down, and their footer with them: the outermost line counts wherever it stands.
    top = [at for n, at in enumerate(order[:DEPTH]) if n == 0 or lines[at].boxes[:, 1].min() < MARGIN * height]
    last = order[: -DEPTH - 1 : -1]
    bottom = [at for n, at in enumerate(last) if n == 0 or lines[at].boxes[:, 3].max() > (1 - MARGIN) * height]
    return [at for at in dict.fromkeys(top + bottom) if _may_be(lines[at])]


def _may_be(line: Line) -> bool:
    """Values are content however often they repeat: only words, or one bare number, can be furniture."""
    return any(char.isalpha() for char in line.text) or ("\t" not in line.text and len(line.words) <= 3)


def _key(line: Line) -> Key:
    return DIGITS.sub("#", " ".join(line.words)).lower(), round(line.size)


def _is_page_number(lines: list[Line], at: int, height: float) -> bool:
    """A lone number at the very edge: also in documents too short for anything to repeat."""
    line = lines[at]
    if not PAGE_NUMBER.fullmatch(line.text.strip()):
        return False
    middle = float(line.boxes[:, (1, 3)].mean())
    outer = middle > (1 - 0.09) * height or middle < 0.09 * height
    return outer and len(lines) > 1
