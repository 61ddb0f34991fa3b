"""Finding the pages that may answer: two searches fused, the corpus' own names, the newest of two versions."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from modelyard.calc.rank import fuse, spread
from modelyard.calc.text import analyse
from modelyard.ports.index import Hit, Passage, Searcher
from modelyard.workloads.chatbot.question import Question, rarity_of

_YEAR = re.compile(r"(?:19|20)\d\d")
_VERSION = re.compile(r"\b(?:v(?:ersion)?\.?\s*\d[\d.]*|rev(?:ision)?\.?\s*\d+|final|draft|new|old)\b", re.I)
_FORMER = re.compile(
    r"\b(?:former|formerly|previous|previously|old|older|earlier|superseded|prior|preceding|last year's|"
    r"before (?:that|it|this|then)\b|one before)\b",
    re.I,
)


@dataclass(frozen=True)
class Page:
    """A page that may hold the answer. score: fused, 1 for the best. cosine: of its nearest passage."""

    document: str
    page: int
    score: float
    cosine: float
    passage: Passage


@dataclass(frozen=True)
class Entry:
    """What is known of a document. family: its title without years and versions; year: the newest it names."""

    document: str
    title: str
    period: str
    family: str
    year: int
    terms: frozenset[str]


class Catalogue:
    """The documents of a snapshot by what they are called. Built once, from one passage a document."""

    def __init__(self, searcher: Searcher) -> None:
        self._searcher = searcher
        self.entries: dict[str, Entry] = {}
        for document in searcher.documents():
            passage = _first(searcher, document)
            title = passage.title if passage else document
            period = passage.period if passage else ""
            years = [int(y) for y in _YEAR.findall(f"{title} {period} {document}")]
            name = " ".join(re.findall(r"[^\W_]+", document.rsplit(".", 1)[0]))
            # Forms that every company files have one title; the file's name tells them apart.
            family = " ".join(analyse(_VERSION.sub(" ", _YEAR.sub(" ", f"{title} {name}"))))
            self.entries[document] = Entry(
                document, title, period, family, max(years, default=0), frozenset(analyse(f"{title} {period} {name}"))
            )
        self.rarity = lru_cache(maxsize=1 << 15)(self._rarity)
        self.everywhere = lru_cache(maxsize=1 << 12)(self._everywhere)

    def outdated(self, question: Question) -> frozenset[str]:
        """Documents that a newer one of the same title replaces, when the question names no year they are of."""
        families: dict[str, list[Entry]] = {}
        for entry in self.entries.values():
            if entry.family and entry.year:
                families.setdefault(entry.family, []).append(entry)
        out: set[str] = set()
        former = _FORMER.search(question.text) is not None
        for family in families.values():
            if len(family) < 2:
                continue
            chosen = (min if former else max)(e.year for e in family)
            named = {e.year for e in family if str(e.year) in question.years}
            out.update(
                e.document
                for e in family
                if (e.year != chosen and e.year not in named) or (named and e.year not in named)
            )
        return frozenset(out)

    def _rarity(self, term: str) -> float:
        return rarity_of(self._searcher.document_frequency(term), len(self._searcher))

    def _everywhere(self, term: str) -> bool:
        """A name in most documents and seldom in any: the company's own, which tells nothing apart."""
        held, most = self._searcher.document_frequency(term), 400
        if len(self.entries) <= 2 or min(held, most) < 0.5 * len(self.entries) or held > 1.8 * most:
            return False  # whatever a search would find, which is far dearer than counting
        documents = {h.passage.document for h in self._searcher.lexical(term, most)}
        return len(documents) >= 0.5 * len(self.entries) and held <= 1.8 * len(documents)


def _first(searcher: Searcher, document: str) -> Passage | None:
    for page in range(1, 12):
        passages = searcher.page(document, page)
        if passages:
            return passages[0]
    return None


def find_pages(
    searcher: Searcher, catalogue: Catalogue, question: Question, vector: NDArray[np.float32], *, pages: int, depth: int
) -> list[Page]:
    """The best `pages` pages for `question`, from the best `depth` passages of either search."""
    names = " ".join(t.text for t in question.terms if t.hard or t.focus)
    dense = list(searcher.dense(vector, depth))
    lists: list[Sequence[Hit]] = [dense]
    weights = [1.0]
    if "lexical" in searcher.capabilities:
        lists.append(searcher.lexical(question.text, depth))
        weights.append(1.0)
        if names:
            lists.append(searcher.lexical(names, depth))
            weights.append(0.5)
    cosines = {h.passage.chunk_id: h.score for h in dense}
    return _pages(lists, weights, cosines, _titles(catalogue, question), pages)


def _pages(
    lists: Sequence[Sequence[Hit]],
    weights: Sequence[float],
    cosines: Mapping[str, float],
    titled: Mapping[str, float],
    most: int,
) -> list[Page]:
    passages = {h.passage.chunk_id: h.passage for hits in lists for h in hits}
    fused = fuse([[h.passage.chunk_id for h in hits] for hits in lists], weights=weights, k=20.0)
    ranked = [(passages[c], score * (1 + titled.get(passages[c].document, 0.0))) for c, score in fused]
    ranked.sort(key=lambda pair: -pair[1])
    kept = spread(ranked, lambda pair: (pair[0].document, pair[0].page))[:most]
    top = kept[0][1] if kept else 1.0
    return [Page(p.document, p.page, score / top, cosines.get(p.chunk_id, 0.0), p) for p, score in kept]


def _titles(catalogue: Catalogue, question: Question) -> dict[str, float]:
    """How much of a document's title the question says: a small push, since words of titles are also plain words."""
    asked = {t.stem for t in question.terms}
    out = {}
    for entry in catalogue.entries.values():
        said = entry.terms & asked
        if said:
            out[entry.document] = 0.3 * len(said) / len(entry.terms)
    return out
