"""The times a question or a document names: years, quarters, days."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from modelyard.workloads.chatbot.reading.naming import MONTH, ORDINALS

_YEAR = re.compile(r"(?<!\d)((?:19|20)\d\d)(?=q[1-4](?!\d)|(?![a-z\d]|[.,]\d))", re.I)
_SHORT = re.compile(r"\b(?:fy|cy)\s?['\u2019]?(\d\d)\b|\b[1-4]q(\d\d)\b|\bq[1-4]['\u2019]?(\d\d)\b", re.I)
_SPAN = re.compile(r"((?:19|20)\d\d)\s*(?:-|\u2013|to|through|until)\s*(?:fy|cy|fiscal year)?\s*((?:19|20)\d\d)", re.I)
_QUARTER = re.compile(
    r"(?<![a-z])q([1-4])(?!\d)|(?<![a-z\d])([1-4])q(?=\d|\b)|\b(first|second|third|fourth|1st|2nd|3rd|4th)[\s-]+quarter\b"
    r"|\b([hH])([12])\b",
    re.I,
)
_DAY = re.compile(
    rf"\b({MONTH})\s+(\d{{1,2}}),?\s+((?:19|20)\d\d)|\b(\d{{1,2}})\.?\s+({MONTH})\s+((?:19|20)\d\d)"
    r"|(?<!\d)((?:19|20)\d\d)[-_ ](\d\d)[-_ ](\d\d)(?!\d)",
    re.I,
)
_ANY_YEAR = re.compile(r"(?:19|20)\d\d")
_BEFORE, _AFTER = 40, 12
"""Characters around a year in which the rest of its day stands."""
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")


@dataclass(frozen=True)
class Period:
    """Years, quarters (1 to 4) and days as (year, month, day)."""

    years: frozenset[int] = frozenset()
    quarters: frozenset[int] = frozenset()
    days: frozenset[tuple[int, int, int]] = frozenset()

    def fit(self, asked: Period) -> float:
        """How well a document of this period fits a question that asks for `asked`: 1 for best, never 0."""
        fit = 1.0
        if asked.years:
            newest = max(asked.years)
            if not self.years:
                fit = 0.7
            elif newest in self.years:
                fit = 1.0
            elif self.years & asked.years:
                fit = 0.7
            elif newest + 1 in self.years:
                fit = 0.6
            else:
                fit = 0.6 / (1 + min(abs(y - newest) for y in self.years))
        if asked.quarters:
            fit *= 1.0 if self.quarters & asked.quarters else 0.7 if not self.quarters else 0.5
        elif asked.years and self.quarters and 4 not in self.quarters and not asked.days:
            fit *= 0.7
        if asked.days:
            fit *= 1.0 if self.days & asked.days else 0.6
        return fit


def period_in(text: str) -> Period:
    """The times that a text names."""
    years = {int(m[1]) for m in _YEAR.finditer(text)}
    years |= {2000 + int(m[1] or m[2] or m[3]) for m in _SHORT.finditer(text)}
    for first, last in _SPAN.findall(text):
        if 0 < int(last) - int(first) <= 20:
            years.update(range(int(first), int(last) + 1))
    quarters = set()
    for m in _QUARTER.finditer(text):
        if m[5]:
            quarters.add(2 * int(m[5]))
        elif m[3]:
            quarters.add(int(ORDINALS.get(m[3].lower(), m[3][0])))
        else:
            quarters.add(int(m[1] or m[2]))
    return Period(frozenset(years), frozenset(quarters), frozenset(days_in(text)))


def periods_of(name: str, period: str) -> Period:
    """The time of a document: of its title and file name, and what reading has found."""
    said, found = period_in(name), period_in(period)
    years = said.years | found.years
    quarters = said.quarters or found.quarters
    return Period(years, quarters, said.days | found.days)


def days_in(text: str) -> set[tuple[int, int, int]]:
    """Days written with their year."""
    found = set()
    for m in _dated(text):
        if m[7]:
            day = (int(m[7]), int(m[8]), int(m[9]))
        elif m[1]:
            day = (int(m[3]), _MONTHS.index(m[1][:3].lower()) + 1, int(m[2]))
        else:
            day = (int(m[6]), _MONTHS.index(m[5][:3].lower()) + 1, int(m[4]))
        found.add(day)
    return found


def _dated(text: str) -> Iterator[re.Match[str]]:
    """Days are looked for around years only: most of a text has none, and a catalogue reads the start of every file."""
    start = stop = 0
    for year in _ANY_YEAR.finditer(text):
        if year.start() - _BEFORE > stop:
            yield from _DAY.finditer(text, start, stop)
            start = year.start() - _BEFORE
        stop = year.end() + _AFTER
    yield from _DAY.finditer(text, start, stop)
