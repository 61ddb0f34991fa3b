"""How far the text of a page can be trusted to be what the page shows."""

from __future__ import annotations

import re

WORD = re.compile(r"\S+")
VOWEL = re.compile(r"[aeiouyäöüáéíóúàèìòùâêîôûåæøœãõ]", re.I)


def score(text: str) -> float:
    """0 (noise) to 1 (clean): the share of plausible characters times the share of plausible words.

    Implausible characters are private use, replacement, control and unassigned ones: fonts without a character map leave
    them. Implausible words are long runs of letters without a vowel, or of signs. An empty page scores 1: nothing is wrong.
    """
    visible = [char for char in text if not char.isspace()]
    if not visible:
        return 1.0
    bad = sum(not char.isprintable() or char == "\ufffd" or "\ue000" <= char <= "\uf8ff" for char in visible)
    words = WORD.findall(text)
    odd = sum(_odd(word) for word in words)
    return round((1 - bad / len(visible)) ** 2 * (1 - odd / len(words)), 4)


def _odd(word: str) -> bool:
    letters = sum(char.isalpha() for char in word)
    if len(word) > 60:
        return True
    if letters >= 5 and word.isascii():
        return not VOWEL.search(word) and not word.isupper()
    return len(word) >= 4 and letters == 0 and not any(char.isdigit() for char in word) and len(set(word)) > 2
