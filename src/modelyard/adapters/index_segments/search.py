"""One snapshot, opened for reading: exact cosine over packed vectors, BM25 over postings."""

from __future__ import annotations

import urllib.parse
from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelyard.adapters.index_segments import disk, vectors
from modelyard.adapters.index_segments.segment import FORMAT, Segment
from modelyard.calc import bm25
from modelyard.calc.rank import top
from modelyard.calc.text import ANALYSER, analyse
from modelyard.errors import Damaged, NotFound, RequestError
from modelyard.ports.index import Hit, Passage, Where

CAPABILITIES = frozenset({"dense", "lexical"})
EXPORTED = "index"


@dataclass(frozen=True)
class _Shelf:
    """A segment, the rows of it that the snapshot shows (None: all), and the number of its first row in the snapshot."""

    segment: Segment
    shown: NDArray[np.bool_] | None
    first: int

    def rows(self, where: Where) -> NDArray[np.int64] | None:
        """The rows a search may find, ascending; None means every row of the segment."""
        if where.documents is None:
            return None if self.shown is None else self.visible
        names = self.segment.documents
        numbers = [
            at for name in where.documents if (at := bisect_left(names, name)) < len(names) and names[at] == name
        ]
        bounds = np.searchsorted(
            self.segment.document_of, np.array([[n, n + 1] for n in sorted(numbers)]).reshape(-1, 2)
        )
        rows = np.concatenate([np.empty(0, np.int64), *(np.arange(start, stop) for start, stop in bounds)])
        return rows if self.shown is None else rows[self.shown[rows]]

    @cached_property
    def visible(self) -> NDArray[np.int64]:
        """Rows shown, ascending."""
        return np.arange(len(self.segment)) if self.shown is None else np.flatnonzero(self.shown)


class SegmentSearcher:
    """See ports.index.Searcher. Scores do not depend on how the snapshot is cut into segments."""

    capabilities = CAPABILITIES

    def __init__(self, snapshot: str, shelves: Sequence[tuple[Segment, NDArray[np.bool_]]]) -> None:
        self.snapshot = snapshot
        self._shelves: list[_Shelf] = []
        self._size = self._terms = first = 0
        for segment, shown in shelves:
            if segment.analyser != ANALYSER:
                raise NotFound(
                    f"snapshot {snapshot} was indexed by the rules {segment.analyser!r}, this version asks by {ANALYSER!r}; "
                    "build it again"
                )
            self._shelves.append(_Shelf(segment, None if shown.all() else shown, first))
            self._size += int(shown.sum())
            self._terms += int(segment.postings.lengths[shown].sum(dtype=np.int64))
            first += len(segment)
        dimensions = {shelf.segment.dimension for shelf in self._shelves}
        self._dimension = dimensions.pop() if dimensions else None

    def __len__(self) -> int:
        return self._size

    def dense(self, vector: NDArray[np.float32], k: int, where: Where = Where()) -> Sequence[Hit]:
        """See the port. Cosine of the packed vectors, within about 0.001 of that of the unpacked ones."""
        if vector.ndim != 1 or (self._dimension is not None and len(vector) != self._dimension):
            raise RequestError(f"the question's vector is of shape {vector.shape}, the index holds [{self._dimension}]")
        if not np.isfinite(vector).all():
            raise RequestError("the question's vector has values that are not numbers")
        asked, inverse = vectors.pack_question(vector)
        found = []
        for shelf in self._shelves:
            rows = shelf.rows(where)
            scores = vectors.similarities(shelf.segment.packed, shelf.segment.inverse, asked, rows)
            best = top(scores, k)
            found.append((shelf, best if rows is None else rows[best], scores[best].astype(np.float64) * inverse))
        return _best(found, k)

    def lexical(self, text: str, k: int, where: Where = Where()) -> Sequence[Hit]:
        """See the port and calc.bm25. Filters choose what is found, never the statistics."""
        asked = sorted(Counter(analyse(text)).items())
        held = [[shelf.segment.postings.find(term) for shelf in self._shelves] for term, _ in asked]
        weights = [
            bm25.weight(self._size, self._showing(lists), times) for lists, (_, times) in zip(held, asked, strict=True)
        ]
        found = []
        for s, shelf in enumerate(self._shelves):
            scores = np.zeros(len(shelf.segment))
            for lists, weight in zip(held, weights, strict=True):
                rows, counts = lists[s]
                scores[rows] += weight * bm25.gain(counts, self._damping[s][rows])
            rows_open = shelf.rows(where)
            open_scores = scores if rows_open is None else scores[rows_open]
            open_scores = np.where(open_scores > 0, open_scores, -np.inf)
            best = top(open_scores, k)
            found.append((shelf, best if rows_open is None else rows_open[best], open_scores[best]))
        return _best(found, k)

    def page(self, document: str, page: int) -> Sequence[Passage]:
        """See the port."""
        where = Where(frozenset({document}))
        found = []
        for shelf in self._shelves:
            rows = shelf.rows(where)
            rows = np.arange(len(shelf.segment)) if rows is None else rows
            found += [shelf.segment.passage(int(row)) for row in rows[shelf.segment.pages[rows] == page]]
        return sorted(found, key=_order)

    def documents(self) -> Mapping[str, int]:
        """See the port."""
        pages: dict[str, set[int]] = {}
        for shelf in self._shelves:
            rows = shelf.visible
            if not len(rows):
                continue
            pairs = np.unique(np.stack([shelf.segment.document_of[rows], shelf.segment.pages[rows]]), axis=1)
            for number, page in pairs.T.tolist():
                pages.setdefault(shelf.segment.documents[number], set()).add(page)
        return {name: len(pages[name]) for name in sorted(pages)}

    def document_frequency(self, term: str) -> int:
        """See the port."""
        return self._showing([shelf.segment.postings.find(term) for shelf in self._shelves])

    def _showing(self, lists: Sequence[tuple[NDArray[np.uint32], NDArray[np.uint16]]]) -> int:
        return sum(
            len(rows) if shelf.shown is None else int(shelf.shown[rows].sum())
            for shelf, (rows, _) in zip(self._shelves, lists, strict=True)
        )

    @cached_property
    def _damping(self) -> list[NDArray[np.float64]]:
        return [bm25.damping(shelf.segment.postings.lengths, self._size, self._terms) for shelf in self._shelves]


def _order(passage: Passage) -> tuple[str, int, int, str]:
    return (passage.document, passage.page, passage.start, passage.chunk_id)


def _best(found: Sequence[tuple[_Shelf, NDArray[np.int64], NDArray[np.float64]]], k: int) -> list[Hit]:
    """The best of the best of each segment. Rows of a segment are in order, so k of each are enough."""
    hits = [
        Hit(shelf.segment.passage(row), score, shelf.first + row)
        for shelf, rows, scores in found
        for row, score in zip(rows.tolist(), scores.tolist(), strict=True)
    ]
    return sorted(hits, key=lambda hit: (-hit.score, _order(hit.passage)))[: max(k, 0)]


def snapshot_folder(snapshot: str) -> str:
    """The folder name of a snapshot: any text, as a name that every file system takes and keeps apart.

    Raises RequestError when it is empty or too long.
    """
    plain = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-_")
    name = "".join(c if c in plain else "".join(f"%{b:02x}" for b in c.encode("utf-8", "replace")) for c in snapshot)
    if not 0 < len(name) <= 200:
        raise RequestError(f"{snapshot[:40]!r} cannot name a snapshot: it must have 1 to about 200 characters")
    return name


def snapshot_name(folder: str) -> str:
    """The snapshot of a folder name."""
    return urllib.parse.unquote(folder)


def read_snapshot(folder: Path) -> Any:
    """The head of a snapshot, checked. Raises Damaged; FileNotFoundError when there is no such snapshot."""
    head = disk.read_json(folder / "snapshot.json")
    if not isinstance(head, dict) or head.get("format") != FORMAT:
        raise Damaged(f"{folder / 'snapshot.json'}: is not a snapshot this version reads (format {FORMAT})")
    return head


def open_snapshot(folder: Path, segments: Path, *, verify: bool = False) -> SegmentSearcher:
    """Open the snapshot in `folder`, whose segments lie in `segments`. Raises Damaged; FileNotFoundError."""
    head = read_snapshot(folder)
    disk.verify(folder / "visible.bits", head["visible_bits"])
    bits = np.frombuffer(disk.map_file(folder / "visible.bits", head["visible_bits"]), np.uint8)
    shelves, done = [], 0
    for entry in head["segments"]:
        segment = Segment(segments / entry["digest"], verify=verify)
        width = (len(segment) + 7) // 8
        shown = np.unpackbits(bits[done : done + width], count=len(segment), bitorder="little").astype(np.bool_)
        shelves.append((segment, shown))
        done += width
    searcher = SegmentSearcher(head["snapshot"], shelves)
    if len(searcher) != head["visible"]:
        raise Damaged(f"{folder}: shows {len(searcher)} passages, and {head['visible']} were written")
    return searcher


def open_exported(folder: Path) -> SegmentSearcher:
    """Open what `SegmentIndex.export` put under `folder`. Digests are for the caller to check; sizes are checked.

    Raises NotFound when there is no index; Damaged.
    """
    try:
        return open_snapshot(folder / EXPORTED, folder / EXPORTED / "segments")
    except FileNotFoundError as error:
        raise NotFound(f"{folder}: holds no exported index") from error
