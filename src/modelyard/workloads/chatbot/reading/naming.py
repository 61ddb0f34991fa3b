"""What a document is called, and the time it is about."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

JUNK = re.compile(r"\.(?:docx?|pdf|indd|xlsx?|pptx?|tex|html?)$|^microsoft |^untitled|^document\d*$", re.I)
CAPTION = re.compile(r"(?:table|figure|fig\.|tab\.|chart|tabelle|abbildung)\s+[\dA-Z]", re.I)
MONTH = (
    r"(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sep(?:t(?:ember)?)?|oct(?:ober)?"
    r"|nov(?:ember)?|dec(?:ember)?)\.?"
)
DATE = rf"(?:{MONTH}\s+\d{{1,2}},?\s+(?:19|20)\d\d|\d{{1,2}}\.?\s+{MONTH}\s+(?:19|20)\d\d)"
FISCAL = re.compile(rf"(?:fiscal\s+)?year[\s-]+ended:?\s+({DATE})", re.I)
QUARTER_ENDED = re.compile(rf"(?:quarter(?:ly\s+period)?|three\s+months)\s+ended:?\s+({DATE})", re.I)
QUARTER = re.compile(r"(?<![a-z0-9])(?:((?:19|20)\d\d)[\s_-]*q([1-4])|q([1-4])[\s_-]*((?:19|20)\d\d))(?!\d)", re.I)
ORDINAL_QUARTER = re.compile(
    r"\b(first|second|third|fourth)[\s-]+quarter\s+(?:of\s+)?(?:and\s+full[\s-]+year\s+)?(?:fiscal\s+(?:year\s+)?)?"
    r"((?:19|20)\d\d)",
    re.I,
)
FISCAL_YEAR = re.compile(r"\b(?:fiscal\s+(?:year\s+)?|fy[\s_-]?)((?:19|20)\d\d)(?!\d)", re.I)
DATED = re.compile(
    r"(?:effective|valid|in\s+force|applies|version|revision|revised|updated|changed|issued|dated|date|as\s+of|from)\b[^\n]{0,40}?"
    rf"({DATE}|{MONTH}\s+(?:19|20)\d\d|\b(?:19|20)\d\d\b)",
    re.I,
)
YEAR = re.compile(r"(?<!\d)((?:19|20)\d\d)(?!\d)")
ORDINALS = {"first": "1", "second": "2", "third": "3", "fourth": "4"}


def name_words(document: str) -> str:
    """The file's name as words: `Travel_Policy-2025.pdf` is "Travel Policy 2025"."""
    stem = PurePosixPath(document).stem
    return " ".join(re.split(r"[\s_\-–—.+]+", stem)).strip() or document


def speaks(title: str) -> bool:
    """Whether a title from a file's metadata was meant for readers."""
    title = title.strip()
    return len(title) >= 4 and " " in title and not JUNK.search(title)


def period_of(document: str, title: str, opening: str) -> str:
    """The time a document is about, "" where it does not tell: from its first page's own words, title, then file name.

    opening: the text of the first page or two.
    """
    name = PurePosixPath(document).stem
    for text in (title, opening[:6000]):
        if ended := QUARTER_ENDED.search(text):
            return f"quarter ended {' '.join(ended.group(1).split())}"
        if ended := FISCAL.search(text):
            return f"fiscal year {_fiscal_year(ended.group(1))}"
    for text in (title, name):
        if quarter := QUARTER.search(text):
            year, number = (
                (quarter.group(1), quarter.group(2)) if quarter.group(1) else (quarter.group(4), quarter.group(3))
            )
            return f"Q{number} {year}"
        if quarter := ORDINAL_QUARTER.search(text):
            return f"Q{ORDINALS[quarter.group(1).lower()]} {quarter.group(2)}"
        if fiscal := FISCAL_YEAR.search(text):
            return f"fiscal year {fiscal.group(1)}"
        if years := YEAR.findall(text):
            return str(years[-1])
    if dated := DATED.search(opening[:1500]):
        return _year(dated.group(1))
    return ""


def _fiscal_year(date: str) -> int:
    """The year a fiscal year is named after: one of 52 weeks may end in the first days of January."""
    year = int(_year(date))
    early = re.match(r"jan\D*\s0?[1-7]\b|0?[1-7]\.?\s+jan", date, re.I)
    return year - 1 if early else year


def _year(text: str) -> str:
    found = YEAR.search(text)
    return found.group(1) if found else ""
