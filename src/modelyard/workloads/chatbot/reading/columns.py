"""Columns of prose, which are read one after the other, told from tables, whose rows are read across.

Both leave a gutter that no word crosses. What tells them apart is how the lines on its two sides go together. Prose is
broken where the next word does not fit, goes on in lower case, and its paragraphs end where they will. Cells end
together: all that stands in a row of a table is over before the next row begins.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from modelyard.workloads.chatbot.reading.pdf import Floats, Ints
from modelyard.workloads.chatbot.reading.running import ROWS, Chain, Text, chains_of, prose, text_of

# Widths and heights in heights of the line's font box (about 1.2 of the font's size).
GUTTER = 0.7
CLEAR = 0.5
# How many lines begin at the left edge of a column, at least, and how many edges are tried.
EDGE_LINES = 3
EDGES = 6
# A column is at least this share of what it is parted from.
NARROWEST = 0.15
DEEPEST = 4
# How often, on average, a word is looked at before a page is read as it comes.
PATIENCE = 60
# How far apart lines may stand, by their usual distance, to be evenly spaced.
EVEN = 1.4
# Lines of one paragraph that make running text, and the share of a side's lines that are in such.
RUN = 4
RUNNING = 0.5
# Cells of a table hold fewer lines than this on average.
CELL_LINES = 6
# Rows over and under columns that are headings of theirs or notes, and not a table.
BESIDE = 2


@dataclass(frozen=True, slots=True)
class Block:
    """Rows of word indices that are read from the top. prose: of each row, whether it is a line of running text."""

    rows: list[Ints]
    prose: list[bool]


@dataclass(slots=True)
class _Purse:
    """How many words may yet be looked at: a page may be made to have columns in columns without end."""

    left: int

    def spend(self, words: int) -> bool:
        self.left -= words
        return self.left >= 0


@dataclass(frozen=True, slots=True)
class _Side:
    """What stands on one side of a gutter: what goes together, whether it is running text, whether all its lines stand
    equally far apart."""

    chains: list[Chain]
    running: bool
    even: bool
    parted: bool = False


@dataclass(frozen=True, slots=True)
class _Piece:
    """What begins and ends together on both sides: a row of a table, or columns of prose."""

    top: float
    bottom: float
    sides: tuple[list[Chain], list[Chain]]

    @property
    def shared(self) -> bool:
        return bool(self.sides[0] and self.sides[1])

    @property
    def lines(self) -> tuple[int, int]:
        return sum(chain.lines for chain in self.sides[0]), sum(chain.lines for chain in self.sides[1])


@dataclass(frozen=True, slots=True)
class _Parting:
    """Rows [start, end) that are two columns. score: more is better."""

    start: int
    end: int
    sides: tuple[Ints, Ints]
    score: tuple[bool, int, float]


def blocks_of(frame: Floats, words: list[str]) -> list[Block]:
    """The words of one writing direction in blocks that are read one after the other.

    frame: (n, 4) boxes x0, y0, x1, y1 where the writing runs left to right and lines downwards.
    """
    text = text_of(frame, words)
    return _blocks(text, _Purse(PATIENCE * len(words)), np.arange(len(words)), 0)


def rows_of(frame: Floats) -> list[Ints]:
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


def _rows(text: Text, chosen: Ints) -> list[Ints]:
    return [chosen[row] for row in rows_of(text.frame[chosen])]


def _blocks(text: Text, purse: _Purse, chosen: Ints, depth: int) -> list[Block]:
    rows = _rows(text, chosen)
    found = _parting(text, purse, rows, DEEPEST - depth)
    if found is None:
        return [Block(rows, prose(text, rows) if depth else [False] * len(rows))]
    over, under = rows[: found.start], rows[found.end :]
    blocks = _blocks(text, purse, np.concatenate(over), depth) if over else []
    for side in found.sides[:: -1 if text.leftward else 1]:
        blocks += _blocks(text, purse, side, depth + 1)
    return blocks + (_blocks(text, purse, np.concatenate(under), depth) if under else [])


def _parting(text: Text, purse: _Purse, rows: list[Ints], deeper: int) -> _Parting | None:
    """The best way to part rows into two columns, if there is any. deeper: how often a side may be parted again."""
    if len(rows) < EDGE_LINES or deeper <= 0:
        return None
    flat = np.concatenate(rows)
    starts = np.concatenate([[0], np.cumsum([len(row) for row in rows])[:-1]])
    best: _Parting | None = None
    frame = text.frame[flat]
    heights = np.maximum.reduceat(frame[:, 3] - frame[:, 1], starts)
    for gutter in _gutters(frame, starts):
        beyond = frame[:, 2] > gutter + 1
        across = np.logical_or.reduceat(beyond & (frame[:, 0] < gutter - 1), starts)
        ends = np.maximum.reduceat(np.where(beyond, -np.inf, frame[:, 2]), starts)
        begins = np.minimum.reduceat(np.where(beyond, frame[:, 0], np.inf), starts)
        crossing = across | (begins - ends < CLEAR * heights)
        for first, last in _bands(crossing):
            low = starts[first]
            high = starts[last] if last < len(starts) else len(flat)
            sides = flat[low:high][~beyond[low:high]], flat[low:high][beyond[low:high]]
            if not _may_be_prose(text, sides) or not purse.spend(int(high - low)):
                continue
            found = _columns(text, purse, rows[first:last], sides, deeper)
            if found is not None and (best is None or found.score > best.score):
                best = _Parting(first + found.start, first + found.end, found.sides, found.score)
    return best


def _gutters(frame: Floats, starts: Ints) -> list[float]:
    """Where a right column may begin: left edges that lines share, alone or behind a gap, commonest first."""
    page_left, page_right = float(frame[:, 0].min()), float(frame[:, 2].max())
    margin = NARROWEST * (page_right - page_left)
    height = frame[:, 3] - frame[:, 1]
    opening = np.zeros(len(frame), bool)
    opening[1:] = frame[1:, 0] - frame[:-1, 2] > GUTTER * height[1:]
    opening[starts] = True
    x0 = frame[:, 0]
    edges = x0[opening & (x0 > page_left + margin) & (x0 < page_right - margin)]
    if len(edges) < EDGE_LINES:
        return []
    values, counts = np.unique(np.round(edges / 3), return_counts=True)
    order = np.argsort(-counts, kind="stable")[:EDGES]
    return [float(values[at]) * 3 - 4.0 for at in order if counts[at] >= EDGE_LINES]


def _bands(crossing: npt.NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Runs of rows no word of which crosses the gutter."""
    edges = np.flatnonzero(np.diff(np.concatenate([[True], crossing, [True]])))
    return [(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True) if b - a >= EDGE_LINES]


def _may_be_prose(text: Text, sides: tuple[Ints, Ints]) -> bool:
    """Whether a closer look is worth its cost: there are words on both sides, and running text on one at least."""
    if min(map(len, sides)) < EDGE_LINES:
        return False
    return any(np.mean(text.lettered[side]) > 0.6 for side in sides)


def _columns(text: Text, purse: _Purse, rows: list[Ints], words: tuple[Ints, Ints], deeper: int) -> _Parting | None:
    """Those of the rows that are two columns, as the numbers of the first and the one behind the last."""
    left, right = (_side(text, purse, _rows(text, side), deeper - 1) for side in words)
    pieces = _pieces(left, right)
    if not (left.running or right.running):
        return _alone(text, purse, rows, words, deeper, pieces)
    chosen = [at for at, piece in enumerate(pieces) if _is_prose(piece, left, right)]
    if not chosen or _is_table(pieces, chosen, left, right):
        return None
    first, last = _with_headings(pieces, chosen[0], chosen[-1])
    top, bottom = pieces[first].top, pieces[last].bottom
    start, end, sides = _within(text, rows, words, top, bottom)
    if not (len(sides[0]) and len(sides[1])):
        return None
    frame, kept = text.frame, np.concatenate(sides)
    gap = float(frame[sides[1], 0].min() - frame[sides[0], 2].max())
    if gap < CLEAR * float(np.median(frame[kept, 3] - frame[kept, 1])):
        return None
    plain = (left.running and not left.parted) or (right.running and not right.parted)
    return _Parting(start, end, sides, (plain, len(kept), gap))


def _within(
    text: Text, rows: list[Ints], words: tuple[Ints, Ints], top: float, bottom: float
) -> tuple[int, int, tuple[Ints, Ints]]:
    """The rows from `top` to `bottom`, as the first and the one behind the last, and the words of both sides there."""
    middles = [float((text.frame[row, 1] + text.frame[row, 3]).mean()) / 2 for row in rows]
    inside = [at for at, middle in enumerate(middles) if top <= middle <= bottom]
    start, end = (inside[0], inside[-1] + 1) if inside else (0, 0)
    kept = np.concatenate([*rows[start:end], np.empty(0, np.int64)])
    return start, end, (words[0][np.isin(words[0], kept)], words[1][np.isin(words[1], kept)])


def _alone(
    text: Text, purse: _Purse, rows: list[Ints], words: tuple[Ints, Ints], deeper: int, pieces: Sequence[_Piece]
) -> _Parting | None:
    """The same of long paragraphs beside each other between tables that leave the same gutter: what stands right over
    and under them, on one side only, parts them from those."""
    long = [
        at for at, piece in enumerate(pieces) if min(max((c.lines for c in s), default=0) for s in piece.sides) >= RUN
    ]
    if not long:
        return None
    first, last = long[0], long[-1]
    around = [pieces[at] for at in (first - 1, last + 1) if 0 <= at < len(pieces)]
    if any(piece.shared for piece in around):
        return None
    top, bottom = pieces[first].top, pieces[last].bottom
    start, end, sides = _within(text, rows, words, top, bottom)
    if not 0 < end - start < len(rows):
        return None
    found = _columns(text, purse, rows[start:end], sides, deeper)
    return replace(found, start=found.start + start, end=found.end + start) if found is not None else None


def _side(text: Text, purse: _Purse, rows: list[Ints], deeper: int) -> _Side:
    """The lines of one side of a gutter. A side may be columns itself: then these say what goes together."""
    chains, share = chains_of(text, rows)
    if share < RUNNING and (found := _parting(text, purse, rows, deeper)) is not None:
        parts = [_side(text, purse, _rows(text, side), deeper - 1) for side in found.sides]
        outside = [chain for chain in chains if chain.last < found.start or chain.first >= found.end]
        return _Side([*outside, *parts[0].chains, *parts[1].chains], any(part.running for part in parts), False, True)
    steps = [float(text.frame[b, 1].min() - text.frame[a, 1].min()) for a, b in pairwise(rows)]
    even = len(steps) > 1 and max(steps) < EVEN * float(np.median(steps))
    return _Side(chains, share >= RUNNING, even)


def _pieces(left: _Side, right: _Side) -> list[_Piece]:
    """Both sides, cut wherever nothing is cut in two on either."""
    pieces: list[_Piece] = []
    both = sorted([*((chain, 0) for chain in left.chains), *((chain, 1) for chain in right.chains)], key=_top)
    for chain, side in both:
        slack = 0.3 * (chain.bottom - chain.top) / chain.lines
        if pieces and chain.top < pieces[-1].bottom - slack:
            piece = pieces.pop()
            pieces.append(_Piece(piece.top, max(piece.bottom, chain.bottom), piece.sides))
        else:
            pieces.append(_Piece(chain.top, chain.bottom, ([], [])))
        pieces[-1].sides[side].append(chain)
    return pieces


def _top(entry: tuple[Chain, int]) -> float:
    return entry[0].top


def _is_prose(piece: _Piece, left: _Side, right: _Side) -> bool:
    """Whether what stands beside each other here cannot be a row: both sides run on, or one runs on past many ends of
    the other."""
    if not piece.shared:
        return False
    longest = [max(chain.lines for chain in chains) for chains in piece.sides]
    if left.running and right.running and max(longest) >= RUN and min(longest) >= 2:
        fewer, more = sorted(piece.lines)
        return fewer >= RUN or (more > RUN and len(piece.sides[0]) == len(piece.sides[1]) == 1)
    for side, other, at in ((left, right, 0), (right, left, 1)):
        if side.running and longest[at] >= RUN and len(piece.sides[1 - at]) >= ROWS and other.even:
            return True
    return False


def _is_table(pieces: Sequence[_Piece], chosen: Sequence[int], left: _Side, right: _Side) -> bool:
    """Whether rows that end together go on and on: cells of many lines, and no paragraphs that happen to."""
    shared = [piece for piece in pieces if piece.shared]
    headed = bool(shared) and shared[0].lines == (1, 1)
    shared = shared[headed:]
    alike = sum(min(map(len, piece.sides)) <= 1 for piece in shared)
    if len(shared) < ROWS - headed or alike < 0.75 * len(shared) or not (left.running and right.running):
        return False
    # Most of what is prose in one piece is no table with a row of it.
    largest = max(min(pieces[at].lines) for at in chosen)
    whole = sum(min(piece.lines) for piece in shared)
    return largest < 0.6 * whole and whole / len(shared) < CELL_LINES


def _with_headings(pieces: Sequence[_Piece], first: int, last: int) -> tuple[int, int]:
    """The pieces of columns with what stands over and under them in the same columns."""
    while first and not pieces[first - 1].shared:
        first -= 1
    if first <= BESIDE:
        first = 0
    while last + 1 < len(pieces) and not pieces[last + 1].shared:
        last += 1
    if len(pieces) - 1 - last <= BESIDE:
        last = len(pieces) - 1
    return first, last
