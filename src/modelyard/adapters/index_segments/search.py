"""One snapshot, opened for reading: exact cosine over packed vectors, BM25 over postings."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from modelyard.adapters.index_segments import lexical, vectors
from modelyard.adapters.index_segments import snapshot as snapshots
from modelyard.adapters.index_segments.leaves import Leaves, Scored
from modelyard.adapters.index_segments.lexical import Term
from modelyard.adapters.index_segments.segment import Segment
from modelyard.calc import bm25
from modelyard.calc.rank import top
from modelyard.calc.text import ANALYSER, analyse
from modelyard.errors import Damaged, NotFound, RequestError
from modelyard.ports.index import Hit, PageHit, Passage, Where

CAPABILITIES = frozenset({"dense", "lexical", "pages"})
EXPORTED = "index"
EXACT_UP_TO = 250_000
"""Above this many rows that a search may find, only the twentieth nearest by sign is compared in full."""
MOST_TERMS = 128
"""A question's distinct terms beyond these, in the order in which it says them, are left out of a lexical search."""
ROWS_A_PAGE = 2
"""Passages that a list of the best pages by words is made from, for each page asked for."""
_SHARE, _DEPTH = 20, 100  # of all rows, and at least so many times k


class Shelf:
    """A segment as one snapshot sees it. `shown`: its rows that show, None for all; `first`: the snapshot's number of
    its first row."""

    def __init__(self, segment: Segment, shown: NDArray[np.bool_], first: int) -> None:
        self.segment = segment
        self.shown = None if shown.all() else shown
        self.first = first

    @cached_property
    def visible(self) -> NDArray[np.int64]:
        """Rows shown, ascending."""
        return np.arange(len(self.segment)) if self.shown is None else np.flatnonzero(self.shown)

    def rows(self, where: Where) -> NDArray[np.int64] | None:
        """The rows a search may find, ascending; None means every row of the segment."""
        if where.documents is None:
            return None if self.shown is None else self.visible
        if len(where.documents) * 8 > len(self.segment.documents):
            return np.flatnonzero(self.among(where.documents))
        pieces = [np.arange(*self.bounds(name), dtype=np.int64) for name in sorted(where.documents)]
        rows = np.concatenate([np.empty(0, np.int64), *pieces])
        return rows if self.shown is None else rows[self.shown[rows]]

    def among(self, documents: frozenset[str]) -> NDArray[np.bool_]:
        """Which of the segment's rows [n] show, and are of `documents`."""
        names = self.segment.documents
        allowed = np.fromiter((name in documents for name in names), np.bool_, len(names))
        rows: NDArray[np.bool_] = allowed[self.segment.document_of]
        return rows if self.shown is None else rows & self.shown

    def bounds(self, document: str) -> tuple[int, int]:
        """First and last-but-one row of a document: its rows lie together."""
        names = self.segment.documents
        at = bisect_left(names, document)
        if at == len(names) or names[at] != document:
            return (0, 0)
        return (int(self.segment.firsts[at]), int(self.segment.firsts[at + 1]))

    @cached_property
    def hidden(self) -> NDArray[np.uint32]:
        """Rows that do not show, ascending."""
        return np.empty(0, np.uint32) if self.shown is None else np.flatnonzero(~self.shown).astype(np.uint32)

    def showing(self, rows: NDArray[np.uint32]) -> int:
        """How many of these rows, which are ascending, show."""
        if self.shown is None or not len(rows):
            return len(rows)
        if len(self.hidden) * 16 > len(rows):
            return int(np.count_nonzero(self.shown[rows]))
        at = np.minimum(np.searchsorted(rows, self.hidden), len(rows) - 1)
        return len(rows) - int(np.count_nonzero(rows[at] == self.hidden))


class SegmentSearcher:
    """See ports.index.Searcher. Scores do not depend on how the snapshot is cut into segments."""

    capabilities = CAPABILITIES

    def __init__(
        self, snapshot: str, segments: Sequence[tuple[Segment, NDArray[np.bool_]]], exact_up_to: int = EXACT_UP_TO
    ) -> None:
        """Raises NotFound when a segment was indexed by other rules of analysis than this version's."""
        self.snapshot = snapshot
        self._exact_up_to = exact_up_to
        self._shelves: list[Shelf] = []
        self._size = self._terms = first = 0
        for segment, shown in segments:
            if segment.analyser != ANALYSER:
                raise NotFound(
                    f"snapshot {snapshot} was indexed by the rules {segment.analyser!r}, "
                    f"this version asks by {ANALYSER!r}: build it again"
                )
            self._shelves.append(Shelf(segment, shown, first))
            self._size += int(shown.sum())
            self._terms += int(segment.postings.lengths[shown].sum(dtype=np.int64))
            first += len(segment)
        self._dimension = self._shelves[0].segment.dimension if self._shelves else None
        self._damping = [bm25.damping(s.segment.postings.lengths, self._size, self._terms) for s in self._shelves]

    def __len__(self) -> int:
        return self._size

    def dense(self, vector: NDArray[np.float32], k: int, where: Where = Where()) -> Sequence[Hit]:
        """See the port. Cosine of the packed vectors, within about 0.002 of that of the unpacked ones.

        Every row is compared up to `exact_up_to` rows that may be found; beyond, those that share most signs with the
        question. Which they are depends on the rows that show and the filter alone, never on how they came about."""
        chosen = []
        for rows, scores in self._cosines(vector, k, where):
            best = top(scores, k)
            chosen.append((best if rows is None else rows[best], scores[best]))
        return self._best(chosen, k)

    def dense_pages(self, vector: NDArray[np.float32], k: int, where: Where = Where()) -> Sequence[PageHit]:
        """See the port."""
        return self._leaves.best(self._cosines(vector, k, where), k)

    def _cosines(self, vector: NDArray[np.float32], k: int, where: Where) -> list[Scored]:
        if vector.ndim != 1 or (self._dimension is not None and len(vector) != self._dimension):
            raise RequestError(f"the question's vector has the shape {vector.shape}, the index has [{self._dimension}]")
        if not np.isfinite(vector).all():
            raise RequestError("the question's vector has values that are not numbers")
        asked, inverse = vectors.pack_question(vector)
        found = []
        for shelf, rows in zip(self._shelves, self._compared(asked, k, where), strict=True):
            scores = vectors.similarities(shelf.segment.packed, shelf.segment.inverse, asked, rows)
            found.append((rows, scores.astype(np.float64) * inverse))
        return found

    def _compared(self, asked: NDArray[np.float32], k: int, where: Where) -> list[NDArray[np.int64] | None]:
        """The rows of each segment that a question is compared with in full; None means every row.

        How far a row's signs may be from the question's is decided over all segments at once, ties included, so that
        the same rows are compared however they are cut into segments.
        """
        chosen = [shelf.rows(where) for shelf in self._shelves]
        counts = [len(s.segment) if rows is None else len(rows) for s, rows in zip(self._shelves, chosen, strict=True)]
        wanted = max(sum(counts) // _SHARE, _DEPTH * k)
        if sum(counts) <= self._exact_up_to or wanted >= sum(counts):
            return chosen
        far = [vectors.distances(shelf.segment.signs, asked) for shelf in self._shelves]
        far = [all_of if rows is None else all_of[rows] for all_of, rows in zip(far, chosen, strict=True)]
        reached = np.cumsum(sum(np.bincount(some, minlength=len(asked) + 1) for some in far))
        limit = int(np.searchsorted(reached, wanted))
        near = [np.flatnonzero(some <= limit) for some in far]
        return [at if rows is None else rows[at] for at, rows in zip(near, chosen, strict=True)]

    def lexical(self, text: str, k: int, where: Where = Where()) -> Sequence[Hit]:
        """See the port and calc.bm25. Filters choose what is found, never the statistics. Of a text of more than
        MOST_TERMS distinct terms the first count."""
        return self._best(self._matches(text, k, where), k)

    def lexical_pages(self, text: str, k: int, where: Where = Where()) -> Sequence[PageHit]:
        """See the port. Of the best ROWS_A_PAGE * k passages."""
        return self._leaves.best(self._matches(text, ROWS_A_PAGE * k, where), k)

    def _matches(self, text: str, k: int, where: Where) -> list[tuple[NDArray[np.int64], NDArray[np.float64]]]:
        """At least the `k` best rows of all segments, best first in each, and their scores."""
        asked = sorted(islice(Counter(analyse(text)).items(), MOST_TERMS))
        held = [[shelf.segment.postings.find(term) for shelf in self._shelves] for term, _ in asked]
        weights = [
            bm25.weight(self._size, self._showing([rows for rows, _ in lists]), times)
            for lists, (_, times) in zip(held, asked, strict=True)
        ]
        found, bar = [], 0.0
        for s, shelf in enumerate(self._shelves):
            terms = [Term(*lists[s], weight) for lists, weight in zip(held, weights, strict=True)]
            found.append(lexical.best(terms, self._damping[s], shelf.rows(where), k, bar))
            every = np.concatenate([scores for _, scores in found])
            bar = float(np.partition(every, len(every) - k)[len(every) - k]) if 0 < k <= len(every) else 0.0
        return found

    def page(self, document: str, page: int) -> Sequence[Passage]:
        """See the port."""
        found = []
        for shelf in self._shelves:
            start, stop = shelf.bounds(document)
            for row in (start + np.flatnonzero(shelf.segment.pages[start:stop] == page)).tolist():
                if shelf.shown is None or shelf.shown[row]:
                    found.append(shelf.segment.passage(row))
        return sorted(found, key=_order)

    def documents(self) -> Mapping[str, int]:
        """See the port."""
        pages: dict[str, set[int]] = {}
        for shelf in self._shelves:
            number, page = shelf.segment.document_of[shelf.visible], shelf.segment.pages[shelf.visible]
            turns = np.flatnonzero((np.diff(number, prepend=-1) != 0) | (np.diff(page, prepend=-1) != 0))
            for n, p in zip(number[turns].tolist(), page[turns].tolist(), strict=True):
                pages.setdefault(shelf.segment.documents[n], set()).add(p)
        return {name: len(pages[name]) for name in sorted(pages)}

    def restricted(self, documents: frozenset[str]) -> SegmentSearcher:
        """See the port."""
        shown = [(s.segment, s.among(documents)) for s in self._shelves]
        return SegmentSearcher(self.snapshot, shown, self._exact_up_to)

    def document_frequency(self, term: str) -> int:
        """See the port."""
        return self._showing([shelf.segment.postings.find(term)[0] for shelf in self._shelves])

    @cached_property
    def _leaves(self) -> Leaves:
        return Leaves([(shelf.segment, shelf.visible) for shelf in self._shelves])

    def spread(self, term: str | None = None) -> Mapping[str, int]:
        """See the port."""
        counts: Counter[str] = Counter()
        for shelf in self._shelves:
            rows = shelf.visible if term is None else shelf.segment.postings.find(term)[0]
            if term is not None and shelf.shown is not None:
                rows = rows[shelf.shown[rows]]
            held = np.bincount(shelf.segment.document_of[rows], minlength=len(shelf.segment.documents))
            counts.update({shelf.segment.documents[d]: int(held[d]) for d in np.flatnonzero(held).tolist()})
        return dict(counts)

    def _showing(self, rows: Sequence[NDArray[np.uint32]]) -> int:
        return sum(shelf.showing(some) for shelf, some in zip(self._shelves, rows, strict=True))

    def _best(self, found: Sequence[tuple[NDArray[np.int64], NDArray[np.float64]]], k: int) -> list[Hit]:
        """The best of the best of each segment. The rows of a segment are in order, so `k` of each are enough."""
        every = np.concatenate([np.empty(0), *(scores for _, scores in found)])
        bar = np.partition(every, len(every) - k)[len(every) - k] if 0 < k < len(every) else -np.inf
        hits = [
            Hit(shelf.segment.passage(row), score, shelf.first + row)
            for shelf, (rows, scores) in zip(self._shelves, found, strict=True)
            for row, score in zip(rows.tolist(), scores.tolist(), strict=True)
            if score >= bar
        ]
        return sorted(hits, key=lambda hit: (-hit.score, _order(hit.passage)))[: max(k, 0)]


def _order(passage: Passage) -> tuple[str, int, int, str]:
    return (passage.document, passage.page, passage.start, passage.chunk_id)


def open_snapshot(
    folder: Path, segments: Path, *, verify: bool = False, exact_up_to: int = EXACT_UP_TO
) -> SegmentSearcher:
    """Open the snapshot in `folder`, whose segments lie in `segments`.

    Raises FileNotFoundError when there is none, Damaged, and NotFound when another version wrote it.
    """
    snapshot = snapshots.read(folder)
    opened = []
    for digest, shown in snapshot.shown:
        segment = Segment(segments / digest, verify=verify)
        if len(segment) != len(shown):
            raise Damaged(f"{folder}: does not fit the segment {digest}")
        opened.append((segment, shown))
    return SegmentSearcher(snapshot.name, opened, exact_up_to)


def open_exported(folder: Path, *, exact_up_to: int = EXACT_UP_TO) -> SegmentSearcher:
    """Open what `SegmentIndex.export` put under `folder`. Digests are for the caller to check; sizes are checked.

    Up to `exact_up_to` rows every vector is compared, see `SegmentSearcher.dense`.

    Raises NotFound when there is no index, or another version wrote it; Damaged.
    """
    try:
        return open_snapshot(folder / EXPORTED, folder / EXPORTED / "segments", exact_up_to=exact_up_to)
    except FileNotFoundError as error:
        raise NotFound(f"{folder}: holds no exported index") from error
