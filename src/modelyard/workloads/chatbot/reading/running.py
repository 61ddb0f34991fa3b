"""What is running text: lines that go on with each other because the next word did not fit."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from modelyard.workloads.chatbot.reading import script
from modelyard.workloads.chatbot.reading.marks import MARK
from modelyard.workloads.chatbot.reading.pdf import Floats, Ints

# In heights of the line's font box (about 1.2 of the font's size): what parts cells.
WIDE_GAP = 1.0
# Lines that go on with each other, from how many on they are running text; how many of them begin in lower case, where
# there is one; how many words they have on average.
ROWS = 3
LOWER = 0.5
LEAST_WORDS = 3
# How much of a line may be left empty where it was broken by the number of its characters.
FULL = 0.25
CLOSE = 1.25
STOPS = frozenset(".!?;:")


@dataclass(frozen=True, slots=True)
class Text:
    """The words of one writing direction. frame: (n, 4). lettered: whether a word is mostly letters. leftward: they
    are read from the right. spaced: blanks part them."""

    frame: Floats
    words: list[str]
    lettered: npt.NDArray[np.bool_]
    leftward: bool
    spaced: bool


def text_of(frame: Floats, words: list[str]) -> Text:
    """What `words` are, whose boxes are x0, y0, x1, y1 where the writing runs left to right and lines downwards."""
    lettered = np.array([bool(word) and (word[0].isalpha() or word[-1].isalpha()) for word in words], bool)
    letters = "".join(words)
    right = unspaced = 0
    if not letters.isascii():
        right = sum(script.RIGHT_TO_LEFT.search(word) is not None for word in words)
        unspaced = len(script.UNSPACED.findall(letters))
    return Text(frame, words, lettered, 2 * right > len(words), 3 * unspaced < len(letters))


@dataclass(frozen=True, slots=True)
class Chain:
    """Lines of one side, each of which goes on with the one above. first, last: their numbers."""

    first: int
    last: int
    top: float
    bottom: float

    @property
    def lines(self) -> int:
        return self.last - self.first + 1


def prose(text: Text, rows: list[Ints]) -> list[bool]:
    """Of each row, whether it goes on or is gone on with, as lines of running text do."""
    prose = [False] * len(rows)
    for chain in chains_of(text, rows)[0]:
        if chain.lines >= ROWS:
            prose[chain.first : chain.last + 1] = [True] * chain.lines
    return prose


def chains_of(text: Text, rows: list[Ints]) -> tuple[list[Chain], float]:
    """(the lines that go together, the share of all lines that is running text)."""
    lines = [_Measured(text, row) for row in rows]
    ends = sorted(line.end for line in lines)
    edge = ends[-2] if len(ends) > 5 else ends[-1]
    most = FULL * (edge - min(line.begin for line in lines))
    steps = sorted(below.y0 - above.y0 for above, below in pairwise(lines))
    step = steps[len(steps) // 3] if steps else 0.0
    chains: list[Chain] = []
    first = 0
    running = lower = cased = 0
    words = 0.0
    for at, line in enumerate(lines):
        if at + 1 < len(lines) and _goes_on(line, lines[at + 1], edge, most, step):
            continue
        chains.append(Chain(first, at, min(each.y0 for each in lines[first : at + 1]), line.y1))
        if at - first + 1 >= ROWS:
            within = lines[first + 1 : at + 1]
            running += at - first + 1
            words += sum(each.words for each in lines[first : at + 1])
            lower += sum(each.first.islower() for each in within)
            cased += sum(each.first.islower() or each.first.isupper() or each.first.isdigit() for each in within)
        first = at + 1
    if lower < LOWER * cased or words < LEAST_WORDS * running:
        running = 0
    return chains, running / max(1, len(lines))


class _Measured:
    """A line as its breaking is judged by. begin, end: growing in the direction it is read. width: of its
    first word."""

    __slots__ = (
        "begin",
        "end",
        "few",
        "first",
        "height",
        "marked",
        "stops",
        "stretched",
        "wide",
        "width",
        "words",
        "y0",
        "y1",
    )

    def __init__(self, text: Text, row: Ints) -> None:
        boxes = text.frame[row].tolist()
        self.y0, self.y1 = min(box[1] for box in boxes), max(box[3] for box in boxes)
        self.height = max(1.0, sorted(box[3] - box[1] for box in boxes)[len(boxes) // 2])
        opening = boxes[-1] if text.leftward else boxes[0]
        self.end = -boxes[0][0] if text.leftward else boxes[-1][2]
        self.begin = -boxes[-1][2] if text.leftward else boxes[0][0]
        self.stops = text.words[row[0] if text.leftward else row[-1]][-1:] in STOPS
        word = text.words[row[-1] if text.leftward else row[0]]
        self.first = word.lstrip("“\"'‘(")[:1]
        self.width = opening[2] - opening[0]
        if not text.spaced:
            self.width = self.height  # a line may end between any two characters
        # Three characters of a script without blanks are about a word.
        self.words = len(row) if text.spaced else sum(map(len, (text.words[at] for at in row.tolist()))) / 3
        self.marked = len(row) > 1 and MARK.fullmatch(word) is not None
        gaps = [b[0] - a[2] for a, b in pairwise(boxes)]
        widest = max(gaps, default=0.0)
        self.few = sum(text.lettered[row].tolist()) <= 0.6 * len(row)
        self.wide = widest > WIDE_GAP * self.height
        self.stretched = self.wide and widest < min(1.3 * min(gaps), 6 * self.height)

    def celled(self, edge: float) -> bool:
        """Whether there are cells on the line. What was stretched to the edge has wide gaps that are all alike."""
        return self.few or (self.wide and not (self.stretched and abs(self.end - edge) < 0.3 * self.height))


def _goes_on(above: _Measured, below: _Measured, edge: float, most: float, step: float) -> bool:
    """Whether a line was broken because the next word did not fit, or nearly so and in the middle of a sentence: some
    programs count characters and not widths."""
    if above.celled(edge) or below.celled(edge) or below.marked:
        return False
    apart = below.y0 - above.y0
    if (
        apart > 1.25 * step + 0.5
        or apart > 2.2 * above.height
        or abs(above.height - below.height) > 0.12 * above.height
    ):
        return False
    close = apart < CLOSE * above.height
    if close and below.first.islower() and not above.stops and above.end > edge - most:
        return True
    return bool(above.end + 0.2 * above.height + below.width > edge - 0.1 * above.height)
