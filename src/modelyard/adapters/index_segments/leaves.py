"""The rows of a snapshot gathered by page, so that BM25 can weigh a page by all that stands on it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from modelyard.adapters.index_segments.segment import Segment
from modelyard.calc import bm25
from modelyard.calc.rank import top
from modelyard.ports.index import PageHit


Scored = tuple[NDArray[np.int64] | None, NDArray[np.float64]]
"""Of one segment: the rows looked at, ascending (None: all), and the score of each."""


class Leaves:
    """Pages of the visible rows of each segment. A page lies in one segment, as a version of a document does."""

    def __init__(self, shelves: Sequence[tuple[Segment, NDArray[np.int64]]]) -> None:
        self._segments = [segment for segment, _ in shelves]
        self._page_of: list[NDArray[np.int64]] = []
        self._first: list[NDArray[np.int64]] = []
        lengths: list[NDArray[np.int64]] = []
        for segment, visible in shelves:
            number, page = segment.document_of[visible], segment.pages[visible]
            turns = (np.diff(number, prepend=-1) != 0) | (np.diff(page, prepend=-1) != 0)
            page_of = np.full(len(segment), -1, np.int64)
            page_of[visible] = np.cumsum(turns) - 1
            self._page_of.append(page_of)
            self._first.append(visible[turns])
            pages = int(turns.sum())
            weights = segment.postings.lengths[visible].astype(np.float64)
            lengths.append(np.bincount(page_of[visible], weights, minlength=pages).astype(np.int64))
        self._size = sum(map(len, lengths))
        total = sum(int(some.sum()) for some in lengths)
        self._damping = [bm25.damping(some.astype(np.uint32), self._size, total) for some in lengths]

    def best(self, found: Sequence[Scored], k: int) -> list[PageHit]:
        """The `k` pages with the best rows; a score of minus infinity is none."""
        hits = []
        for segment, page_of, (rows, scores) in zip(self._segments, self._page_of, found, strict=True):
            pages = page_of if rows is None else page_of[rows]
            turns = np.flatnonzero(np.diff(pages, prepend=-1) != 0)
            if not len(turns):
                continue
            highest = np.maximum.reduceat(scores, turns)
            stops = np.append(turns[1:], len(pages))
            for at in top(highest, k).tolist():
                place = int(turns[at]) + int(scores[turns[at] : stops[at]].argmax())
                hits.append(self._hit(segment, place if rows is None else int(rows[place]), float(highest[at]), True))
        return _first(hits, k)

    def whole(
        self, asked: Sequence[tuple[str, int]], allowed: Sequence[NDArray[np.int64] | None], k: int
    ) -> list[PageHit]:
        """The `k` best pages by all that stands on them. asked: (term, how often); allowed: by segment the rows whose
        pages may be found, None for all."""
        held = [self._held(term) for term, _ in asked]
        weights = [
            bm25.weight(self._size, sum(len(pages) for pages, _ in lists), times)
            for lists, (_, times) in zip(held, asked, strict=True)
        ]
        hits = []
        for s, segment in enumerate(self._segments):
            scores = np.zeros(len(self._first[s]))
            for lists, weight in zip(held, weights, strict=True):
                pages, counts = lists[s]
                scores[pages] += weight * bm25.gain(counts, self._damping[s][pages])
            rows = allowed[s]
            if rows is not None:
                may = np.zeros(len(scores), np.bool_)
                may[self._page_of[s][rows]] = True
                scores[~may] = 0.0
            some = np.flatnonzero(scores)
            for at in some[top(scores[some], k)].tolist():
                hits.append(self._hit(segment, int(self._first[s][at]), float(scores[at]), False))
        return _first(hits, k)

    def _hit(self, segment: Segment, row: int, score: float, passage: bool) -> PageHit:
        name = segment.documents[int(segment.document_of[row])]
        start = segment.rows.column("start")[row].as_py() if passage else -1
        return PageHit(name, int(segment.pages[row]), score, start)

    def _held(self, term: str) -> list[tuple[NDArray[np.int64], NDArray[np.uint16]]]:
        """By segment: the pages that hold `term`, and how often each does."""
        lists = []
        for segment, page_of in zip(self._segments, self._page_of, strict=True):
            rows, counts = segment.postings.find(term)
            pages = page_of[rows]
            seen = pages >= 0
            kept, start = np.unique(pages[seen], return_index=True)
            sums = np.add.reduceat(counts[seen].astype(np.int64), start) if len(kept) else np.empty(0, np.int64)
            lists.append((kept, np.minimum(sums, 0xFFFF).astype(np.uint16)))
        return lists


def _first(hits: list[PageHit], k: int) -> list[PageHit]:
    return sorted(hits, key=lambda hit: (-hit.score, hit.document, hit.page))[: max(k, 0)]
