"""From words with boxes to lines in reading order: rows of a table stay rows, columns of prose are read one by one."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from modelyard.workloads.chatbot.reading import script
from modelyard.workloads.chatbot.reading.numbers import is_number
from modelyard.workloads.chatbot.reading.pdf import Floats, Ints, Words

# Widths of gaps, in heights of the line's font box (about 1.2 of the font's size).
WIDE_GAP = 1.0
NUMBER_GAP = 0.35
LETTER_GAP = 0.12
CLOSING_GAP = 1.0
PUNCTUATION_GAP = 0.3
MARK_GAP = 4.0
VALUE_END = re.compile(r"[\d%)—–]$")
# What stands before an entry of a list, or a note under a table.
MARK = re.compile(r"[•●▪■◦○◆►✓*·–—-]|\(?(?:\d{1,2}|[a-z]|[ivx]{1,4})[.)]|\*{1,3}")
COLUMN_LINES = 5
RAISED = "⁰¹²³⁴⁵⁶⁷⁸⁹"
CURRENCY = ("$", "€", "£", "¥", "US$", "C$", "A$", "CHF", "($", "(€", "(£", "$(", "€(", "£(")
CLOSING = (")", "%", ")%", "%)", "pts", "bps", "x")


@dataclass(slots=True)
class Line:
    """One line as shown.

    words: strings. glue: what stands before each word ("" only where two boxes make one word). boxes: (n, 4) as shown.
    x0, y0, x1, y1: frame of the line in its reading direction. size: height of the font box. first: pdfium's character
    index of each word. soft: a soft hyphen ends the line. block: lines of one block (column) follow each other.
    level: of a heading, from 1; 0 for other lines. continued: the line goes on with the heading above it.
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
        for rows in _blocks(frame, sheet.words):
            found += [_line(sheet, row.tolist(), block, turn) for row in rows]
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


def _blocks(frame: Floats, words: list[str]) -> list[list[Ints]]:
    """Rows of word indices, in blocks that are read one after the other."""
    rows = _rows(frame)
    for gutter in _gutters(frame, rows):
        blocks = _parted(frame, rows, gutter, words)
        if len(blocks) > 1:
            return blocks
    return [rows]


def _parted(frame: Floats, rows: list[Ints], gutter: float, words: list[str]) -> list[list[Ints]]:
    """The rows with every band of two columns at the gutter taken apart."""
    blocks: list[list[Ints]] = [[]]
    for band in _bands(frame, rows, gutter):
        if not _two_columns(frame, band, gutter, words):
            blocks[-1] += band
            continue
        together = np.concatenate(band)
        right = frame[together, 2] > gutter + 1
        blocks += [[side[row] for row in _rows(frame[side])] for side in (together[~right], together[right])]
        blocks.append([])
    return [block for block in blocks if block]


def _bands(frame: Floats, rows: list[Ints], gutter: float) -> list[list[Ints]]:
    """Runs of rows no word of which crosses the gutter, and which follow each other closely; other rows stand alone,
    and so does a heading."""
    bands: list[list[Ints]] = []
    bottom, open_band = 0.0, False
    usual = float(np.median(frame[:, 3] - frame[:, 1]))
    for row in rows:
        crossing = bool(((frame[row, 0] < gutter - 1) & (frame[row, 2] > gutter + 1)).any())
        top, height = float(frame[row, 1].min()), float(np.median(frame[row, 3] - frame[row, 1]))
        one_sided = bool((frame[row, 2] <= gutter + 1).all() or (frame[row, 2] > gutter + 1).all())
        alone = crossing or (one_sided and height > 1.08 * usual)
        if open_band and not alone and top - bottom < 1.5 * height:
            bands[-1].append(row)
        else:
            bands.append([row])
        open_band, bottom = not alone, float(frame[row, 3].max())
    return bands


def _rows(frame: Floats) -> list[Ints]:
    """Words that share a line, left to right; lines from the top. A word belongs to a line it overlaps by half."""
    order = np.argsort((frame[:, 1] + frame[:, 3]) / 2, kind="stable")
    tops, bottoms = frame[:, 1].tolist(), frame[:, 3].tolist()
    rows: list[list[int]] = []
    top = bottom = 0.0
    for word in order.tolist():
        y0, y1 = tops[word], bottoms[word]
        height = y1 - y0
        if rows and min(y1, bottom) - max(y0, top) > 0.5 * min(height, bottom - top):
            rows[-1].append(word)
            if height > bottom - top:
                top, bottom = y0, y1
        else:
            rows.append([word])
            top, bottom = y0, y1
    left = frame[:, 0]
    return [np.array(row)[np.argsort(left[row], kind="stable")] for row in rows]


def _gutters(frame: Floats, rows: list[Ints]) -> list[float]:
    """Where a right column may begin: left edges that many rows share behind a gap near the middle, commonest first."""
    if len(rows) < COLUMN_LINES:
        return []
    page_left, page_right = float(frame[:, 0].min()), float(frame[:, 2].max())
    low, high = page_left + 0.35 * (page_right - page_left), page_left + 0.65 * (page_right - page_left)
    flat = np.concatenate(rows)
    begins = np.zeros(len(flat), bool)
    begins[np.cumsum([len(row) for row in rows[:-1]])] = True
    height = frame[flat[1:], 3] - frame[flat[1:], 1]
    x0, gap = frame[flat[1:], 0], frame[flat[1:], 0] - frame[flat[:-1], 2]
    edges = x0[~begins[1:] & (gap > 0.7 * height) & (x0 > low) & (x0 < high)]
    values, counts = np.unique(np.round(edges / 3), return_counts=True)
    order = np.argsort(-counts, kind="stable")[:4]
    return [float(values[at]) * 3 - 4.0 for at in order if counts[at] >= COLUMN_LINES]


def _two_columns(frame: Floats, band: list[Ints], gutter: float, words: list[str]) -> bool:
    """Whether a band of rows is prose in two columns: both sides are filled with words, not labels beside values."""
    if len(band) < COLUMN_LINES or not _set_solid(frame, band):
        return False
    sides: list[tuple[list[Ints], float]] = []
    together = np.concatenate(band)
    right_of = frame[:, 2] > gutter + 1
    for side, width in (
        (False, gutter - float(frame[together, 0].min())),
        (True, float(frame[together, 2].max()) - gutter),
    ):
        parts = [row[right_of[row] == side] for row in band]
        sides.append(([part for part in parts if len(part)], width))
    for parts, width in sides:
        if len(parts) < COLUMN_LINES:
            return False
        filled = [float(frame[part[-1], 2] - frame[part[0], 0]) > 0.75 * width for part in parts]
        texts = [words[word] for part in parts for word in part.tolist()]
        letters = sum(text[0].isalpha() or text[-1].isalpha() for text in texts)
        gaps = [frame[part[1:], 0] - frame[part[:-1], 2] for part in parts]
        celled = [
            bool((gap > WIDE_GAP * float(frame[part[0], 3] - frame[part[0], 1])).any())
            for gap, part in zip(gaps, parts, strict=True)
        ]
        if np.mean(filled) < 0.5 or np.mean(celled) > 0.15 or len(texts) < 4 * len(parts) or letters < 0.8 * len(texts):
            return False
    return True


def _set_solid(frame: Floats, band: list[Ints]) -> bool:
    """Whether rows follow each other as closely as lines of prose do, and not spaced out as rows of a table are."""
    tops = np.array([float(frame[row, 1].min()) for row in band])
    height = float(np.median(np.concatenate([frame[row, 3] - frame[row, 1] for row in band])))
    return float(np.median(np.diff(np.sort(tops)))) < 1.4 * height


def _line(sheet: _Sheet, row: list[int], block: int, turn: int) -> Line:
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
    return Line(
        words=texts,
        glue=_glue(texts, gaps, attached) if turn == 0 else _turned_glue(gaps),
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
