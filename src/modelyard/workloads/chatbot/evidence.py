"""What a page says in the places where pages say what they are about: headings and the labels of table rows."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from threading import Lock

from modelyard.calc.text import analyse
from modelyard.ports.index import Passage, Searcher

_KEPT = 4096
_DIGIT = re.compile(r"\d")
_COPY = re.compile(
    r"(?i)^(?:copy|kopie|copie|copia) (?:of|von|de|di) |"
    r"(?:[\s_-]+(?:copy|kopie|copie|copia))?[\s_-]*\(\d{1,3}\)$|[\s_-]+(?:copy|kopie|copie|copia)(?:[\s_-]*\d{1,3})?$"
)
"""What programs write into the name of a file that is a copy of another."""
_CODE = re.compile(r"[A-Z]{0,4}[ -]?\d{1,5}[a-z]?\.?")
_LABEL = 12
"""Words in the longest label of a row that is read."""

Terms = frozenset[str]


@dataclass(frozen=True)
class Facts:
    """A page, reduced to sets of terms."""

    headings: frozenset[Terms]
    labels: frozenset[Terms]
    passages: tuple[Passage, ...]

    @cached_property
    def words(self) -> Terms:
        """All it says, as it says it: enough to tell copies from other pages."""
        return frozenset("\n".join(p.text for p in self.passages).lower().split())

    @cached_property
    def terms(self) -> Terms:
        """The same as the index has it."""
        return frozenset(term for p in self.passages for term in analyse(p.text))

    @cached_property
    def numbers(self) -> Terms:
        """Words with digits."""
        return frozenset(w for w in self.words if _DIGIT.search(w))


class Sheets:
    """Facts of pages, read when first asked for and kept a while. Safe to call from several threads."""

    def __init__(self, searcher: Searcher) -> None:
        self._searcher = searcher
        self._kept: OrderedDict[tuple[str, int], Facts] = OrderedDict()
        self._lock = Lock()

    def of(self, document: str, page: int) -> Facts:
        """The facts of one page; empty sets for a page that is not there."""
        key = (document, page)
        with self._lock:
            if (kept := self._kept.get(key)) is not None:
                self._kept.move_to_end(key)
                return kept
        made = facts(self._searcher.page(document, page))
        with self._lock:
            self._kept[key] = made
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return made


def facts(passages: Iterable[Passage]) -> Facts:
    """The facts of a page's passages."""
    some = tuple(passages)
    labels: set[Terms] = set()
    said_above = {p.section.rpartition(" > ")[2] for p in some}
    headings = {frozenset(analyse(heading)) for heading in said_above}
    for passage in some:
        for line in passage.text.split("\n"):
            label, tab, cells = line.partition("\t")
            if tab and _CODE.fullmatch(label.strip()):
                label, tab, cells = cells.partition("\t")  # a row by its number: what comes next names it
            if tab and _DIGIT.search(cells) and label.count(" ") < _LABEL:
                labels.add(frozenset(analyse(label)))
    empty: Terms = frozenset()
    return Facts(frozenset(headings - {empty}), frozenset(labels - {empty}), some)


def said(phrases: Iterable[Terms], asked: Mapping[str, float], rarity: Callable[[str], float]) -> float:
    """How much of the question the best of these phrases is, 0 to 1: the share of the phrase that the question says,
    times the share of the question that this is. asked: the question's terms and what each weighs; rarity: what a term
    weighs in a phrase."""
    total = sum(asked.values())
    best = 0.0
    for phrase in phrases:
        common = sum(asked[t] for t in phrase if t in asked)
        if common:
            best = max(best, common * common / sum(asked.get(t) or rarity(t) for t in phrase))
    return best / total if total else 0.0


def original_of(document: str) -> str | None:
    """What a file is called (see `name_of`) that `document` is a copy of by its own name; None where it is none.

    >>> [original_of(name) for name in ("hr/Plan (1).pdf", "plan - Copy (2).docx", "Copy of plan.md", "plan.pdf")]
    ['plan', 'plan', 'plan', None]
    """
    name = name_of(document)
    plain = _COPY.sub("", name).strip()
    return plain if plain and plain != name else None


def name_of(document: str) -> str:
    """What a file is called, without folder and ending, in lower case."""
    file = document.rpartition("/")[2]
    return (file.rpartition(".")[0] or file).lower()


def alike(one: Facts, other: Facts) -> bool:
    """Whether two pages are copies: the same numbers, and nine of ten words in common."""
    if one.numbers != other.numbers or not one.words or not other.words:
        return False
    return len(one.words & other.words) >= 0.9 * len(one.words | other.words)
