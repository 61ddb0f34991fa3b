"""How far the text of a page can be trusted to be what the page shows."""

from __future__ import annotations

import re

# Control, replacement and private use characters: what fonts without a character map leave.
BAD = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x9f\ufffd\ue000-\uf8ff\U000f0000-\U0010fffd]")
VISIBLE = re.compile(r"\S")
# Words no language has: without a vowel and not an abbreviation, of unlike signs, or without end.
ODD = re.compile(
    r"(?<!\S)(?:(?=\S*[a-z])[b-df-hj-np-tv-xzB-DF-HJ-NP-TV-XZ]{5,}|(?!(\S)\1+(?!\S))[^\w\s]{4,}|\S{61,})(?!\S)"
)


def score(text: str) -> float:
    """0 (noise) to 1 (clean): the share of plausible characters, squared, times the share of plausible words.

    An empty page scores 1: nothing on it is wrong.
    """
    words = len(text.split())
    if not words:
        return 1.0
    return round((1 - _bad_share(text)) ** 2 * (1 - sum(1 for _ in ODD.finditer(text)) / words), 4)


def garbled(text: str) -> bool:
    """Whether so much of the text is no characters at all that the rest is worth nothing."""
    return _bad_share(text) > 0.35


def _bad_share(text: str) -> float:
    bad = len(BAD.findall(text))
    return bad / len(VISIBLE.findall(text)) if bad else 0.0
