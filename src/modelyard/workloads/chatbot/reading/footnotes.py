"""Notes at the foot of a column belong at the end of the page's text, not between one column and the next."""

from __future__ import annotations

import re
from dataclasses import replace

from modelyard.workloads.chatbot.reading.layout import Line

MARK = re.compile(r"(?:\d{1,2}|[*†‡§]{1,3}|[¹²³⁴⁵⁶⁷⁸⁹⁰]{1,2}|\(?[a-z1-9]\))(?:[.)]?\s|(?=[A-Z“\"]))")
SMALLER = 0.93
LOWER = 0.5


def last(lines: list[Line]) -> list[Line]:
    """The lines of a page with the notes under its columns moved behind them, where it has several columns.

    A note begins with a mark, is set smaller than most of the page, and nothing but notes stands below it there.
    """
    blocks: dict[int, list[Line]] = {}
    for line in lines:
        blocks.setdefault(line.block, []).append(line)
    if len(blocks) < 2:
        return lines
    sizes = sorted(line.size for line in lines for _ in line.words)
    usual = sizes[len(sizes) // 2]
    upright = [line for line in lines if line.turn == 0] or lines
    top, bottom = min(line.y0 for line in upright), max(line.y1 for line in upright)
    lower = top + LOWER * (bottom - top)
    body: list[Line] = []
    notes: list[Line] = []
    for number, block in blocks.items():
        start = len(block)
        while start and _small(block[start - 1], usual, lower):
            start -= 1
        # What is small but bears no mark may be anything: a caption, a source, the end of a table.
        while start < len(block) and not MARK.match(block[start].text):
            start += 1
        body += block[:start]
        if notes or number != max(blocks):
            notes += block[start:]
        else:
            body += block[start:]
    end = max(blocks) + 1
    return [*body, *(replace(line, block=end) for line in notes)]


def _small(line: Line, usual: float, lower: float) -> bool:
    return line.turn == 0 and line.size < SMALLER * usual and line.y0 > lower and "\t" not in line.text
