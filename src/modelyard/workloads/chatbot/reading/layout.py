"""From words with boxes to lines in reading order: rows of a table stay rows, columns of prose are read one by one."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from modelyard.workloads.chatbot.reading import script
from modelyard.workloads.chatbot.reading.columns import blocks_of
from modelyard.workloads.chatbot.reading.marks import MARK
from modelyard.workloads.chatbot.reading.numbers import is_number
from modelyard.workloads.chatbot.reading.pdf import Floats, Words

# Widths of gaps, in heights of the line's font box (about 1.2 of the font's size).
WIDE_GAP = 1.0
NUMBER_GAP = 0.35
LETTER_GAP = 0.12
CLOSING_GAP = 1.0
PUNCTUATION_GAP = 0.3
MARK_GAP = 4.0
VALUE_END = re.compile(r"[\d%)—–]$")
RAISED = "⁰¹²³⁴⁵⁶⁷⁸⁹"
CURRENCY = ("$", "€", "£", "¥", "US$", "C$", "A$", "CHF", "($", "(€", "(£", "$(", "€(", "£(")
CLOSING = (")", "%", ")%", "%)", "pts", "bps", "x")


@dataclass(slots=True)
class Line:
    """One line as shown.

    words: strings. glue: what stands before each word ("" only where two boxes make one word). boxes: (n, 4) as shown.
    x0, y0, x1, y1: frame of the line in its reading direction. size: height of the font box. first: pdfium's character
    index of each word. soft: a soft hyphen ends the line. block: lines of one block (column) follow each other.
    level: of a heading, from 1; 0 for other lines. continued: the line goes on with the heading above it. entry: the
    line is one entry of a form.
    """

    words: list[str]
    glue: list[str]
    boxes: Floats
    x0: float
    y0: float
    x1: float
    y1: float
    size: float
    first: list[int]
    soft: bool = False
    block: int = 0
    turn: int = 0
    bold: bool = False
    level: int = 0
    continued: bool = False
    entry: bool = False
    text: str = field(default="", init=False)

    def __post_init__(self) -> None:
        self.text = "".join(part for pair in zip(self.glue, self.words, strict=True) for part in pair)


@dataclass(frozen=True, slots=True)
class _Sheet:
    """The words of one direction, as lists: a line is a few words, too few for arrays to pay. frame: x0, y0, x1, y1 in
    the reading direction."""

    words: list[str]
    boxes: Floats
    first: list[int]
    soft: list[bool]
    attached: list[bool]
    frame: list[list[float]]


def lines_of(words: Words) -> list[Line]:
    """All lines of a page in reading order; writing that runs in another direction than most comes last."""
    if not words.text:
        return []
    texts = [
        text.rstrip("\x02\ufffe\xad") or "-" if soft else text
        for text, soft in zip(words.text, words.soft, strict=True)
    ]
    if script.SHAPED.search("".join(texts)):
        texts = [script.plain(text) for text in texts]
    found: list[Line] = []
    turns, counts = np.unique(words.turn, return_counts=True)
    for turn in turns[np.argsort(-counts, kind="stable")].tolist():
        chosen = np.flatnonzero(words.turn == turn)
        frame = _upright(words.boxes[chosen], turn)
        sheet = _Sheet(
            words=[texts[at] for at in chosen.tolist()],
            boxes=words.boxes[chosen],
            first=words.first[chosen].tolist(),
            soft=words.soft[chosen].tolist(),
            attached=words.attached[chosen].tolist(),
            frame=frame.tolist(),
        )
        block = found[-1].block + 1 if found else 0
        for part in blocks_of(frame, sheet.words):
            lines = zip(part.rows, part.prose, strict=True)
            found += [_line(sheet, row.tolist(), block, turn, prose) for row, prose in lines]
            block += 1
    return found


def _upright(boxes: Floats, turn: int) -> Floats:
    """Boxes in a frame where the writing runs left to right, lines downwards. Only order and distances matter in it."""
    x0, y0, x1, y1 = boxes.T
    if turn == 1:  # reads downwards: next letter is lower, next line further left
        return np.stack([y0, -x1, y1, -x0], axis=1)
    if turn == 2:
        return np.stack([-x1, -y1, -x0, -y0], axis=1)
    if turn == 3:  # reads upwards
        return np.stack([-y1, x0, -y0, x1], axis=1)
    return boxes


def _line(sheet: _Sheet, row: list[int], block: int, turn: int, prose: bool) -> Line:
    texts = [sheet.words[word] for word in row]
    x0, y0, x1, y1 = zip(*(sheet.frame[word] for word in row), strict=True)
    size = sorted(low - high for low, high in zip(y1, y0, strict=True))[len(row) // 2]
    gaps = [0.0, *((right - left) / max(size, 1.0) for left, right in zip(x1, x0[1:], strict=False))]
    if turn == 0 and (runs := script.read_from_right(texts)):
        row, gaps = [row[at] for run in runs for at in run], script.gaps_read(runs, gaps)
        texts = [sheet.words[word] for word in row]
        x0, y0, x1, y1 = zip(*(sheet.frame[word] for word in row), strict=True)
    # A word is attached to the one before only if that one stands before it here too.
    attached = [False, *(sheet.attached[word] and word == before + 1 for before, word in pairwise(row))]
    glue = _glue(texts, gaps, attached) if turn == 0 else _turned_glue(gaps)
    if prose:
        # What looks like a cell is a blank of a line that was stretched.
        glue = [" " if between == "\t" else between for between in glue]
    return Line(
        words=texts,
        glue=glue,
        boxes=sheet.boxes[row],
        x0=min(x0),
        y0=min(y0),
        x1=max(x1),
        y1=max(y1),
        size=size,
        first=[sheet.first[word] for word in row],
        soft=sheet.soft[row[-1]],
        block=block,
        turn=turn,
    )


def _turned_glue(gaps: list[float]) -> list[str]:
    """Turned writing arrives letter by letter: only the gaps tell where words end."""
    return ["", *("\t" if gap > WIDE_GAP else " " if gap > LETTER_GAP else "" for gap in gaps[1:])]


def _glue(texts: list[str], gaps: list[float], attached: list[bool]) -> list[str]:
    """Tab between cells, blank between words, nothing between a number and its sign."""
    glue = [""]
    value = is_number(texts[0])
    for at in range(1, len(texts)):
        before, word, gap = texts[at - 1], texts[at], gaps[at]
        number = is_number(word)
        follows = at + 1 < len(texts) and gaps[at + 1] < NUMBER_GAP and texts[at + 1][0].isalpha()
        if before in CURRENCY and number:
            glue.append("" if before[-1] in "$€£¥(" else " ")
        elif word in CLOSING and value and gap < CLOSING_GAP and not follows:
            glue.append("" if word[0] in ")%" else " ")
            continue  # the value goes on
        elif gap < PUNCTUATION_GAP and (
            (attached[at] and word[0] != "(") or word[0] in RAISED or (word in ",.;:" and before[-1].isalnum())
        ):
            glue.append("")
            continue
        elif at == 1 and len(texts) > 2 and MARK.fullmatch(before) and not number and gap < MARK_GAP:
            glue.append(" ")
        elif gap > WIDE_GAP or (gap > NUMBER_GAP and value and (number or word in CURRENCY)):
            glue.append("\t")
        else:
            glue.append(" ")
        value = number
    if "\t" in glue:
        # In a row, a sign of currency begins a cell however close the value before it stands.
        for at in range(1, len(texts) - 1):
            if (
                glue[at] == " "
                and texts[at] in CURRENCY
                and is_number(texts[at + 1])
                and VALUE_END.search(texts[at - 1])
            ):
                glue[at] = "\t"
    return glue
