"""The rows of a snapshot gathered by page."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from modelyard.adapters.index_segments.segment import Segment
from modelyard.calc.rank import top
from modelyard.ports.index import PageHit

Scored = tuple[NDArray[np.int64] | None, NDArray[np.float64]]
"""Of one segment: the rows looked at (None: all), each once, and the score of each."""


class Leaves:
    """Pages of the visible rows of each segment."""

    def __init__(self, shelves: Sequence[tuple[Segment, NDArray[np.int64]]]) -> None:
        self._segments = [segment for segment, _ in shelves]
        self._page_of: list[NDArray[np.int64]] = []
        for segment, visible in shelves:
            number, page = segment.document_of[visible], segment.pages[visible]
            turns = (np.diff(number, prepend=-1) != 0) | (np.diff(page, prepend=-1) != 0)
            page_of = np.full(len(segment), -1, np.int64)
            page_of[visible] = np.cumsum(turns) - 1
            self._page_of.append(page_of)

    def best(self, found: Sequence[Scored], k: int) -> list[PageHit]:
        """The `k` pages with the best rows of those looked at; of rows that score alike the first counts."""
        hits = []
        for segment, page_of, (some, scores) in zip(self._segments, self._page_of, found, strict=True):
            rows = np.arange(len(segment)) if some is None else some
            if not len(rows):
                continue
            if np.any(rows[1:] < rows[:-1]):
                order = np.argsort(rows, kind="stable")
                rows, scores = rows[order], scores[order]
            turns = np.flatnonzero(np.diff(page_of[rows], prepend=-2) != 0)
            highest = np.maximum.reduceat(scores, turns)
            stops = np.append(turns[1:], len(rows))
            for at in top(highest, k).tolist():
                row = int(rows[turns[at] + scores[turns[at] : stops[at]].argmax()])
                name = segment.documents[int(segment.document_of[row])]
                hits.append(PageHit(name, int(segment.pages[row]), float(highest[at]), int(segment.starts[row])))
        hits.sort(key=lambda hit: (-hit.score, hit.document, hit.page, hit.start))
        # A page lies in one segment, as a version of a document does; where it does not, it is still one page.
        best: dict[tuple[str, int], PageHit] = {}
        for hit in hits:
            best.setdefault((hit.document, hit.page), hit)
        return list(best.values())[: max(k, 0)]
