"""Where sentences end, as offsets; and how long a text is to a tokenizer, roughly."""

from __future__ import annotations

import re

ENDING = re.compile(r"[.!?…][\"'”’)\]]*[ \t]+(?=[\"'“‘(\[]?[A-Z0-9À-ÞŒŠŽ•§])|\n\s*|[。！？]\s*")
ABBREVIATION = re.compile(
    r"(?:^|[\s(\"“])(?:[A-Za-z]|(?:[A-Za-z]\.)+[A-Za-z]|mr|mrs|ms|dr|prof|st|jr|sr|inc|corp|co|ltd|llc|plc|no|nos|vs|cf"
    r"|al|fig|figs|sec|art|approx|est|dept|vol|ed|eds|pp|jan|feb|mar|apr|jun|jul|aug|sep|sept|oct|nov|dec)$",
    re.I,
)
PIECE = re.compile(r"[^\W\d_]+|\d+|[^\w\s]|_")


def sentence_ends(text: str, start: int, end: int) -> list[int]:
    """Offsets in (start, end] where a sentence, or a line, ends, with the white space after it; the last is `end`."""
    ends: list[int] = []
    for found in ENDING.finditer(text, start, end):
        at = found.end()
        if text[found.start()] == "." and ABBREVIATION.search(text, max(start, found.start() - 12), found.start()):
            continue
        if ends and text[ends[-1] : at].isspace():
            ends[-1] = at
        elif at < end and at > start:
            ends.append(at)
    ends = [at for at in ends if at < end]
    ends.append(end)
    return ends


def token_count(text: str) -> int:
    """Estimated word pieces of the text: long words and numbers count for several."""
    total = 0
    for piece in PIECE.findall(text):
        length = len(piece)
        if piece[0].isdigit():
            total += (length + 1) // 2
        elif piece.isascii():
            total += 1 if length <= 9 else 1 + (length - 1) // 6
        else:
            total += max(1, length // 2) if piece[0] < "\u2e80" else length
    return total
