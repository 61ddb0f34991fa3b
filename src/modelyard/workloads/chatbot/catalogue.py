"""The documents of a snapshot by what they say of themselves, and which of them a question means.

A question means a document by a name (of its title, its file, or one that most of its passages speak of and few
others do), by a time, or by what kind of document it is. Nothing here knows a field: names, times and kinds are those
of the corpus.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

from modelyard.calc.text import analyse, fold
from modelyard.ports.index import PageSearcher, Passage, Searcher
from modelyard.workloads.chatbot.evidence import Sheets
from modelyard.workloads.chatbot.lexicon import PLACES
from modelyard.workloads.chatbot.periods import Period, days_in, period_in, periods_of
from modelyard.workloads.chatbot.question import Question, rarity_of

_YEAR = re.compile(r"(?:19|20)\d\d")
_VERSION = re.compile(r"\b(?:v(?:ersion)?\.?\s*\d[\d.]*|rev(?:ision)?\.?\s*\d+|final|draft|new|old)\b", re.I)
_FORMER = re.compile(
    r"\b(?:former|formerly|previous|previously|old|older|earlier|superseded|prior|preceding|last year's|"
    r"before (?:that|it|this|then)\b|one before)\b",
    re.I,
)
_TYPE = re.compile(
    r"\b(?:[a-z]+ )?[a-z]+ "
    r"(?:report|release|statement|letter|policy|handbook|manual|guide|agreement|contract|minutes)\b"
    r"|\b\d{1,3}-?[a-z]{1,2}\b"
)
_WORDS = re.compile(r"[^\W_]+")
_COVER = 1500
_SELDOM = 2.0
"""Passages of a document that hold a name, on average and at most, where it is seldom."""
NAMED_BY = 0.2
"""A document of which this share of passages holds a name is as good as named by it."""
HINT = 0.4
"""What a word that is not written as a name may take from the documents it does not name."""
TOLD_APART = 0.4
"""The share of a name's passages that must lie in the documents called so; twice that for a word not written as a
name, or a name of no title."""


@dataclass(frozen=True)
class Entry:
    """What is known of a document. family: its title, file name and folder without years and versions; period: of its
    title and file name; names: the terms of these; start: how it begins. What few questions ask for is found when one
    does: a release of ten thousand documents opens no later for it."""

    document: str
    title: str
    family: str
    period: Period
    names: frozenset[str]
    start: str
    passages: int

    @cached_property
    def cover(self) -> str:
        """How it begins, folded."""
        start = self.start.lower()
        return " ".join((start if start.isascii() else fold(start)).split())

    @cached_property
    def aliases(self) -> frozenset[str]:
        """What its title and file name are shortened to."""
        return frozenset(alias for text in (self.title, _stem(self.document)) for alias in _initials(text))

    @cached_property
    def dated(self) -> Period:
        """Its period, with the days that it names where it begins."""
        return replace(self.period, days=self.period.days | days_in(self.cover))

    @cached_property
    def year(self) -> int:
        """The newest year it names; 0 for none."""
        return max(self.period.years, default=0)


@dataclass(frozen=True)
class Meant:
    """How well each document fits what the question says of documents, each part in 0..1 and 1 for the best.

    name, time, kind: the parts. newer: for what a newer version replaces, that version. timed: whether a year is
    named. groups: documents of the question's several names or times, where it compares. spoken: the names that tell
    documents apart by how often they stand in them, where no document is called so.
    """

    name: Mapping[str, float]
    time: Mapping[str, float]
    kind: Mapping[str, float]
    newer: Mapping[str, str]
    timed: bool = False
    groups: tuple[frozenset[str], ...] = ()
    spoken: frozenset[str] = frozenset()

    def of(self, document: str, named: float = 0.0) -> float:
        """The parts together. named: how well a page of it is meant by name, where that is more than it is itself."""
        return max(named, self.name[document]) * self.time[document] * self.kind[document]


class Catalogue:
    """Built once a snapshot, from one page a document."""

    def __init__(self, searcher: Searcher) -> None:
        self._searcher = searcher
        self._pages = searcher if isinstance(searcher, PageSearcher) else None
        sizes = self._pages.spread() if self._pages else {}
        self.entries = {name: _entry(searcher, name, sizes.get(name, 1)) for name in searcher.documents()}
        self._families = _families(self.entries.values())
        self._newest = {
            e.document: newest.document
            for family in self._families
            for newest in [max(family, key=_age)]
            for e in family
            if e.year < newest.year
        }
        self.sheets = Sheets(searcher)
        self.idf = lru_cache(maxsize=1 << 15)(self._idf)
        self.rarity = lru_cache(maxsize=1 << 15)(self._rarity)
        self.everywhere = lru_cache(maxsize=1 << 12)(self._everywhere)
        self._affinity = lru_cache(maxsize=1 << 12)(self._find_affinity)

    def meant(self, question: Question) -> Meant:
        """Which documents a question means."""
        name, groups, spoken = self._by_name(question)
        time, apart = self._by_time(question, name)
        newer = self.superseded(question)
        timed = bool(period_in(question.text).years)
        return Meant(name, time, self._by_kind(question), newer, timed, groups or apart, spoken)

    def outdated(self, question: Question) -> frozenset[str]:
        """Documents that another version replaces for this question."""
        return frozenset(self.superseded(question))

    def superseded(self, question: Question) -> dict[str, str]:
        """{document: the version that is meant instead}: the newest of its title, unless the question names the year
        of another or asks for what was before."""
        out: dict[str, str] = {}
        former = _FORMER.search(question.text) is not None
        for family in self._families:
            chosen = (min if former else max)(family, key=_age)
            named = {e.year for e in family if str(e.year) in question.years}
            instead = next((o for o in family if o.year in named), chosen)
            for e in family:
                if (e.year != chosen.year and e.year not in named) or (named and e.year not in named):
                    out[e.document] = instead.document
        return out

    def _by_name(self, question: Question) -> tuple[dict[str, float], tuple[frozenset[str], ...], frozenset[str]]:
        """(how well each document fits the names, documents of each of several names, Meant.spoken)."""
        scores = dict.fromkeys(self.entries, 0.0)
        groups: list[frozenset[str]] = []
        found = []
        start = question.text.split(" ", 1)[0]
        for term in question.terms:
            if term.kind not in ("year", "quarter", "number"):
                capital = term.text[:1].isupper() and not start.startswith(term.text)
                written = term.kind == "name" or capital or any(c.isdigit() for c in term.text)
                found.append((term, written, *self._affinity(term.stem, written)))
        # What only stands in the text tells less than what documents are called.
        called = any(weight and named for _, _, weight, named, _ in found)
        for _, written, weight, named, near in found:
            if not weight or (called and not named):
                continue
            for document, share in near.items():
                scores[document] += weight * share
            best = frozenset(d for d, share in near.items() if share >= 0.99)
            if written and best and all(best.isdisjoint(g) for g in groups):
                groups.append(best)
        most = max(scores.values(), default=0.0)
        if not most:
            return dict.fromkeys(self.entries, 1.0), (), frozenset()
        # A plain word of a title is a weak hint; a name that tells documents apart is a strong one.
        sure = max(w * (1.0 if written else HINT) for _, written, w, named, _ in found if w and (named or not called))
        spoken = frozenset(term.stem for term, written, w, _, _ in found if w and written and not called)
        fits = {d: 1 - sure * (1 - s / most) for d, s in scores.items()}
        return fits, tuple(groups) if len(groups) > 1 else (), spoken

    def _find_affinity(self, term: str, written: bool) -> tuple[float, bool, Mapping[str, float]]:
        """(how much the term tells documents apart, whether any is called so, {document: how much it is})."""
        named = {e.document for e in self.entries.values() if term in e.names}
        spread = self._pages.spread(term) if self._pages else dict.fromkeys(named, 1)
        shares = {d: min(1.0, n / self.entries[d].passages / NAMED_BY) for d, n in spread.items()}
        if not named and written and max(shares.values(), default=0.0) < 1:
            called = {e.document for e in self.entries.values() if term in e.aliases}
            if called and (len(term) > 2 or not spread):
                return 1.0, True, dict.fromkeys(called, 1.0)
        near = {d: s for d, s in shares.items() if written and s >= 0.25 and len(term) > 2} | dict.fromkeys(named, 1.0)
        total = sum(spread.values())
        if not near or len(near) == len(self.entries) or not total:
            return 0.0, False, {}
        apart = sum(spread.get(d, 0) for d, share in near.items() if share >= 0.5) / total
        enough = TOLD_APART if named and written else 2 * TOLD_APART
        return (apart if apart >= enough else 0.0), bool(named), near

    def _by_time(
        self, question: Question, name: Mapping[str, float]
    ) -> tuple[dict[str, float], tuple[frozenset[str], ...]]:
        asked = period_in(question.text)
        scores = {d: (e.dated if asked.days else e.period).fit(asked) for d, e in self.entries.items()}
        # The nearest there is, among the documents that are meant by name.
        most = max((s for d, s in scores.items() if name[d] >= 0.5), default=0.0)
        scores = {d: min(1.0, s / most) if most else 1.0 for d, s in scores.items()}
        groups: list[frozenset[str]] = []
        for year in sorted(asked.years, reverse=True) if len(asked.years) > 1 else ():
            one = replace(asked, years=frozenset({year}))
            of_year = {
                d: (e.dated if one.days else e.period).fit(one)
                for d, e in self.entries.items()
                if name[d] >= 0.5 and year in e.period.years
            }
            best = frozenset(d for d, fit in of_year.items() if fit == max(of_year.values()))
            if best and all(best.isdisjoint(g) for g in groups):
                groups.append(best)
        return scores, tuple(groups) if len(groups) > 1 else ()

    def _by_kind(self, question: Question) -> dict[str, float]:
        asked = {m[0] for m in _TYPE.finditer(fold(question.text).lower())}
        asked |= {" ".join(kind.split()[1:]) for kind in asked if kind.count(" ") > 1}
        scores = dict.fromkeys(self.entries, 1.0)
        for kind in asked:
            having = {d for d, e in self.entries.items() if kind in e.cover or kind.replace("-", "") in e.names}
            if 0 < len(having) < len(self.entries):
                scores = {d: s if d in having else s * 0.5 for d, s in scores.items()}
        return scores

    def newest(self, document: str) -> str | None:
        """The newest version of a document, None where it is the newest itself."""
        return self._newest.get(document)

    def _idf(self, term: str) -> float:
        if "lexical" not in self._searcher.capabilities:
            return 1.0
        holding = self._searcher.document_frequency(term)
        return math.log(1 + (len(self._searcher) - holding + 0.5) / (holding + 0.5))

    def _rarity(self, term: str) -> float:
        if "lexical" not in self._searcher.capabilities:
            return 0.5
        return rarity_of(self._searcher.document_frequency(term), len(self._searcher))

    def _everywhere(self, term: str) -> bool:
        """A name in most documents and seldom in any: the company's own, which tells nothing apart. A country does."""
        place = PLACES.get(term)
        if "lexical" not in self._searcher.capabilities or (place is not None and not place.city):
            return False
        held, most = self._searcher.document_frequency(term), 400
        if len(self.entries) <= 2 or min(held, most) < 0.5 * len(self.entries) or held > _SELDOM * most:
            return False  # whatever a search would find, which is far dearer than counting
        documents = {h.passage.document for h in self._searcher.lexical(term, most)}
        return len(documents) >= 0.5 * len(self.entries) and held <= _SELDOM * len(documents)


def _families(entries: Iterable[Entry]) -> list[list[Entry]]:
    """The versions of what there are several of."""
    found: dict[str, list[Entry]] = {}
    for entry in entries:
        if entry.family and entry.year:
            found.setdefault(entry.family, []).append(entry)
    return [family for family in found.values() if len(family) > 1]


def _age(entry: Entry) -> tuple[int, str]:
    return (entry.year, entry.document)


def _entry(searcher: Searcher, document: str, passages: int) -> Entry:
    first = _first(searcher, document)
    title = first[0].title if first else document
    period = first[0].period if first else ""
    cover = "\n".join(p.text for p in first)[:_COVER]
    name = _stem(document)
    # Forms that every company files have one title; the file's name or its folder tells them apart.
    folder = _FORMER.sub(" ", " ".join(_WORDS.findall(document.rpartition("/")[0])))
    family = " ".join(analyse(_VERSION.sub(" ", _YEAR.sub(" ", f"{title} {name} {folder}"))))
    times = periods_of(f"{title} {name}", period)
    terms = frozenset(t for t in analyse(f"{title} {name}") if not _YEAR.fullmatch(t) and len(t) > 1)
    return Entry(document, title, family, times, terms, f"{title} {name} {cover}", passages)


def _stem(document: str) -> str:
    name = document.rpartition("/")[2]
    return " ".join(_WORDS.findall(name.rpartition(".")[0] or name))


def _first(searcher: Searcher, document: str) -> list[Passage]:
    for page in range(1, 12):
        passages = searcher.page(document, page)
        if passages:
            return list(passages)
    return []


def _initials(text: str) -> Iterator[str]:
    """What a name of several words is shortened to: "Johnson & Johnson" is jj, j&j, jnj and jandj."""
    words = re.findall(r"[^\W\d_]+", re.sub(r"\s+(?:&|and|und|et)\s+", " ", text, flags=re.I))[:8]
    for start in range(len(words)):
        for stop in range(start + 2, min(start + 5, len(words)) + 1):
            letters = [w[0].lower() for w in words[start:stop]]
            yield "".join(letters)
            if len(letters) == 2:
                yield from (f"{letters[0]}{sign}{letters[1]}" for sign in ("&", "n", "and"))
