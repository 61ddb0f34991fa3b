"""Finding the pages that may answer: kinds of evidence for a page, added up, and the documents a question means.

Each arm proposes passages or pages; what they propose is judged by page: nearest passage by meaning, best passage by
words, headings and row labels that the question says, and how well the document is the one that is
meant. Every part is kept, so that a result explains itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelyard.calc.text import analyse
from modelyard.ports.index import Hit, PageHit, PageSearcher, Passage, Searcher, Where
from modelyard.ports.reranker import Reranker
from modelyard.workloads.chatbot.catalogue import Catalogue, Meant
from modelyard.workloads.chatbot.evidence import alike, name_of, original_of, said
from modelyard.workloads.chatbot.question import Question

__all__ = ["Catalogue", "Page", "Weights", "explained", "find_pages", "merge_copies", "rerank"]

Place = tuple[str, int]
_BEST = 2.2
"""What the best passage can have of a term's rarity by BM25: K1 + 1."""
_LEAST = 0.02
_NARROW = 0.1
_SPOKEN = 0.6
"""How well a page is meant by name that speaks of what is named, in a document that hardly does."""
_STRAY = 10


@dataclass(frozen=True)
class Weights:
    """What each kind of evidence counts; 0 leaves it out. docs/retrieval.md says what each was measured to be worth."""

    dense: float = 1.0
    lexical: float = 0.5
    expansion: float = 0.3
    heading: float = 0.35
    row: float = 0.35
    document: float = 0.2
    rescored: int = 40
    superseded: float = 0.5


@dataclass(frozen=True)
class Page:
    """A page that may hold the answer. score: 1 for the best. cosine: of its nearest passage to the question. why: the
    parts that make `total`, by name. also: copies of the page elsewhere."""

    document: str
    page: int
    score: float
    cosine: float
    passage: Passage
    total: float = 0.0
    why: Mapping[str, float] = field(default_factory=dict)
    meant: Mapping[str, float] = field(default_factory=dict)
    superseded_by: str | None = None
    also: tuple[Place, ...] = ()


class _Seen:
    """What the arms have seen: of each page the score by arm, and where its best passage begins."""

    def __init__(self) -> None:
        self.parts: dict[Place, dict[str, float]] = {}
        self.starts: dict[Place, tuple[float, int]] = {}
        self.floors: dict[str, float] = {}

    def add(self, arm: str, hits: Sequence[PageHit], scale: float = 1.0) -> None:
        for hit in hits:
            place = (hit.document, hit.page)
            score = hit.score * scale
            parts = self.parts.setdefault(place, {})
            parts[arm] = max(parts.get(arm, score), score)
            if score > self.starts.get(place, (-1.0, 0))[0]:
                self.starts[place] = (score, hit.start)
        # What an arm has not proposed lies below the last that it did. The first search is the deep one.
        self.floors.setdefault(arm, hits[-1].score * scale if hits else 0.0)


def find_pages(
    searcher: Searcher,
    catalogue: Catalogue,
    question: Question,
    vector: NDArray[np.float32],
    *,
    pages: int,
    depth: int,
    expansions: Sequence[str] = (),
    expanded: NDArray[np.float32] | None = None,
    weights: Weights = Weights(),
) -> list[Page]:
    """The best `pages` pages for `question`, from the best `depth` passages of each arm, best first.

    vector: of the question. expansions: other words for what it asks (a glossary's); expanded: their vector.
    """
    meant = catalogue.meant(question)
    seen = _Seen()
    near, strays = _places(meant, depth, weights)
    asked = (("dense", vector), ("expansion", expanded if weights.expansion else None))
    for arm, each in asked:
        if each is not None:
            seen.add(arm, _nearest(searcher, each, depth, near))
            seen.add(arm, _nearest(searcher, each, strays, Where()) if strays else ())
    if "lexical" in searcher.capabilities and weights.lexical:
        _by_words(searcher, catalogue, question, expansions, depth, near, seen)
    scored = []
    for place, found in seen.parts.items():
        parts = {arm: getattr(weights, arm) * found.get(arm, floor) for arm, floor in seen.floors.items()}
        parts["document"] = _document(meant, place[0], weights)
        scored.append((sum(parts.values()), place, parts))
    scored.sort(key=lambda each: (-each[0], each[1]))
    first = _rescored(catalogue, question, expansions, meant, scored[: weights.rescored], weights)
    kept = _originals(catalogue, _from_each([*first, *scored[weights.rescored :]], meant.groups, pages))
    return [_page(catalogue, meant, each, rank, seen) for rank, each in enumerate(kept)]


def merge_copies(catalogue: Catalogue, pages: Sequence[Page], most: int) -> list[Page]:
    """The first `most` different pages; what is a copy of one before is named there."""
    kept: list[Page] = []
    for page in pages:
        own = catalogue.sheets.of(page.document, page.page)
        twin = next((i for i, k in enumerate(kept) if alike(own, catalogue.sheets.of(k.document, k.page))), None)
        if twin is not None:
            kept[twin] = replace(kept[twin], also=(*kept[twin].also, (page.document, page.page)))
        elif len(kept) < most:
            kept.append(page)
    return kept


def rerank(reranker: Reranker, query: str, pages: Sequence[Page]) -> list[Page]:
    """The pages in the order of their evidence and what the reranker says together. Its scores are scaled to 0..1 over
    these pages, which is more than the evidence of one page and the next differ by."""
    scores = reranker.rerank(query, [f"{p.passage.header}\n{p.passage.text}" for p in pages])
    low, high = min(scores, default=0.0), max(scores, default=0.0)
    parts = [(score - low) / (high - low) if high > low else 0.0 for score in scores]
    added = [
        replace(page, total=page.total + part, why={**page.why, "rerank": part})
        for page, part in zip(pages, parts, strict=True)
    ]
    added.sort(key=lambda page: -page.total)
    return [replace(page, score=1 / (1 + rank / 20)) for rank, page in enumerate(added)]


def explained(page: Page) -> dict[str, Any]:
    """A page as `search` shows it: {document, page, score, text, chunk_id, why, also}. score: the sum of the parts in
    why.parts; why.document: how well the document is meant, by name, time and kind; why.superseded_by: its newest
    version, or null."""
    return {
        "document": page.document,
        "page": page.page,
        "score": round(page.total, 6),
        "text": page.passage.text,
        "chunk_id": page.passage.chunk_id,
        "why": {
            "parts": {name: round(value, 6) for name, value in page.why.items()},
            "document": {name: round(value, 4) for name, value in page.meant.items()},
            "superseded_by": page.superseded_by,
        },
        "also": [{"document": document, "page": number} for document, number in page.also],
    }


def _places(meant: Meant, depth: int, weights: Weights) -> tuple[Where, int]:
    """(where to search deeply: the documents that are meant; how deep to search everywhere, as names mislead)."""
    fits = {d: meant.of(d) for d in meant.name}
    near = frozenset(d for d, fit in fits.items() if fit >= _NARROW)
    if not weights.document or not near or 2 * len(near) > len(fits):
        return Where(), 0
    return Where(near), min(depth, _STRAY)


def _nearest(searcher: Searcher, vector: NDArray[np.float32], depth: int, where: Where) -> Sequence[PageHit]:
    if isinstance(searcher, PageSearcher):
        return searcher.dense_pages(vector, depth, where)
    return _by_page(searcher.dense(vector, depth, where))


def _by_words(
    searcher: Searcher,
    catalogue: Catalogue,
    question: Question,
    expansions: Sequence[str],
    depth: int,
    where: Where,
    seen: _Seen,
) -> None:
    own = analyse(question.text)
    more = [t for t in dict.fromkeys(analyse(" ".join(expansions))) if t not in own]
    text = " ".join((question.text, *more))
    scale = 1 / (_BEST * sum(catalogue.idf(t) for t in (*own, *more)) or 1.0)
    if isinstance(searcher, PageSearcher):
        seen.add("lexical", searcher.lexical_pages(text, depth, where), scale)
    else:
        seen.add("lexical", _by_page(searcher.lexical(text, depth, where)), scale)


def _by_page(hits: Sequence[Hit]) -> list[PageHit]:
    best: dict[Place, PageHit] = {}
    for hit in hits:
        passage = hit.passage
        found = PageHit(passage.document, passage.page, hit.score, passage.start)
        best.setdefault((passage.document, passage.page), found)
    return list(best.values())


def _subject(question: Question, expansions: Sequence[str], idf: Callable[[str], float]) -> dict[str, float]:
    """The terms of what is asked for, without the names and times that only say where to look, and their rarity."""
    where = {t.stem for t in question.terms if t.kind in ("name", "year", "quarter")}
    terms = dict.fromkeys((*analyse(question.text), *analyse(" ".join(expansions))))
    kept = [t for t in terms if t not in where] or list(terms)
    return {t: idf(t) for t in kept}


def _document(meant: Meant, document: str, weights: Weights, named: float = 0.0) -> float:
    fit = meant.of(document, named) * (weights.superseded if document in meant.newer and not meant.timed else 1.0)
    return weights.document * math.log(max(fit, _LEAST))


Scored = tuple[float, Place, dict[str, float]]


def _rescored(
    catalogue: Catalogue,
    question: Question,
    expansions: Sequence[str],
    meant: Meant,
    scored: Sequence[Scored],
    weights: Weights,
) -> list[Scored]:
    """The second stage: the first pages read for headings and row labels that the question says, and for its names."""
    if not weights.heading and not weights.row:
        return list(scored)
    asked = {t: w for t, w in _subject(question, expansions, catalogue.idf).items() if catalogue.rarity(t) < 1}
    out = []
    for total, place, parts in scored:
        facts = catalogue.sheets.of(*place)
        more = {
            "heading": weights.heading * said(facts.headings, asked, catalogue.idf),
            "row": weights.row * said(facts.labels, asked, catalogue.idf),
        }
        if meant.spoken and meant.name[place[0]] < _SPOKEN and meant.spoken <= facts.terms:
            more["document"] = _document(meant, place[0], weights, _SPOKEN)
            total -= parts["document"]
        out.append((total + sum(more.values()), place, parts | more))
    return sorted(out, key=lambda each: (-each[0], each[1]))


def _from_each(scored: Sequence[Scored], groups: Sequence[frozenset[str]], most: int) -> list[Scored]:
    """The first `most`, with the best page of each of the documents that are compared among the first few."""
    kept = list(scored)
    for number, group in enumerate(groups[:3]):
        at = next((i for i, (_, place, _) in enumerate(kept) if place[0] in group), None)
        room = 2 + number
        if at is not None and at > room:
            ahead = kept[room][0]
            total, place, parts = kept.pop(at)
            kept.insert(room, (ahead, place, parts | {"compared": ahead - total}))
    return kept[:most]


def _originals(catalogue: Catalogue, scored: Sequence[Scored]) -> list[Scored]:
    """Of a page and its copy in a file that is called a copy of the other the copy goes last, wherever they stand."""
    kept = list(scored)
    for at, (ahead, (document, page), parts) in enumerate(scored):
        name = original_of(document)
        if name is None:
            continue
        for other in range(at + 1, len(kept)):
            total, place, own = kept[other]
            if place[1] == page and name_of(place[0]) == name and _copies(catalogue, place, (document, page)):
                kept[at] = (ahead, place, own | {"original": ahead - total})
                kept[other] = (total, (document, page), parts | {"original": total - ahead})
                break
    return kept


def _copies(catalogue: Catalogue, one: Place, other: Place) -> bool:
    return alike(catalogue.sheets.of(*one), catalogue.sheets.of(*other))


def _page(catalogue: Catalogue, meant: Meant, scored: Scored, rank: int, seen: _Seen) -> Page:
    total, (document, page), parts = scored
    passages = catalogue.sheets.of(document, page).passages
    start = seen.starts.get((document, page), (0.0, 0))[1]
    passage = next((p for p in passages if p.start == start), passages[0])
    return Page(
        document,
        page,
        1 / (1 + rank / 20),
        seen.parts[document, page].get("dense", 0.0),
        passage,
        total,
        parts,
        {"name": meant.name[document], "time": meant.time[document], "kind": meant.kind[document]},
        catalogue.newest(document),
    )
