"""How far the text of a page can be trusted to be what the page shows."""

from __future__ import annotations

import re

WORD = re.compile(r"\S+")
VOWEL = re.compile(r"[aeiouyäöüáéíóúàèìòùâêîôûåæøœãõ]", re.I)


def score(text: str) -> float:
    """0 (noise) to 1 (clean): the share of plausible characters, squared, times the share of plausible words.

    Implausible characters are private use, replacement, control and unassigned ones: fonts without a character map
    leave them. Implausible words are long runs of letters without a vowel, or of signs. An empty page scores 1.
    """
    visible = [char for char in text if not char.isspace()]
    if not visible:
        return 1.0
    bad = sum(map(_bad, visible))
    words = WORD.findall(text)
    odd = sum(_odd(word) for word in words)
    return round((1 - bad / len(visible)) ** 2 * (1 - odd / len(words)), 4)


def garbled(text: str) -> bool:
    """Whether most of the text is no characters at all."""
    visible = [char for char in text if not char.isspace()]
    return sum(map(_bad, visible)) > 0.5 * len(visible)


def _bad(char: str) -> bool:
    return not char.isprintable() or char == "\ufffd" or "\ue000" <= char <= "\uf8ff"


def _odd(word: str) -> bool:
    letters = sum(char.isalpha() for char in word)
    if len(word) > 60:
        return True
    if letters >= 5 and word.isascii():
        return not VOWEL.search(word) and not word.isupper()
    return len(word) >= 4 and letters == 0 and not any(char.isdigit() for char in word) and len(set(word)) > 2
