"""What counts as a value in a table."""

from __future__ import annotations

NOTHING = frozenset(("-", "–", "—", "$—", "$-", "$–", "—%", "–%", "n/a", "N/A"))
DIGITS_AND_MARKS = frozenset("0123456789.,/x:’'")


def is_number(text: str) -> bool:
    """Whether a word is a value as tables hold them: digits with signs around, or a dash for nothing."""
    if text in NOTHING:
        return True
    core = text.strip("$€£¥()%+-–—−*†‡⁰¹²³⁴⁵⁶⁷⁸⁹")
    return bool(core) and core[0].isdigit() and DIGITS_AND_MARKS.issuperset(core)
