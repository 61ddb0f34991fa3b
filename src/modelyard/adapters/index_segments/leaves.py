"""The rows of a snapshot gathered by page, so that BM25 can weigh a page by all that stands on it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from modelyard.adapters.index_segments.segment import Segment
from modelyard.calc import bm25


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

    def score(
        self, asked: Sequence[tuple[str, int]], allowed: Sequence[NDArray[np.int64] | None]
    ) -> list[tuple[str, int, float]]:
        """(document, page, score) of every page with a score above 0. asked: (term, how often); allowed: by segment
        the rows whose pages may be found, None for all."""
        held = [self._held(term) for term, _ in asked]
        out: list[tuple[str, int, float]] = []
        weights = [
            bm25.weight(self._size, sum(len(pages) for pages, _ in lists), times)
            for lists, (_, times) in zip(held, asked, strict=True)
        ]
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
            for at in np.flatnonzero(scores).tolist():
                row = int(self._first[s][at])
                name = segment.documents[int(segment.document_of[row])]
                out.append((name, int(segment.pages[row]), float(scores[at])))
        return out

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
