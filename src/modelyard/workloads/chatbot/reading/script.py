"""Scripts that are not written as Latin is: from right to left, or without blanks between words."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

# Letters drawn in another shape than they are searched by: ligatures, Hebrew and Arabic letters by their place in the
# word, radicals and compatibility characters that fonts give for common Chinese ones.
SHAPED = re.compile("[\ufb00-\ufb06\ufb13-\ufb17\ufb1d-\ufdfd\ufe70-\ufefc\u2e9f\u2ef3\u2f00-\u2fd5\uf900-\ufaff]")
RIGHT_TO_LEFT = re.compile("[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc\U00010800-\U00010fff\U0001e800-\U0001efff]")
LETTER = re.compile(r"[^\W\d_]")
# Han, kana and their punctuation; Korean parts its words by blanks.
UNSPACED = re.compile(
    "[\u2e80-\u30ff\u31c0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff01-\uff60\U00020000-\U0003ffff]"
)


def plain(text: str) -> str:
    """The text in the letters it is searched by: "\ufb01le" is "file"."""
    return SHAPED.sub(lambda found: unicodedata.normalize("NFKC", found[0]), text)


def unspaced(char: str) -> bool:
    """Whether a character belongs to a script that puts no blanks between words."""
    return UNSPACED.match(char) is not None


def read_from_right(words: Sequence[str]) -> list[list[int]]:
    """Words that stand side by side, left to right, as runs in the order they are read; empty where it is that order.

    A line is read from the right where most of its letters are written so; what is Latin in it keeps its own order (a
    short form of Unicode's bidirectional algorithm, UAX 9).
    """
    right = [RIGHT_TO_LEFT.search(word) is not None for word in words]
    if not any(right):
        return []
    letters = [len(LETTER.findall(word)) for word in words]
    if 2 * sum(n for n, here in zip(letters, right, strict=True) if here) < sum(letters):
        return []
    runs: list[list[int]] = []
    at = len(words) - 1
    while at >= 0:
        first = last = at
        while at >= 0 and not right[at]:
            # Numbers after a Latin word go with it; without one, each is read by itself.
            first = at if letters[at] else first
            at -= 1
        if first < last and not letters[first]:
            first = last
        runs.append(list(range(first, last + 1)))
        at = first - 1
    return runs


def gaps_read(runs: Sequence[Sequence[int]], gaps: Sequence[float]) -> list[float]:
    """The gap before each word as read. gaps: before each word as it stands, from the left."""
    read: list[float] = []
    edge = 0.0
    for run in runs:
        # The blank between two runs stands at the left end of the one that is read first.
        read += [edge, *(gaps[at] for at in run[1:])]
        edge = gaps[run[0]]
    return read
